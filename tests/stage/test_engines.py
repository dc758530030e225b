"""A live stack with one engine after the other.

With the native one, logins by VKE's add-on: what the add-on does in a cluster is not part of the
rehearsal; that it is asked for, and what is in the cluster beside it, is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from components.credential_addon import ADDON
from components.pull_credentials import SECRET
from components.types import Engine
from rehearsal.deploy.volcengine_applier import VolcengineApplier
from rehearsal.stage import Run, api_client
from tests.support.rehearsals import DOMAIN, GHCR_DOMAIN, asking, rehearsal

ENGINES = (
    Engine.MUTATING_POLICY,
    Engine.MUTATING_ADMISSION_POLICY,
    Engine.CLUSTER_POLICY,
)
"""In the order they are switched to, from the stack file's and back to it."""
WRITTEN = ("nginx", "quay.io/a/b:1", "bitnami/redis@sha256:" + "0" * 64)
_NATIVE = pytest.mark.parametrize("answers", [Engine.MUTATING_ADMISSION_POLICY], indirect=True)


@pytest.fixture(scope="module")
def asked(deployed: Run) -> Iterator[list[str | None]]:
    """What nginx is admitted as, all the time while engines are switched."""
    with asking(deployed, ["nginx"]) as admitted:
        yield admitted


@pytest.fixture(scope="module", params=ENGINES)
def answers(
    request: pytest.FixtureRequest, deployed: Run, asked: list[str | None]
) -> list[str | None]:
    """What WRITTEN is admitted as once `admit` has put an engine in force."""
    del asked
    lines = rehearsal(
        *("admit", "--policy-engine", request.param),
        folder=deployed.folder,
        stdin="\n".join(WRITTEN),
    )
    return [json.loads(line)["admitted"] for line in lines.splitlines()]


def test_admit_can_put_each_engine_in_force(answers: list[str | None]) -> None:
    assert answers == [f"{DOMAIN}/library/nginx", WRITTEN[1], f"{DOMAIN}/{WRITTEN[2]}"]


def test_switching_engines_leaves_no_moment_without_one_and_never_rewrites_twice(
    answers: list[str | None], asked: list[str | None]
) -> None:
    del answers
    assert len(asked) > 100
    assert set(asked) == {f"{DOMAIN}/library/nginx"}


@_NATIVE
@pytest.mark.usefixtures("answers")
def test_vke_is_asked_for_the_addon_with_the_stacks_own_registries(deployed: Run) -> None:
    applier = VolcengineApplier(deployed.environment())
    (addon,) = applier._call("vke", "ListAddons", Filter={})["Items"]
    assert (addon["Name"], addon["Status"]["Phase"]) == (ADDON, "Running")
    served = json.loads(addon["Config"])["CrConfigmapData"]["Registries"]
    assert served == [
        {"Instance": name, "Region": "cn-beijing", "Domains": [domain]}
        for name, domain in (("dockerhub-rehearsal", DOMAIN), ("ghcr-rehearsal", GHCR_DOMAIN))
    ]


@_NATIVE
@pytest.mark.usefixtures("answers")
def test_an_image_of_a_private_namespace_is_redirected_and_names_no_pull_secret(
    deployed: Run,
) -> None:
    pod: Any = {
        "metadata": {"generateName": "addon-"},
        "spec": {"containers": [{"name": "main", "image": "bitnami/redis:7.2"}]},
    }
    api = client.CoreV1Api(api_client(deployed))
    admitted: Any = api.create_namespaced_pod("default", pod, dry_run="All")
    assert admitted.spec.containers[0].image == f"{DOMAIN}/bitnami/redis:7.2"
    assert not admitted.spec.image_pull_secrets


@_NATIVE
@pytest.mark.usefixtures("answers")
def test_no_login_of_the_stack_and_no_kyverno_is_left_in_the_cluster(deployed: Run) -> None:
    api = client.CoreV1Api(api_client(deployed))
    namespaces: Any = api.list_namespace()
    secrets: Any = api.list_secret_for_all_namespaces()
    webhooks: Any = client.AdmissionregistrationV1Api(
        api_client(deployed)
    ).list_mutating_webhook_configuration()
    assert "kyverno" not in {each.metadata.name for each in namespaces.items}
    assert [each for each in webhooks.items if "kyverno" in each.metadata.name] == []
    assert SECRET not in {each.metadata.name for each in secrets.items}
