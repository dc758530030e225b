"""The inventory predicts what the real API server does, and the warning warns of just that."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client

from components.policy import POLICIES, load, unserved_images
from components.types import Access, Engine, Proxy
from inventory.prediction import Outcome, of_reference, predict
from inventory.reference import InvalidReferenceError, parse
from inventory.stack import Stack
from inventory.workloads import workload
from rehearsal import wait
from tests.support import pods
from tests.support.harness import DOMAIN, Cluster, docker_hub
from tests.support.references import Oracle, Reading, generated, wild

GHCR = Proxy(host="ghcr.io", domain="ghcr.example.com", namespaces={"kyverno": Access.PUBLIC})
PROXIES = [docker_hub("library", private=["bitnami"]), GHCR]
STACK = Stack(
    proxies=PROXIES,
    excluded_namespaces=Stack().excluded_namespaces | {"left-alone"},
    excluded_pod_labels=frozenset({"example.com/operated", "app=db"}),
)


@pytest.fixture(scope="module")
def read(oracle: Oracle) -> list[Reading]:
    """The references of the parser's own tables, found ones and made-up ones, as it reads them."""
    return oracle.read(dict.fromkeys([*oracle.tables(), *wild(), *generated(2400, 20261127)]))


def test_references_are_parsed_as_the_parser_containerd_uses_parses_them(
    oracle: Oracle, read: list[Reading]
) -> None:
    more = oracle.read(dict.fromkeys(generated(15_000, 12)))
    wrong = []
    for each in [*read, *more]:
        try:
            found = parse(each.reference)
            ours = (found.domain, found.path, found.tag or "", found.digest or "")
        except InvalidReferenceError:
            ours = None
        theirs = None if each.error else (each.domain, each.path, each.tag, each.digest)
        if ours != theirs:
            wrong.append((each.reference, ours, theirs))
    assert wrong == []
    assert sum(not each.error for each in read) > 1000


def pod(*images: str, labels: Mapping[str, str] | None = None, **parts: Any) -> dict[str, Any]:
    metadata = {"name": "x", "labels": labels or {}, **parts.pop("metadata", {})}
    return pods.pod(*images, metadata=metadata, **parts)


MIXED = ("nginx", "docker.io/bitnami/redis:1", "ghcr.io/kyverno/kyverno", "grafana/grafana",
         "ghcr.io/pause:3.9",
         "quay.io/a/b", "registry.k8s.io/pause:3.9", "auto", f"{DOMAIN}/library/x")  # fmt: skip
NODE = {"apiVersion": "v1", "kind": "Node", "name": "node-a", "uid": "x", "controller": True}
PODS: dict[str, dict[str, Any]] = {
    "mixed": pod(*MIXED),
    "init and volumes": pod(
        *MIXED,
        initContainers=[{"name": "i", "image": "busybox"}, {"name": "n", "image": "a/b"}],
        volumes=[
            {"name": "v", "image": {"reference": "bitnami/data"}},
            {"name": "w", "image": {"reference": "nginx", "pullPolicy": "Never"}},
        ],
    ),
    "never pulled": pod(
        containers=[
            {"name": "c", "image": "nginx", "imagePullPolicy": "Never"},
            {"name": "d", "image": "nginx", "imagePullPolicy": "IfNotPresent"},
        ]
    ),
    "opted out": pod(*MIXED, labels={"vke-dockerhub-proxy/redirect": "disabled"}),
    "not opted out": pod(*MIXED, labels={"vke-dockerhub-proxy/redirect": "enabled"}),
    "operator": pod(*MIXED, labels={"cnpg.io/cluster": "db"}),
    "operator by value": pod(*MIXED, labels={"application": "spilo"}),
    "no operator": pod(*MIXED, labels={"application": "mine"}),
    "excluded label": pod(*MIXED, labels={"example.com/operated": ""}),
    "excluded label and value": pod(*MIXED, labels={"app": "db"}),
    "another value": pod(*MIXED, labels={"app": "web"}),
    "static by owner": pod(*MIXED, metadata={"ownerReferences": [NODE]}),
    "static by annotation": pod(
        *MIXED, metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}
    ),
    **{
        f"kyverno test {document['metadata']['name']}": document
        for document in yaml.safe_load_all(
            (POLICIES / "image-redirect/tests/pods.yaml").read_text(encoding="utf-8")
        )
        if document["kind"] == "Pod"
    },
}


