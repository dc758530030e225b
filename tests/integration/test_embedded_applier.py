"""A second deployment by the embedded applier: what is there stays, what is undeclared goes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cloud.api.config import Cluster
from rehearsal.deploy import embedded
from rehearsal.deploy.stack_file import changed, read
from tests.support import programs
from tests.support.volcengine_stage import RunningEmulator

pytest_plugins = ("tests.support.volcengine_fixtures",)

PROGRAM = """
import json, pulumi, pulumi_volcengine as volcengine
registry = volcengine.cr.Registry(
    "hub", name="hub", type="Enterprise", project="default", proxy_cache_enabled=True,
    proxy_cache={"type": "DockerHub", "username": "someone", "password": "hub-secret"},
    opts=pulumi.ResourceOptions(ignore_changes=["proxyCache.password"]),
)
for name, access in pulumi.Config("test").require_object("namespaces").items():
    volcengine.cr.Namespace(
        f"hub-{name}", registry=registry.name, name=name, project="default",
        repository_default_access_level=access,
    )
if pulumi.Config("test").get_bool("vpc"):
    volcengine.cr.VpcEndpoint(
        "hub", registry=registry.name, vpcs=[{"vpcId": "vpc-1", "subnetId": "subnet-1"}]
    )
"""
BOTH = {"library": "Public", "bitnami": "Private"}

Deploy = Callable[..., None]


@pytest.fixture
def deploy(
    start_emulator: Callable[..., RunningEmulator], clusters: list[Cluster], tmp_path: Path
) -> tuple[RunningEmulator, Deploy]:
    """An emulator, and what deploys the program on it with these namespaces."""
    api = start_emulator(clusters=clusters)

    def run(namespaces: dict[str, str], *, vpc: bool = True) -> None:
        config = {"test:namespaces": json.dumps(namespaces), "test:vpc": json.dumps(vpc)}
        programs.deploy(PROGRAM, tmp_path, config=config, environment=api.environment)

    return api, run


def changes(api: RunningEmulator) -> list[tuple[str, str]]:
    """The calls so far that change something, with what they are about."""
    verbs = ("Create", "Update", "Delete")
    calls = api.administer("GET", "calls")
    return [(each["Action"], each["Subject"]) for each in calls if each["Action"].startswith(verbs)]


def test_what_is_there_already_is_left(deploy: tuple[RunningEmulator, Deploy]) -> None:
    api, run = deploy
    run(BOTH, vpc=False)
    before = changes(api)
    run(BOTH, vpc=False)
    assert changes(api) == before


def test_what_is_not_declared_any_more_is_deleted_last_first(
    deploy: tuple[RunningEmulator, Deploy],
) -> None:
    api, run = deploy
    run(BOTH)
    before = len(changes(api))
    run({}, vpc=False)
    deleted = changes(api)[before:]
    assert {action for action, _ in deleted} == {"UpdateVpcEndpoint", "DeleteNamespace"}
    assert api.call("ListNamespaces", Registry="hub")["Items"] == []
    assert api.vpcs("hub") == {}
    assert api.phase("hub") == "Running"


def test_what_failed_to_be_deleted_is_deleted_by_the_next_deployment(
    deploy: tuple[RunningEmulator, Deploy],
) -> None:
    api, run = deploy
    run(BOTH)
    fault = {"action": "DeleteNamespace", "code": "OperationDenied", "status": 400, "times": 1}
    api.administer("POST", "faults", fault)
    with pytest.raises(embedded.ApplyError, match=r"hub:bitnami.*cannot be deleted"):
        run({"library": "Public"})
    run({"library": "Public"})
    names = [each["Name"] for each in api.call("ListNamespaces", Registry="hub")["Items"]]
    assert names == ["library"]


def test_a_namespace_with_another_access_level_is_replaced(
    deploy: tuple[RunningEmulator, Deploy],
) -> None:
    api, run = deploy
    run(BOTH)
    run({**BOTH, "bitnami": "Public"})
    (found,) = api.call("ListNamespaces", Registry="hub", Filter={"Names": ["bitnami"]})["Items"]
    assert found["RepositoryDefaultAccessLevel"] == "Public"


@pytest.mark.parametrize(
    ("path", "value", "key", "expected"),
    [
        pytest.param("redirect.engine", "X", "app:redirect", {"engine": "X"}, id="new section"),
        pytest.param("list[1].ways", "[a, b]", "app:list", [{}, {"ways": ["a", "b"]}], id="list"),
        pytest.param("other:region", "x", "other:region", "x", id="another name space"),
        pytest.param("text", "'1.37'", "app:text", "1.37", id="text that looks like a number"),
    ],
)
def test_values_are_set_by_their_path(
    tmp_path: Path, path: str, value: str, key: str, expected: Any
) -> None:
    file = tmp_path / "Pulumi.test.yaml"
    file.write_text(changed("config: {'app:list': [{}, {}]}", "app", {path: value}))
    found = read(file, "").values[key]
    assert (found if isinstance(expected, str) else json.loads(found)) == expected
