"""Private namespaces without Kyverno: VKE's add-on and the native engine, deployed on real parts.

What the add-on does in a cluster is not part of the rehearsal; that it is asked for, and what
stands in the cluster beside it, is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from kubernetes import client

from components.credential_addon import ADDON
from components.pull_credentials import SECRET
from rehearsal import wait
from rehearsal.deploy import embedded
from rehearsal.deploy.kubernetes_applier import KubernetesApplier
from rehearsal.deploy.stack import STACK, stack_config
from rehearsal.deploy.stack_file import StackConfig
from rehearsal.deploy.volcengine_applier import VolcengineApplier
from rehearsal.locations import CHECKOUT
from rehearsal.parts.build import obtain
from rehearsal.progress import Progress
from rehearsal.stage import Run, api_client
from settings.errors import PROJECT
from tests.support.rehearsals import rehearsal, run_of


def with_addon(config: StackConfig) -> StackConfig:
    """The rehearsal's stack with logins by the add-on and images redirected by Kubernetes."""
    login = json.loads(config.values[f"{PROJECT}:login"])
    (cluster,) = json.loads(config.values[f"{PROJECT}:clusters"])
    sections = {
        "login": {**login, "pods": "addon"},
        "clusters": [{**cluster, "ways": ["admission"], "kubernetesVersion": "1.37"}],
        "redirect": {"engine": "MutatingAdmissionPolicy"},
    }
    changed = {f"{PROJECT}:{name}": json.dumps(each) for name, each in sections.items()}
    return replace(config, values={**config.values, **changed})


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """A stage of its own: the other tests' stack stands on the shared one."""
    started = run_of(rehearsal("up", "--no-node"))
    yield started
    rehearsal("down", folder=started.folder)


@pytest.fixture(scope="module")
def stack(run: Run) -> Run:
    """The stage with the changed stack on it."""
    parts = obtain(("kubernetes", "helm"), Progress())
    applier = embedded.Applier(
        KubernetesApplier(parts, run.folder / "engine"),
        VolcengineApplier(run.environment()),
        Progress(),
    )
    domain = embedded.run(CHECKOUT, STACK, with_addon(stack_config(run)), applier)["domain"]
    # The API server learns of a native policy up to two seconds after it is made.
    wait.until(
        lambda: image_of(admitted(run, "nginx")) == f"{domain}/library/nginx",
        "nginx is redirected",
        timeout=30,
    )
    return run


def admitted(run: Run, image: str) -> Any:
    pod: Any = {
        "metadata": {"generateName": "addon-"},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }
    api = client.CoreV1Api(api_client(run))
    return api.create_namespaced_pod("default", pod, dry_run="All")


def image_of(pod: Any) -> str:
    (container,) = pod.spec.containers
    return str(container.image)


def test_vke_is_asked_for_the_addon_with_the_stacks_own_registry(stack: Run) -> None:
    applier = VolcengineApplier(stack.environment())
    (addon,) = applier._call("vke", "ListAddons", {"Filter": {}})["Items"]
    assert (addon["Name"], addon["Status"]["Phase"]) == (ADDON, "Running")
    (served,) = json.loads(addon["Config"])["CrConfigmapData"]["Registries"]
    assert served == {
        "Instance": "dockerhub-rehearsal",
        "Region": "cn-beijing",
        "Domains": ["dockerhub-rehearsal-cn-beijing.cr.volces.com"],
    }


def test_an_image_of_a_private_namespace_is_redirected_and_names_no_pull_secret(
    stack: Run,
) -> None:
    pod = admitted(stack, "bitnami/redis:7.2")
    domain = "dockerhub-rehearsal-cn-beijing.cr.volces.com"
    assert image_of(pod) == f"{domain}/bitnami/redis:7.2"
    assert not pod.spec.image_pull_secrets


def test_no_login_of_the_stack_and_no_kyverno_stands_in_the_cluster(stack: Run) -> None:
    api = client.CoreV1Api(api_client(stack))
    namespaces: Any = api.list_namespace()
    secrets: Any = api.list_secret_for_all_namespaces()
    assert "kyverno" not in {each.metadata.name for each in namespaces.items}
    assert SECRET not in {each.metadata.name for each in secrets.items}