def predicted(document: dict[str, Any], namespace: str) -> dict[str, str]:
    """By container, the image that the inventory says the Pod will have."""
    placed = {**document, "metadata": {**document["metadata"], "namespace": namespace}}
    found = workload(placed, "x", is_file=False, label_keys=STACK.label_keys)
    assert found is not None
    predicted = {}
    for image in found.images:
        prediction = predict(image, found, STACK, opted_out=namespace == "opted-out")
        predicted[image.container] = prediction.to or image.reference
    return predicted


def written(document: dict[str, Any]) -> dict[str, str]:
    """By container, the image a Pod has."""
    bare = {**document, "metadata": {"name": "x"}}
    found = workload(bare, "x", is_file=False, label_keys=())
    assert found is not None
    return {each.container: each.reference for each in found.images}


@pytest.fixture(scope="module")
def namespaces_left_alone(cluster: Cluster) -> None:
    """Namespaces that are left alone, each in its way."""
    for name in ("left-alone", "opted-out"):
        labels = {"vke-dockerhub-proxy/redirect": "disabled"} if name == "opted-out" else {}
        namespace = {"apiVersion": "v1", "kind": "Namespace",
                     "metadata": {"name": name, "labels": labels}}  # fmt: skip
        cluster.apply(namespace)
        cluster.await_service_account(name)


@pytest.fixture(scope="module")
def redirected(cluster: Cluster, engine: Engine, namespaces_left_alone: None) -> Iterator[Cluster]:
    """A cluster that redirects as `STACK` says."""
    del namespaces_left_alone
    with cluster.policy(
        engine,
        PROXIES,
        excluded_namespaces=["left-alone"],
        excluded_pod_labels=sorted(STACK.excluded_pod_labels),
    ):
        yield cluster


def test_prediction_and_the_api_server_agree_on_every_pod(redirected: Cluster) -> None:
    placed = [(each["metadata"].get("namespace", "default"), each) for each in PODS.values()]
    placed += [(each, PODS["mixed"]) for each in ("left-alone", "opted-out", "kube-system")]
    wrong = []
    for namespace, document in placed:
        # The API server wants a node for a mirror Pod.
        node = {"nodeName": "node-a"} if "annotations" in document["metadata"] else {}
        created = redirected.create({**document, "spec": {**document["spec"], **node}}, namespace)
        if written(created) != predicted(document, namespace):
            wrong.append((namespace, created, predicted(document, namespace)))
    assert wrong == []


