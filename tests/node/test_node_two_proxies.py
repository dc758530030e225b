"""Two registries, each through a proxy and with a login of its own, on real containerd."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cloud.registries.images import DOCKER_HUB
from rehearsal.cloud.registries.login import AuthMode
from tests.support.node_stage import HOSTS, IMAGE, NAMESPACES, Node, World, Worlds

pytest_plugins = ("tests.support.volcengine_fixtures", "tests.support.node_fixtures")

IMAGES = {DOCKER_HUB: IMAGE, "ghcr.io": "ghcr.io/stefanprodan/podinfo:6.9.0"}
"""An image of a private namespace of each."""


@pytest.fixture
def settings(node: Node, worlds: Worlds, tmp_path: Path) -> dict[str, str]:
    """The Pod's settings, with the proxy of ghcr.io beside that of Docker Hub."""
    ghcr = worlds["ghcr.io"]
    login = tmp_path / "login-ghcr"
    login.mkdir()
    (login / "username").write_text(ghcr.username)
    (login / "password").write_text(ghcr.passwords[-1])
    hub = node.pod_settings()["POD_PROXIES"]
    return {"POD_PROXIES": f"{hub}\nghcr.io {ghcr.domain} {login}"}


def pulled_through(node: Node, world: World) -> bool:
    """Pull the image of an upstream; whether its proxy served it, or else the upstream itself."""
    records, before = len(world.records()), world.asked_upstream()
    node.containerd.remove(IMAGES[world.host])
    node.containerd.pull(IMAGES[world.host])
    served = [each for each in world.records()[records:] if each.status == 200]
    assert bool(served) != (world.asked_upstream() > before)
    return bool(served)


def hosts_toml(node: Node, host: str) -> Path:
    return node.hosts.parent.parent / host / "hosts.toml"


def written(path: Path) -> tuple[int, int]:
    """Changes whenever a file is written or replaced."""
    found = path.stat()
    return found.st_ino, found.st_mtime_ns


def in_place(node: Node, settings: dict[str, str]) -> None:
    said = node.step(**settings)
    assert said.startswith("in-place: "), said


def test_each_registry_comes_through_its_own_proxy_with_its_own_login(
    node: Node, worlds: Worlds, settings: dict[str, str]
) -> None:
    in_place(node, settings)
    assert node.containerd.restarts == 1
    for host, world in worlds.items():
        assert pulled_through(node, world)
        login = base64.b64encode(f"{world.username}:{world.passwords[-1]}".encode()).decode()
        assert login in hosts_toml(node, host).read_text()
        others = [each for each in worlds.values() if each is not world]
        assert not any(each.domain in hosts_toml(node, host).read_text() for each in others)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": "refuse"}, id="down"),
        pytest.param({"kind": "black-hole"}, id="hangs"),
        pytest.param({"kind": "status", "status": 503}, id="503"),
    ],
)
@pytest.mark.parametrize("dead", NAMESPACES)
def test_only_the_mirror_of_a_dead_proxy_is_withdrawn_and_it_comes_back(
    node: Node, worlds: Worlds, settings: dict[str, str], dead: str, fault: dict[str, Any]
) -> None:
    in_place(node, settings)
    (alive,) = worlds.keys() - {dead}
    before = written(hosts_toml(node, alive))
    worlds[dead].fault(**fault)
    assert node.step(**settings).startswith(f"failing: {worlds[dead].domain} ")
    assert node.step(**settings).startswith(f"withdrawn: {worlds[dead].domain} ")
    assert not hosts_toml(node, dead).exists()
    assert pulled_through(node, worlds[alive])
    assert not pulled_through(node, worlds[dead])
    worlds[dead].fault(None)
    assert "answers again, 1 of 2" in node.step(**settings)
    in_place(node, settings)
    assert pulled_through(node, worlds[dead])
    assert written(hosts_toml(node, alive)) == before
    assert node.containerd.restarts == 1


@pytest.mark.parametrize("dead", NAMESPACES)
def test_a_proxy_that_is_dead_from_the_beginning_keeps_no_other_one_from_its_node(
    node: Node, worlds: Worlds, settings: dict[str, str], dead: str
) -> None:
    (alive,) = worlds.keys() - {dead}
    worlds[dead].fault("refuse")
    for _ in range(2):
        node.step(**settings)
    assert pulled_through(node, worlds[alive])
    assert not hosts_toml(node, dead).exists()


@pytest.mark.parametrize("dead", NAMESPACES)
def test_a_node_without_the_pod_gets_the_mirror_of_the_proxy_that_answers(
    node: Node, worlds: Worlds, dead: str
) -> None:
    """As a node pool's script does it, once."""
    (alive,) = worlds.keys() - {dead}
    worlds[dead].fault("status", status=503)
    ghcr = worlds["ghcr.io"]
    login = base64.b64encode(f"{ghcr.username}:{ghcr.passwords[-1]}".encode()).decode()
    done = node.apply(f"{node.mirrors()}ghcr.io {ghcr.domain} {login}")
    assert done.stdout == f"waiting: {worlds[dead].domain} answers 503\n"
    assert pulled_through(node, worlds[alive])
    assert not hosts_toml(node, dead).exists()


def test_a_registry_more_or_less_changes_nothing_of_the_other(
    node: Node, worlds: Worlds, settings: dict[str, str]
) -> None:
    in_place(node, {})
    placed = [hosts_toml(node, host) for host in HOSTS]
    before = [written(each) for each in (node.config, *placed)]
    in_place(node, settings)
    assert pulled_through(node, worlds["ghcr.io"])
    in_place(node, {})
    assert not hosts_toml(node, "ghcr.io").exists()
    assert not pulled_through(node, worlds["ghcr.io"])
    assert pulled_through(node, worlds[DOCKER_HUB])
    assert [written(each) for each in (node.config, *placed)] == before
    assert node.containerd.restarts == 1


def test_proxies_for_tokens_alone_are_each_asked_with_their_own_login(
    node: Node,
    worlds_that_take: Callable[[AuthMode, Sequence[str]], Worlds],
    settings: dict[str, str],
) -> None:
    bearer = worlds_that_take(AuthMode.BEARER, list(NAMESPACES))
    for folder, world in zip(
        (node.login, node.login.parent / "login-ghcr"), bearer.values(), strict=True
    ):
        (folder / "username").write_text(world.username)
        (folder / "password").write_text(world.passwords[-1])
    in_place(node, settings)
    assert node.containerd.restarts == 1
    for world in bearer.values():
        records = len(world.records())
        node.containerd.remove(IMAGES[world.host])
        node.containerd.pull(IMAGES[world.host])
        assert 200 in [each.status for each in world.records()[records:]]
