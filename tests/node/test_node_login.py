"""The login of a proxy that takes it for Bearer tokens alone, on real containerd."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rehearsal.cloud.registries.login import AuthMode
from tests.support.node_stage import FRESH, HOSTS, IMAGE, STATE, Node, World

pytest_plugins = ("tests.support.volcengine_fixtures", "tests.support.node_fixtures")

OTHER_LOGIN = """
[plugins."io.containerd.grpc.v1.cri".registry.configs."other.example".auth]
  username = "me" # by hand
  password = "mine"
"""
MARKS = r"Pw1\n#=[x]:\t|~"
PUBLIC = "docker.io/bitnami/redis:7.2"


def in_place(node: Node, mirrors: str | None = None, **more: str) -> None:
    done = node.apply(mirrors, **more)
    assert done.stdout.startswith("in-place: "), done.stdout + done.stderr


def pulled(node: Node, proxy: World, image: str = IMAGE) -> bool:
    before = len(proxy.records())
    node.containerd.remove(image)
    node.containerd.pull(image)
    return 200 in [each.status for each in proxy.records()[before:]]


def new_password(node: Node, proxy: World, password: str) -> None:
    proxy.set_password(password)
    (node.login / "password").write_text(password)


def test_a_proxy_for_tokens_alone_is_used(node: Node, bearer_only: World) -> None:
    in_place(node)
    assert pulled(node, bearer_only)
    before = node.tree()
    in_place(node)
    assert node.tree() == before
    assert node.containerd.restarts == 1


def test_the_login_is_where_this_containerd_takes_it_from_and_private(
    node: Node, bearer_only: World, tmp_path: Path
) -> None:
    words = tmp_path / "words"
    also = ("awk", "sed", "base64", "find", "cksum", "cmp", "ctr", "containerd")
    done = node.apply(**node.traced(tmp_path / "traced", words, also=also))
    assert done.returncode == 0, done.stdout + done.stderr
    shown = words.read_text() + done.stdout + done.stderr
    assert "containerd -c" in shown
    password, encoded = bearer_only.passwords[-1], node.encoded_login()
    assert password not in shown
    assert encoded not in shown
    holding = {
        each
        for each in node.config.parent.rglob("*")
        if each.is_file() and (password in each.read_text() or encoded in each.read_text())
    }
    state = node.containerd.root / STATE
    if node.asks_for_tokens_with_the_header:
        assert {each.parent.name for each in holding} == set(HOSTS)
    else:
        assert holding == {node.config}
    assert {each.stat().st_mode & 0o777 for each in holding} == {0o600}
    assert state.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("password", ["Passw0rd-2", MARKS], ids=["letters", "marks"])
def test_a_new_password_takes_one_restart_where_it_is_in_config_toml(
    node: Node, bearer_only: World, password: str
) -> None:
    in_place(node)
    bearer_only.set_password(password)
    (node.login / "password").write_text(password)
    for _ in range(2):
        in_place(node)
    assert pulled(node, bearer_only)
    assert node.containerd.restarts == (1 if node.asks_for_tokens_with_the_header else 2)


@pytest.mark.parametrize("before", ["fresh", "another login", None])
def test_removal_takes_the_login_away_and_leaves_every_byte_as_it_was(
    node: Node, bearer_only: World, before: str | None
) -> None:
    config = "version = 2\n" + OTHER_LOGIN if before == "another login" else FRESH[node.version]
    node.containerd.reset(config if before else None)
    if before:
        node.config.chmod(0o644)
    found = node.tree()
    in_place(node)
    new_password(node, bearer_only, "Passw0rd-2")
    in_place(node)
    assert pulled(node, bearer_only)
    assert node.remove().returncode == 0
    assert node.tree() == found
    assert not pulled(node, bearer_only)


def test_a_login_that_the_node_has_already_takes_no_restart(node: Node, bearer_only: World) -> None:
    if node.asks_for_tokens_with_the_header:
        in_place(node)
        return
    in_place(node)
    config = node.config.read_text()
    node.remove()
    node.containerd.reset(config)
    in_place(node)
    assert node.containerd.restarts == 0
    assert node.config.read_text() == config
    assert pulled(node, bearer_only)


def test_a_proxy_that_takes_the_login_itself_again_makes_no_restart(
    node: Node, proxy_that_takes: Callable[[AuthMode], World]
) -> None:
    proxy_that_takes(AuthMode.BEARER)
    in_place(node)
    both = proxy_that_takes(AuthMode.BOTH)
    in_place(node)
    assert pulled(node, both)
    assert node.containerd.restarts == 1


def test_the_login_leaves_config_toml_when_there_is_none_any_more(
    node: Node, bearer_only: World
) -> None:
    in_place(node)
    for _ in range(2):
        in_place(node, node.mirrors(login="-"))
    texts = [each.read_text() for each in node.config.parent.rglob("*") if each.is_file()]
    assert not [each for each in texts if bearer_only.passwords[-1] in each]
    assert pulled(node, bearer_only, PUBLIC)
    assert node.containerd.restarts == (1 if node.asks_for_tokens_with_the_header else 2)


def test_a_containerd_that_does_not_come_back_with_the_login_gets_its_config_back(
    node: Node, bearer_only: World
) -> None:
    found = node.config.read_bytes()
    variables = {"MIRROR_RESTART": "systemctl stop containerd", "MIRROR_RESTART_SECONDS": "1"}
    assert node.apply(**variables).stdout.startswith("refused: containerd did not come up")
    assert node.config.read_bytes() == found
    node.remove()
    texts = [each.read_text() for each in node.config.parent.rglob("*") if each.is_file()]
    assert not [each for each in texts if bearer_only.passwords[-1] in each]


def test_a_run_killed_while_the_password_changes_loses_nothing(
    node: Node, bearer_only: World, tmp_path: Path
) -> None:
    variables = {"MIRROR_RESTART": "true"}
    found = node.tree()
    in_place(node, **variables)
    new_password(node, bearer_only, "Passw0rd-2")
    traced = node.traced(tmp_path / "counted", tmp_path / "words")
    in_place(node, **variables, **traced)
    steps = int((tmp_path / "counted" / "count").read_text())
    for at in range(1, steps + 1):
        new_password(node, bearer_only, f"Passw0rd-{at + 2}")
        node.killed_at(tmp_path / str(at), at, "apply", **variables)
        in_place(node, **variables)
        texts = node.config.read_text() + node.hosts.read_text()
        expected = (
            node.encoded_login()
            if node.asks_for_tokens_with_the_header
            else bearer_only.passwords[-1]
        )
        assert expected in texts, f"killed at step {at} of {steps}"
    assert steps > 3
    assert node.remove(**variables).returncode == 0
    assert node.tree() == found
