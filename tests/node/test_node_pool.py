"""The node pool's script on real containerd: what a new node runs before its first pull."""

from __future__ import annotations

from pathlib import Path

from components.node_mirror import packed
from tests.support.node_stage import SCRIPT, Node

pytest_plugins = ("tests.support.volcengine_fixtures", "tests.support.node_fixtures")


def test_the_packed_script_brings_a_node_into_place_and_keeps_the_login_to_itself(
    node: Node, tmp_path: Path
) -> None:
    found = node.tree()
    script = tmp_path / "initialize"
    login = {name: (node.login / name).read_text() for name in ("username", "password")}
    authority = {"ca.crt": node.world.ca_certificate.read_text()}
    settings = {"MIRROR_DOMAIN": node.world.domain, "MIRROR_PROBE_SECONDS": "2"}
    script.write_text(packed(SCRIPT.read_text(), settings, {**login, **authority}))
    words = tmp_path / "words"
    traced = node.traced(tmp_path / "traced", words)
    done = node.containerd.run(["sh", script], environment=traced)
    assert done.returncode == 0
    assert done.stdout.startswith("in-place: "), done.stdout + done.stderr
    assert node.pulled_through_the_proxy()
    assert node.hosts.stat().st_mode & 0o777 == 0o600
    assert not (node.containerd.root / "run/node-mirror.given").exists()
    shown = words.read_text() + done.stdout + done.stderr
    assert "curl" in shown
    assert login["password"] not in shown
    assert node.encoded_login() not in shown
    assert node.script("remove").returncode == 0
    assert node.tree() == found
