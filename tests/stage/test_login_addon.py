"""Private namespaces without Kyverno: VKE's add-on and the native engine, by a second deployment.

What the add-on does in a cluster is not part of the rehearsal; that it is asked for, and what is
in the cluster beside it, is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from components.credential_addon import ADDON
from components.pull_credentials import SECRET
from rehearsal.deploy.stack import PolicyEngine, Runner, deploy
from rehearsal.deploy.volcengine_applier import VolcengineApplier
from rehearsal.progress import Progress
from rehearsal.proof import in_force
from rehearsal.stage import Run, api_client
from tests.support.rehearsals import DOMAIN, GHCR_DOMAIN


@pytest.fixture(scope="module")
def native(deployed: Run) -> Iterator[Run]:
    """The stage with logins by the add-on and images redirected by Kubernetes."""
    config = PolicyEngine.MUTATING_ADMISSION_POLICY.config()
    deploy(deployed, Runner.EMBEDDED, Progress(), config)
    in_force(deployed, DOMAIN)
    yield deployed
    deploy(deployed, Runner.EMBEDDED, Progress())
    in_force(deployed, DOMAIN)


def test_vke_is_asked_for_the_addon_with_the_stacks_own_registries(native: Run) -> None:
    applier = VolcengineApplier(native.environment())
    (addon,) = applier._call("vke", "ListAddons", Filter={})["Items"]
    assert (addon["Name"], addon["Status"]["Phase"]) == (ADDON, "Running")
    served = json.loads(addon["Config"])["CrConfigmapData"]["Registries"]
    assert served == [
        {"Instance": name, "Region": "cn-beijing", "Domains": [domain]}
        for name, domain in (("dockerhub-rehearsal", DOMAIN), ("ghcr-rehearsal", GHCR_DOMAIN))
    ]


def test_an_image_of_a_private_namespace_is_redirected_and_names_no_pull_secret(
    native: Run,
) -> None:
    pod: Any = {
        "metadata": {"generateName": "addon-"},
        "spec": {"containers": [{"name": "main", "image": "bitnami/redis:7.2"}]},
    }
    api = client.CoreV1Api(api_client(native))
    admitted: Any = api.create_namespaced_pod("default", pod, dry_run="All")
    assert admitted.spec.containers[0].image == f"{DOMAIN}/bitnami/redis:7.2"
    assert not admitted.spec.image_pull_secrets


def test_no_login_of_the_stack_and_no_kyverno_is_left_in_the_cluster(native: Run) -> None:
    api = client.CoreV1Api(api_client(native))
    namespaces: Any = api.list_namespace()
    secrets: Any = api.list_secret_for_all_namespaces()
    assert "kyverno" not in {each.metadata.name for each in namespaces.items}
    assert SECRET not in {each.metadata.name for each in secrets.items}
