"""The pull check and a new policy, looked at on a real API server as an update does."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pulumi
import pytest
import yaml
from kubernetes import client

from components.api_server import ApiServer, ApiServerError
from components.in_force import LEAST_SECONDS, Expected, NotInForceError, await_redirect
from components.labels import LABELS
from components.pull_check import JOB, await_job, pod_spec
from components.types import DOCKER_HUB, Engine, name_for
from rehearsal import wait
from rehearsal.locations import CHECKOUT
from rehearsal.parts.build import obtain
from rehearsal.progress import Progress
from tests.support.harness import DOMAIN, Cluster

IMAGE = f"{DOMAIN}/library/busybox:latest"
LONG_HOST = f"{'a' * 47}.io"
"""As long as the settings let a host be: its Job's name becomes the value of a label."""
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of its own, at Pod Security's level `restricted`."""
    name = f"check-{time.monotonic_ns()}"
    metadata = {"name": name, "labels": RESTRICTED}
    cluster.kubectl(
        "apply", "-f", "-", document={"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}
    )
    cluster.await_service_account(name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def job(cluster: Cluster, namespace: str, spec: Any, host: str = DOCKER_HUB) -> None:
    template = {"metadata": {"labels": LABELS}, "spec": spec}
    cluster.kubectl(
        *("apply", "-n", namespace, "-f", "-"),
        document={
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name_for(JOB, host)},
            "spec": {"backoffLimit": 0, "template": template},
        },
    )


def test_the_checks_pod_is_admitted_at_the_level_restricted(
    api_server: ApiServer, namespace: str
) -> None:
    manifest: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "t"},
        "spec": pod_spec(IMAGE),
    }
    path = f"/api/v1/namespaces/{namespace}/pods"
    assert (
        api_server.create(path, manifest, dry_run=True)["spec"]["containers"][0]["image"] == IMAGE
    )
    del manifest["spec"]["securityContext"]
    with pytest.raises(ApiServerError, match="violates PodSecurity") as refused:
        api_server.create(path, manifest, dry_run=True)
    assert refused.value.status == 403


def test_each_proxys_check_that_runs_ends_the_wait_for_it(
    cluster: Cluster, api_server: ApiServer, namespace: str
) -> None:
    job(cluster, namespace, pod_spec(IMAGE))
    job(cluster, namespace, pod_spec(IMAGE, (), ["version"]), LONG_HOST)
    for host in (DOCKER_HUB, LONG_HOST):
        await_job(api_server, namespace, host, seconds=60)
    with pytest.raises(pulumi.RunError, match=r"the pull check of ghcr\.io's proxy failed"):
        await_job(api_server, namespace, "ghcr.io", seconds=1)


def test_a_pod_the_cluster_refuses_is_named(
    cluster: Cluster, api_server: ApiServer, namespace: str
) -> None:
    spec = pod_spec(IMAGE)
    del spec["securityContext"]
    job(cluster, namespace, spec)
    with pytest.raises(
        pulumi.RunError, match=r"lets no Pod of the check be created: .*PodSecurity"
    ):
        await_job(api_server, namespace, seconds=10)


@pytest.mark.parametrize(
    ("effect", "runs"),
    [
        pytest.param("NoSchedule", True, id="a pool for GPUs"),
        pytest.param("NoExecute", False, id="a node that sends Pods away"),
    ],
)
def test_a_tainted_node_is_used_or_named(
    cluster: Cluster, api_server: ApiServer, namespace: str, effect: str, runs: bool
) -> None:
    cluster.kubectl("taint", "node", "node-a", f"gpu=only:{effect}")
    try:
        job(cluster, namespace, pod_spec(IMAGE))
        if runs:
            await_job(api_server, namespace, seconds=60)
        else:
            with pytest.raises(pulumi.RunError, match=r"no node .* untolerated taint"):
                await_job(api_server, namespace, seconds=10)
    finally:
        cluster.kubectl("taint", "node", "node-a", "gpu-")


def test_a_pull_that_fails_is_said_in_the_kubelets_words(
    cluster: Cluster, api_server: ApiServer, namespace: str
) -> None:
    job(cluster, namespace, {**pod_spec(IMAGE), "nodeName": "a-node-nobody-plays"})
    core = client.CoreV1Api(cluster.api)

    def pull_failed() -> None:
        with suppress(wait.NotInTimeError):
            (pod,) = wait.until(
                lambda: cluster.pods(f"job-name={JOB}", namespace), "the check has a Pod"
            )
            waiting = {
                "reason": "ErrImagePull",
                "message": f"dial tcp: lookup {DOMAIN} on 10.0.0.2:53: no such host",
            }
            container = {
                "name": "pull",
                "image": IMAGE,
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": {"waiting": waiting},
            }
            core.patch_namespaced_pod_status(
                pod["metadata"]["name"],
                namespace,
                {"status": {"phase": "Pending", "containerStatuses": [container]}},
            )

    kubelet = threading.Thread(target=pull_failed)
    kubelet.start()
    with pytest.raises(pulumi.RunError, match=f"nodes find no address of {DOMAIN}") as failed:
        await_job(api_server, namespace, seconds=10)
    kubelet.join()
    assert "no such host" in str(failed.value)
    assert "`pulumi up` runs the check again" in str(failed.value)


EXPECTED = Expected(written="docker.io/library/dry-run:1", admitted=f"{DOMAIN}/library/dry-run:1")


def test_a_policy_that_is_not_in_force_stops_the_update(api_server: ApiServer) -> None:
    with pytest.raises(NotInForceError, match=r"docker\.io/library/dry-run:1 is admitted as"):
        await_redirect(api_server, EXPECTED, seconds=4)


def test_a_policy_in_force_ends_the_wait(cluster: Cluster, api_server: ApiServer) -> None:
    with cluster.policy(Engine.MUTATING_ADMISSION_POLICY):
        began = time.monotonic()
        await_redirect(api_server, EXPECTED)
        assert LEAST_SECONDS <= time.monotonic() - began < 20


def test_where_nothing_can_be_seen_the_update_is_held_a_moment(cluster: Cluster) -> None:
    kubeconfig = yaml.safe_load(cluster.plane.kubeconfig.read_text())
    kubeconfig["users"][0]["user"]["token"] = "nobody"
    began = time.monotonic()
    await_redirect(ApiServer(yaml.safe_dump(kubeconfig)), EXPECTED)
    assert LEAST_SECONDS <= time.monotonic() - began < 10


def test_the_command_in_operations_lists_all_that_carries_the_labels(
    cluster: Cluster, namespace: str
) -> None:
    text = (CHECKOUT / "docs" / "operations.md").read_text(encoding="utf-8")
    command = text.partition("One sentence lists it all:\n\n```console\n")[2].partition("```")[0]
    labelled = {"metadata": {"name": namespace, "labels": LABELS}}
    documents: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Secret"},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": []},
    ]
    for each in documents:
        cluster.kubectl("apply", "-n", namespace, "-f", "-", document={**each, **labelled})
    kubectl = obtain(("kubernetes",), Progress())["kubectl"]
    done = subprocess.run(
        ["sh", "-c", command],
        env={
            "PATH": f"{kubectl.parent}:{os.environ['PATH']}",
            "KUBECONFIG": str(cluster.plane.kubeconfig),
            "HOME": str(cluster.plane.kubeconfig.parent),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    found = [tuple(line.split()) for line in done.stdout.splitlines()]
    assert ("Secret", namespace, namespace) in found, done.stderr
    assert ("ClusterRole", "<none>", namespace) in found
    cluster.kubectl("delete", "clusterrole", namespace)
