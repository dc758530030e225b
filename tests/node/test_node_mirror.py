"""What node-mirror.sh does to real containerd, proven by the proxy's access log."""

from __future__ import annotations

import pytest

from rehearsal.containerd import NodeError
from tests.node.node_stage import IMAGE, Node

pytest_plugins = ("tests.integration.volcengine_fixtures", "tests.node.node_fixtures")


def test_a_fresh_node_pulls_through_the_proxy(node: Node) -> None:
    assert not node.pulled_through_the_proxy()
    done = node.script("once")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("in-place: ")
    before = node.world.hub.connections
    assert node.pulled_through_the_proxy()
    assert node.world.hub.connections == before
    assert node.containerd.restarts == 1
