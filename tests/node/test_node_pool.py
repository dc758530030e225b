"""The node pool's script on real containerd: what a new node runs before its first pull."""

from __future__ import annotations

from pathlib import Path

from components.node_mirror import packed
from tests.support.node_stage import HOSTS, NODE_SCRIPT, Node

pytest_plugins = ("tests.support.volcengine_fixtures", "tests.support.node_fixtures")


def test_the_node_pool_script_brings_a_node_into_place_and_keeps_the_login_to_itself(
    node: Node, tmp_path: Path
) -> None:
    found = node.tree()
    script = tmp_path / "initialize"
    authority = node.world.ca_certificate.read_text()
    script.write_text(packed(NODE_SCRIPT.read_text(), {}, node.mirrors(ca=authority)))
    words = tmp_path / "words"
    done = node.containerd.run(["sh", script], environment=node.traced(tmp_path / "traced", words))
    assert done.returncode == 0
    assert done.stdout.startswith("in-place: "), done.stdout + done.stderr
    assert node.pulled_through_the_proxy()
    for host in HOSTS:
        hosts = node.hosts.parent.parent / host / "hosts.toml"
        assert hosts.stat().st_mode & 0o777 == 0o600
        assert 'ca = "/etc/containerd/dockerhub-mirror/ca.crt"' in hosts.read_text()
    shown = words.read_text() + done.stdout + done.stderr
    assert "curl" in shown
    assert node.world.passwords[-1] not in shown
    assert node.encoded_login() not in shown
    assert node.remove().returncode == 0
    assert node.tree() == found