@pytest.fixture(scope="module")
def warning(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster that warns of what `STACK` does not serve."""
    documents = unserved_images(
        PROXIES,
        excluded_namespaces=["left-alone"],
        excluded_pod_labels=sorted(STACK.excluded_pod_labels),
    )
    for each in documents:
        cluster.apply(each)
    wait.until(lambda: all(said(cluster, pod("a/b")) for _ in range(5)), "the warning is there")
    yield cluster
    for each in documents:
        cluster.delete(each)
    wait.until(lambda: not any(said(cluster, pod("a/b")) for _ in range(5)), "it is gone")


def said(cluster: Cluster, document: dict[str, Any], namespace: str = "default") -> str:
    """What is warned of by a server-side dry run."""
    return cluster.warnings(document, namespace)


KINDS = ("Pod", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")


def of_kind(kind: str, template: dict[str, Any]) -> dict[str, Any]:
    return template if kind == "Pod" else pods.workload(kind, "x", template)


@pytest.mark.parametrize("kind", KINDS)
def test_who_writes_an_image_that_is_not_served_reads_what_to_add_to_which_setting(
    warning: Cluster, kind: str
) -> None:
    text = said(
        warning, of_kind(kind, pod("nginx", "grafana/grafana:12", "ghcr.io/x/y", "q.io/a/b"))
    )
    assert text.startswith('299 - "')
    assert "no proxy serves grafana/grafana:12 (add grafana to registry.namespaces)" in text
    assert "ghcr.io/x/y (add x to the namespaces of ghcr.io in upstreams)" in text
    assert "nginx" not in text
    assert "q.io" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_said_of_a_workload_with_nothing_unserved(warning: Cluster, kind: str) -> None:
    assert said(warning, of_kind(kind, pod(*(set(MIXED) - {"grafana/grafana"})))) == ""


@pytest.mark.parametrize("document", PODS.values(), ids=list(PODS))
def test_the_warning_names_just_what_the_inventory_says_is_not_served(
    warning: Cluster, document: dict[str, Any]
) -> None:
    found = workload(document, "x", is_file=False, label_keys=STACK.label_keys)
    assert found is not None
    wanted = {
        image.reference
        for image in found.images
        if predict(image, found, STACK, opted_out=False).outcome is Outcome.NOT_SERVED
    }
    owners = document["metadata"].get("ownerReferences")
    node = {"nodeName": "node-a"} if "annotations" in document["metadata"] else {}
    placed = {**document, "spec": {**document["spec"], **node}}
    namespace = document["metadata"].get("namespace", "default")
    named = re.findall(r"(\S+) \(add ", said(warning, placed, namespace))
    assert set(named) == (set() if owners else wanted)


@pytest.mark.parametrize("namespace", ["left-alone", "opted-out", "kube-system"])
def test_namespaces_that_are_left_alone_are_not_warned_of(
    warning: Cluster, namespaces_left_alone: None, namespace: str
) -> None:
    del namespaces_left_alone
    assert said(warning, pod("grafana/grafana"), namespace) == ""


def test_what_a_controller_makes_is_not_warned_of_again(warning: Cluster) -> None:
    for kind in ("ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob"):
        owner = {"apiVersion": "v1", "kind": kind, "name": "x", "uid": "x", "controller": True}
        assert said(warning, pod("a/b", metadata={"ownerReferences": [owner]})) == ""


def test_every_reference_is_warned_of_just_where_the_inventory_says_it_is_not_served(
    warning: Cluster, read: list[Reading]
) -> None:
    wrong, unserved = [], 0
    for each in read:
        if each.error:
            continue
        try:
            text = said(warning, pod(each.reference))
        except client.ApiException:
            continue  # Kubernetes itself refuses it
        wanted = of_reference(parse(each.reference), STACK).outcome is Outcome.NOT_SERVED
        unserved += wanted
        if bool(text) != wanted:
            wrong.append((each.reference, wanted, text))
    assert wrong == []
    assert unserved > 300


def test_an_update_is_warned_of_when_it_writes_the_spec_and_not_otherwise(warning: Cluster) -> None:
    deployment = pods.workload("Deployment", "x", pod("grafana/grafana"))
    try:
        warning.kubectl("create", "-f", "-", document=deployment)
        assert warning.kubectl("label", "deployment", "x", "a=b").stderr == ""
        assert warning.kubectl("scale", "deployment", "x", "--replicas=0").stderr == ""
        assert "a/b" in warning.kubectl("set", "image", "deployment/x", "c0=a/b").stderr
        assert warning.kubectl("set", "image", "deployment/x", "c0=nginx").stderr == ""
    finally:
        warning.delete(deployment, "default")


def test_the_audit_log_and_the_api_servers_metric_count_them(
    warning: Cluster, audit_log: Path
) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "audited"}}
    warning.apply(namespace)
    deployment = pods.workload("Deployment", "x", pod("nginx", "grafana/grafana:1", "a/b"))
    assert said(warning, deployment, "audited") != ""

    def annotations() -> dict[str, str]:
        for line in audit_log.read_text().splitlines():
            event = json.loads(line)
            found: dict[str, str] = event.get("annotations") or {}
            if (
                event["objectRef"]["resource"] == "deployments"
                and "unserved-images/unserved" in found
            ):
                return found
        return {}

    found = wait.until(annotations, "the request is in the audit log")
    assert found["unserved-images/unserved"] == "grafana/grafana:1, a/b"
    assert "validation.policy.admission.k8s.io/validation_failure" in found
    metrics = warning.kubectl("get", "--raw", "/metrics").stdout
    counted = [
        line
        for line in metrics.splitlines()
        if line.startswith("apiserver_validating_admission_policy_check_total")
        and 'policy="unserved-images"' in line
    ]
    assert any('enforcement_action="warn"' in line for line in counted)
    assert any('enforcement_action="audit"' in line for line in counted)


def test_the_file_as_it_stands_is_a_policy_that_is_in_force(cluster: Cluster) -> None:
    policy, binding = load("unserved-images/validating-admission-policy.yaml")
    for each in (policy, binding):
        each["metadata"]["name"] = "unchanged"
    binding["spec"]["policyName"] = "unchanged"
    for each in (policy, binding):
        cluster.apply(each)
    try:
        wait.until(lambda: "unchanged" in said(cluster, pod("grafana/x")), "it warns")
        kind = ("validatingadmissionpolicy", "unchanged")
        status = cluster.kubectl("get", *kind, "-o", "jsonpath={.status.typeChecking}").stdout
        assert json.loads(status) == {}
        assert "unchanged" not in said(cluster, pod("nginx"))
    finally:
        for each in (policy, binding):
            cluster.delete(each)
