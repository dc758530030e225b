"""A small cluster for each module that asks for one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from components.api_server import ApiServer
from tests.support.harness import Cluster, small_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane with a node of kwok's."""
    folder = tmp_path_factory.mktemp("cluster")
    with small_cluster(folder, node_selector="type=kwok") as running:
        yield running


@pytest.fixture(scope="module")
def api_server(cluster: Cluster) -> ApiServer:
    """Its API server, as the components reach it."""
    return ApiServer(cluster.plane.kubeconfig.read_text())
