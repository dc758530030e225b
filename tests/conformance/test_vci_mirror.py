"""Which Pods get the annotation of VCI's mirror, on a real API server and a real Kyverno."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from kubernetes.client import ApiException

from components.policy import OPT_OUT_LABEL, OPT_OUT_VALUE, metadata
from components.types import Access, Engine, Proxy
from components.vci_mirror import VciMirrorArgs, annotating_policy
from rehearsal import wait
from tests.support.harness import (
    DOMAIN,
    WEBHOOK_TIMEOUT_SECONDS,
    Cluster,
    KyvernoProcess,
    docker_hub,
)
from tests.support.pods import DIGEST, images, labelled, pod, workload

KEY = "vci.volcengine.com/registry-mirror-config"
GHCR_DOMAIN = "ghcr-proxy.example.com"
MIRROR = {"mirrors": {"docker.io": [DOMAIN], "ghcr.io": [GHCR_DOMAIN]}}


def annotation(found: dict[str, Any]) -> Any:
    text = found["metadata"].get("annotations", {}).get(KEY)
    return None if text is None else json.loads(text)


def annotated(key: str, value: str) -> dict[str, Any]:
    return pod("nginx", metadata={"generateName": "vci-", "annotations": {key: value}})


ENGINES = (Engine.CLUSTER_POLICY, Engine.MUTATING_POLICY)
PROXIES = [
    docker_hub("library", "grafana"),
    Proxy(host="ghcr.io", domain=GHCR_DOMAIN, namespaces={"kyverno": Access.PUBLIC}),
]


@contextmanager
def in_force(cluster: Cluster, engine: Engine) -> Iterator[None]:
    """The policy of one kind, taken in by Kyverno and gone after the context."""
    args = VciMirrorArgs(
        proxies=PROXIES,
        excluded_namespaces=["left-alone"],
        excluded_pod_labels=["example.com/operated"],
        timeout_seconds=WEBHOOK_TIMEOUT_SECONDS,
        engine=engine,
    )
    policy = annotating_policy(args, [DOMAIN, GHCR_DOMAIN])
    kind, name = engine.value.lower(), policy["metadata"]["name"]
    cluster.apply(policy)
    try:
        ready = metadata(policy)["annotations"]["pulumi.com/waitFor"]
        cluster.kubectl("wait", kind, name, f"--for={ready}", "--timeout=60s")
        yield
    finally:
        cluster.delete(policy)


@pytest.fixture(scope="module", params=ENGINES)
def mirrored(
    request: pytest.FixtureRequest, cluster: Cluster, kyverno: KyvernoProcess
) -> Iterator[Cluster]:
    """A cluster with each kind of policy in turn, for the namespaces library and grafana."""
    del kyverno
    cluster.kubectl("create", "namespace", "left-alone", check=False)
    with in_force(cluster, request.param):
        wait.until(
            lambda: annotation(cluster.create(pod("nginx"))) is not None, "Pods are annotated"
        )
        yield cluster
    wait.until(lambda: left_alone(cluster), "the policy is gone")


def left_alone(cluster: Cluster) -> bool:
    """Whether a Pod is admitted without the annotation.

    For a moment Kyverno denies what its webhook asks it about a policy that is deleted already.
    """
    try:
        return annotation(cluster.create(pod("nginx"))) is None
    except ApiException:
        return False


TOLD = [
    pytest.param(pod("nginx"), id="familiar"),
    pytest.param(pod("library/nginx:1.27"), id="library"),
    pytest.param(pod("grafana/grafana"), id="another-namespace-served"),
    pytest.param(pod("docker.io/nginx"), id="docker-io"),
    pytest.param(pod("ghcr.io/kyverno/kyverno:v1.19.1"), id="of-another-proxy"),
    pytest.param(pod("index.docker.io/library/nginx"), id="index"),
    pytest.param(pod("registry-1.docker.io/library/nginx"), id="server"),
    pytest.param(
        labelled({"cnpg.io/cluster": "pg"}, "nginx"), id="of-an-operator-that-compares-images"
    ),
    pytest.param(
        labelled({"sidecar.istio.io/inject": "true"}, "quay.io/a/b"), id="asks-for-a-sidecar"
    ),
    pytest.param(pod(f"nginx:1.27@{DIGEST}"), id="digest"),
    pytest.param(pod("quay.io/a/b", "nginx"), id="second-container"),
    pytest.param(
        pod("quay.io/a/b", initContainers=[{"name": "i", "image": "busybox"}]), id="init-container"
    ),
    pytest.param(
        annotated("vke.volcengine.com/burst-to-vci", "enforce"), id="sent-to-vci-for-certain"
    ),
]


@pytest.mark.parametrize("written", TOLD)
def test_a_pod_of_an_image_served_gets_the_mirrors_annotation(
    mirrored: Cluster, written: dict[str, Any]
) -> None:
    admitted = mirrored.create(written)
    assert annotation(admitted) == MIRROR
    assert images(admitted) == images(written)


LEFT = [
    pytest.param(pod("quay.io/library/nginx"), id="other-registry"),
    pytest.param(pod("bitnami/redis"), id="namespace-not-served"),
    pytest.param(pod("docker.io.evil.example/library/nginx"), id="look-alike"),
    pytest.param(pod("ghcr.io.evil.example/kyverno/x"), id="look-alike-of-another-proxy"),
    pytest.param(pod("ghcr.io/grafana/x"), id="served-on-another-host-only"),
    pytest.param(pod("kyverno/kyverno"), id="served-on-another-host-than-docker-hub"),
    pytest.param(pod("localhost:5000/library/nginx"), id="port"),
    pytest.param(pod("Library/nginx"), id="invalid"),
    pytest.param(labelled({OPT_OUT_LABEL: OPT_OUT_VALUE}, "nginx"), id="opted-out"),
    pytest.param(labelled({"example.com/operated": "yes"}, "nginx"), id="excluded-by-label"),
]


@pytest.mark.parametrize("written", LEFT)
def test_any_other_pod_is_left_as_it_is(mirrored: Cluster, written: dict[str, Any]) -> None:
    assert annotation(mirrored.create(written)) is None


@pytest.mark.parametrize("namespace", ["kube-system", "left-alone"])
def test_an_excluded_namespace_is_left_alone(mirrored: Cluster, namespace: str) -> None:
    assert annotation(mirrored.create(pod("nginx"), namespace)) is None


def test_the_annotation_a_pod_brings_stays(mirrored: Cluster) -> None:
    own = {"mirrors": {"docker.io": ["mine.example.com"]}}
    assert annotation(mirrored.create(annotated(KEY, json.dumps(own)))) == own


def test_a_pod_of_a_deployment_is_annotated_and_its_deployment_is_not_changed(
    mirrored: Cluster,
) -> None:
    deployment = workload("Deployment", "vci", pod("nginx"))
    mirrored.apply(deployment, "default")
    try:
        wait.until(lambda: bool(mirrored.pods("test=vci")), "the Deployment's Pod is there")
        assert [annotation(each) for each in mirrored.pods("test=vci")] == [MIRROR]
        stored = json.loads(mirrored.kubectl("get", "deployment", "vci", "-o", "json").stdout)
        assert "annotations" not in stored["spec"]["template"]["metadata"]
    finally:
        mirrored.delete(deployment, "default")


def test_images_are_still_redirected_beside_it(mirrored: Cluster) -> None:
    with mirrored.policy(Engine.CLUSTER_POLICY):
        admitted = mirrored.create(pod("nginx"))
        assert images(admitted) == [f"{DOMAIN}/library/nginx"]


def test_the_step_from_one_kind_to_the_other_leaves_no_pod_without_the_annotation(
    cluster: Cluster, kyverno: KyvernoProcess
) -> None:
    del kyverno
    old, new = ENGINES
    found: list[Any] = []
    with ExitStack() as later:
        with in_force(cluster, old):
            wait.until(
                lambda: annotation(cluster.create(pod("nginx"))) is not None, "Pods are annotated"
            )
            later.enter_context(in_force(cluster, new))
            found += [annotation(cluster.create(pod("nginx"))) for _ in range(20)]
        for _ in range(50):
            with suppress(ApiException):  # see left_alone()
                found.append(annotation(cluster.create(pod("nginx"))))
    assert len(found) > 50
    assert all(each == MIRROR for each in found)
    wait.until(lambda: left_alone(cluster), "the policy is gone")


def test_no_pod_needs_kyverno_to_be_admitted(mirrored: Cluster, kyverno: KyvernoProcess) -> None:
    """With Kyverno frozen a Pod waits for the webhook's timeout; one with nothing to say does not
    wait, because the API server does not call Kyverno for it.
    """
    with kyverno.frozen():
        began = time.monotonic()
        assert annotation(mirrored.create(pod("quay.io/a/b"))) is None
        without_an_image = time.monotonic() - began
        began = time.monotonic()
        assert annotation(mirrored.create(pod("nginx"))) is None
        with_an_image = time.monotonic() - began
    assert without_an_image < WEBHOOK_TIMEOUT_SECONDS / 2
    assert WEBHOOK_TIMEOUT_SECONDS - 0.5 < with_an_image < WEBHOOK_TIMEOUT_SECONDS * 2
    wait.until(lambda: annotation(mirrored.create(pod("nginx"))) == MIRROR, "Kyverno answers again")
