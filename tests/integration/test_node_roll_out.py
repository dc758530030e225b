"""The node mirror on a real API server: which nodes have a Pod, and which are waited for."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest
from kubernetes import client

from components.api_server import ApiServer
from components.labels import NODES_NAMESPACE
from components.node_mirror import DAEMON_SET, EXCLUDE_LABEL
from components.node_roll_out import await_nodes
from rehearsal import wait
from rehearsal.cloud.registries.client import RegistryLogin
from tests.support.harness import Cluster
from tests.support.programs import roll_out_node_mirror

LEFT_OUT = f"{EXCLUDE_LABEL}=disabled"
OTHERS: dict[str, dict[str, str]] = {
    "vci-cn-beijing-a": {
        "type": "virtual-kubelet",
        "vci.vke.volcengine.com/node-type": "vci",
        "node.kubernetes.io/instance-type": "virtual-node",
    },
    "left-out": {EXCLUDE_LABEL: "disabled"},
}
"""Nodes with a Pod on which it would never be ready: nothing runs there."""
SIZE = {"cpu": "4", "memory": "8Gi", "pods": "100"}


@pytest.fixture(scope="module")
def cluster(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """One with nodes beside on which nothing runs, and a NodeMirror rolled out to it."""
    for name, labels in OTHERS.items():
        make_node(cluster, name, labels)
    login = RegistryLogin(domain="hub.example", username="", password="")
    roll_out_node_mirror(tmp_path_factory.mktemp("program"), cluster.plane.kubeconfig, login)
    return cluster


def make_node(cluster: Cluster, name: str, labels: dict[str, str]) -> None:
    """A node that nothing keeps up, so that it is never Ready."""
    document: Any = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/os": "linux", **labels}},
        "status": {"capacity": SIZE, "allocatable": SIZE},
    }
    cluster.kubectl("apply", "-f", "-", document=document)


def wait_for_nodes(api_server: ApiServer, seconds: float = 90) -> None:
    await_nodes(api_server, NODES_NAMESPACE, DAEMON_SET, LEFT_OUT, seconds=seconds)


def test_virtual_nodes_and_those_left_out_have_no_pod_and_are_not_waited_for(
    cluster: Cluster, api_server: ApiServer
) -> None:
    wait_for_nodes(api_server)
    pods: Any = client.CoreV1Api(cluster.api).list_namespaced_pod(NODES_NAMESPACE)
    assert [each.spec.node_name for each in pods.items] == ["node-a"]


def test_a_node_that_is_not_ready_is_named_in_time_until_it_is_left_out(
    cluster: Cluster, api_server: ApiServer
) -> None:
    make_node(cluster, "dead-1", {})
    with pytest.raises(pulumi.RunError, match="dead-1: its Pod does not run") as failed:
        wait_for_nodes(api_server, seconds=5)
    assert "node-a" not in str(failed.value)
    assert f"kubectl label node <name> {LEFT_OUT}" in str(failed.value)
    cluster.kubectl("label", "node", "dead-1", LEFT_OUT)
    wait_for_nodes(api_server)


def test_a_node_that_is_refused_is_named_with_its_reason_and_not_waited_for(
    cluster: Cluster, api_server: ApiServer
) -> None:
    core = client.CoreV1Api(cluster.api)
    pods: Any = core.list_namespaced_pod(NODES_NAMESPACE)
    (pod,) = [each for each in pods.items if each.spec.node_name == "node-a"]
    waiting = {"name": "node-mirror", "ready": False, "state": {"running": {}}}
    status: Any = {
        "status": {
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{**waiting, "image": "i", "imageID": "", "restartCount": 0}],
        }
    }
    core.patch_namespaced_pod_status(pod.metadata.name, NODES_NAMESPACE, status)
    reason = "refused: containerd's config has registry.mirrors.docker.io"
    event: Any = {
        "metadata": {"generateName": "node-mirror-"},
        "involvedObject": {
            "kind": "Pod",
            "name": pod.metadata.name,
            "namespace": NODES_NAMESPACE,
            "uid": pod.metadata.uid,
        },
        "reason": "Unhealthy",
        "message": f"Readiness probe failed: {reason}\n",
        "type": "Warning",
        "lastTimestamp": "2026-11-27T08:00:00Z",
    }
    core.create_namespaced_event(NODES_NAMESPACE, event)
    with pytest.raises(pulumi.RunError, match=f"node-a: {reason}"):
        wait_for_nodes(api_server, seconds=60)
    core.delete_namespaced_pod(pod.metadata.name, NODES_NAMESPACE, grace_period_seconds=0)
    wait_for_nodes(api_server)


def test_an_update_names_the_node_that_holds_it_and_how_far_it_came(
    cluster: Cluster, api_server: ApiServer
) -> None:
    make_node(cluster, "dead-2", {})
    with pytest.raises(pulumi.RunError, match="dead-2: its Pod does not run"):
        wait_for_nodes(api_server, seconds=5)
    update: Any = {"spec": {"template": {"metadata": {"annotations": {"changed": "once"}}}}}
    apps: Any = client.AppsV1Api(cluster.api)
    at = (DAEMON_SET, NODES_NAMESPACE)
    generation = apps.patch_namespaced_daemon_set(*at, update).metadata.generation

    wait.until(
        lambda: apps.read_namespaced_daemon_set(*at).status.observed_generation == generation,
        "Kubernetes has looked at the update",
    )
    with pytest.raises(pulumi.RunError, match="dead-2: its Pod") as failed:
        wait_for_nodes(api_server, seconds=2)
    assert "node-a" not in str(failed.value)
    assert "the update has reached 0 of 2 nodes" in str(failed.value)
    assert "nodeMirror.maxUnavailable" in str(failed.value)
    cluster.kubectl("delete", "node", "dead-2")
    wait_for_nodes(api_server)


def test_an_api_server_that_does_not_answer_is_said(cluster: Cluster) -> None:
    kubeconfig = cluster.plane.kubeconfig.read_text().replace(
        cluster.plane.url, "https://127.0.0.1:9"
    )
    with pytest.raises(pulumi.RunError, match="they could not be looked at"):
        wait_for_nodes(ApiServer(kubeconfig), seconds=1)
