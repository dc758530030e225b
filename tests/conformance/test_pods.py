"""Where in a Pod images are redirected, when, and in which Pods they are left alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from components.policy import OPT_OUT_LABEL, OPT_OUT_VALUE
from components.types import Engine
from rehearsal import wait
from tests.support.harness import DOMAIN, Cluster, docker_hub
from tests.support.pods import (
    DIGEST,
    images,
    labelled,
    named,
    originals,
    pod,
    stored,
    workload,
)

NGINX = f"{DOMAIN}/library/nginx"


@pytest.fixture(scope="module")
def redirected(cluster: Cluster, engine: Engine) -> Iterator[Cluster]:
    """A cluster where `library` and the private `bitnami` are redirected."""
    with cluster.policy(
        engine,
        [docker_hub("library", private=["bitnami"])],
        pull_secret="proxy-login",
        excluded_namespaces=["left-alone"],
        excluded_pod_labels=["example.com/operated", "app=db"],
    ):
        yield cluster


def test_containers_init_containers_and_sidecars_are_redirected(redirected: Cluster) -> None:
    init = [
        {"name": "init", "image": "docker.io/busybox"},
        {"name": "sidecar", "image": f"nginx@{DIGEST}", "restartPolicy": "Always"},
        {"name": "other", "image": "quay.io/a/b"},
    ]
    found = redirected.create(pod("nginx:1", "ghcr.io/a/b:1", "bitnami/redis", initContainers=init))
    assert images(found) == [f"{NGINX}:1", "ghcr.io/a/b:1", f"{DOMAIN}/bitnami/redis"]
    assert images(found, "initContainers") == [
        f"{DOMAIN}/library/busybox",
        f"{NGINX}@{DIGEST}",
        "quay.io/a/b",
    ]
    assert [each["name"] for each in found["spec"]["containers"]] == ["c0", "c1", "c2"]


def test_the_original_images_are_kept_in_an_annotation_each(redirected: Cluster) -> None:
    found = redirected.create(
        pod("nginx:1", "quay.io/a/b", initContainers=[{"name": "i", "image": "library/busybox"}])
    )
    assert originals(found) == {"c0": "nginx:1", "i": "library/busybox"}


def test_other_annotations_stay(redirected: Cluster) -> None:
    written = pod("nginx")
    written["metadata"]["annotations"] = {"example.com/mine": "yes"}
    found = redirected.create(written)
    assert found["metadata"]["annotations"]["example.com/mine"] == "yes"
    assert originals(found) == {"c0": "nginx"}


def test_all_else_in_the_pod_stays_as_it_was(redirected: Cluster) -> None:
    written = pod("nginx:1", "quay.io/a/b")
    written["spec"]["containers"][0] |= {
        "args": ["{{ request.object.spec }}", "$(A)", "${B}", "日本 'x' \"y\""],
        "env": [{"name": "A", "value": "{{a}}"}, {"name": "B", "value": "b"}],
        "ports": [{"containerPort": 80}],
    }
    written["metadata"]["annotations"] = {"x": "{{ request.object.metadata.name }}"}
    found = redirected.create(written)
    for each, before in zip(
        found["spec"]["containers"], written["spec"]["containers"], strict=True
    ):
        for key, value in before.items():
            if key not in {"image", "ports"}:
                assert each[key] == value
    assert found["metadata"]["annotations"]["x"] == "{{ request.object.metadata.name }}"
    assert [each["name"] for each in found["spec"]["containers"]] == ["c0", "c1"]


def test_image_volumes_are_redirected(redirected: Cluster) -> None:
    volumes = [
        {"name": "data", "image": {"reference": "nginx:1", "pullPolicy": "Always"}},
        {"name": "other", "image": {"reference": "quay.io/a/b"}},
        {"name": "plain", "emptyDir": {}},
    ]
    found = redirected.create(pod("quay.io/a/b", volumes=volumes))
    stored = {each["name"]: each for each in found["spec"]["volumes"]}
    assert stored["data"]["image"] == {"reference": f"{NGINX}:1", "pullPolicy": "Always"}
    assert stored["other"]["image"]["reference"] == "quay.io/a/b"
    assert originals(found) == {"volumes/data": "nginx:1"}


def test_twenty_containers_are_redirected_in_their_order(redirected: Cluster) -> None:
    written = [f"nginx:{at}" if at % 3 else f"quay.io/a/b:{at}" for at in range(20)]
    found = redirected.create(pod(*written))
    assert images(found) == [
        f"{DOMAIN}/library/{each}" if each.startswith("nginx") else each for each in written
    ]


@pytest.mark.parametrize(
    "image",
    ["nginx:ü", "日本/nginx", "docker.io/ﬀ", "a" * 100_000, "nginx:" + "1" * 5000, "/" * 3000,
     "library/" + "é" * 300, "nginx@sha256:" + "0" * 9000],
    ids=["tag", "name", "ligature", "long-name", "long-tag", "slashes", "accents", "long-digest"],
)  # fmt: skip
def test_unicode_and_very_long_references_are_left_and_do_no_harm(
    redirected: Cluster, image: str
) -> None:
    assert images(redirected.create(pod(image, "nginx"))) == [image, NGINX]


def test_a_pod_of_the_longest_names_is_redirected(redirected: Cluster) -> None:
    name = "library/" + "x" * 247
    written = pod(f"docker.io/{name}:{'y' * 128}@{DIGEST}")
    written["metadata"] = {"name": ".".join(["n" * 50] * 4)}
    written["spec"]["containers"][0]["name"] = "c" * 63
    found = redirected.create(written)
    assert images(found) == [f"{DOMAIN}/{name}:{'y' * 128}@{DIGEST}"]


def test_a_second_pass_changes_nothing(redirected: Cluster) -> None:
    first = redirected.create(pod("nginx:1", "bitnami/redis"))
    again = {**pod(), "spec": first["spec"]}
    again["metadata"]["annotations"] = first["metadata"]["annotations"]
    second = redirected.create(again)
    assert images(second) == images(first)
    assert originals(second) == {"c0": "nginx:1", "c1": "bitnami/redis"}


def test_set_image_is_redirected_and_recorded(redirected: Cluster) -> None:
    with stored(redirected, named("set-image", "nginx:1", "bitnami/redis:1")):
        redirected.kubectl("set", "image", "pod/set-image", "c0=nginx:2")
        found = redirected.pod("set-image")
        assert images(found) == [f"{NGINX}:2", f"{DOMAIN}/bitnami/redis:1"]
        assert originals(found) == {"c0": "nginx:2", "c1": "bitnami/redis:1"}


def test_an_update_leaves_the_images_it_does_not_write(redirected: Cluster) -> None:
    written = named("opted-out", "nginx:1", "busybox:1")
    written["metadata"]["labels"][OPT_OUT_LABEL] = OPT_OUT_VALUE
    with stored(redirected, written):
        redirected.kubectl("label", "pod", "opted-out", f"{OPT_OUT_LABEL}-")
        assert images(redirected.pod("opted-out")) == ["nginx:1", "busybox:1"]
        redirected.kubectl("set", "image", "pod/opted-out", "c1=busybox:2")
        assert images(redirected.pod("opted-out")) == [
            "nginx:1",
            f"{DOMAIN}/library/busybox:2",
        ]


def test_an_update_of_a_pod_with_an_image_volume_from_before_is_not_denied(
    redirected: Cluster,
) -> None:
    """Volumes cannot change: a policy that wrote one on an update would deny every update."""
    volumes = [{"name": "data", "image": {"reference": "nginx:1"}}]
    written = named("from-before", "busybox:1", volumes=volumes)
    written["metadata"]["labels"][OPT_OUT_LABEL] = OPT_OUT_VALUE
    with stored(redirected, written):
        redirected.kubectl("label", "pod", "from-before", f"{OPT_OUT_LABEL}-")
        redirected.kubectl("annotate", "pod", "from-before", "example.com/a=b")
        redirected.kubectl("set", "image", "pod/from-before", "c0=busybox:2")
        redirected.kubectl("debug", "from-before", "--image=busybox:3", "--container=d")
        found = redirected.pod("from-before")
        assert images(found) == [f"{DOMAIN}/library/busybox:2"]
        assert images(found, "ephemeralContainers") == [f"{DOMAIN}/library/busybox:3"]
        assert found["spec"]["volumes"][0]["image"]["reference"] == "nginx:1"


@pytest.mark.parametrize("how", [(), ("--server-side",)], ids=["client-side", "server-side"])
def test_applying_the_same_pod_again_changes_nothing(
    redirected: Cluster, how: tuple[str, ...]
) -> None:
    volumes = [{"name": "data", "image": {"reference": "nginx:1"}}]
    written = named("applied", "busybox:1", volumes=volumes)
    try:
        redirected.kubectl("apply", *how, "-f", "-", document=written)
        before = redirected.pod("applied")
        redirected.kubectl("apply", *how, "-f", "-", document=written)
        found = redirected.pod("applied")
        assert found["spec"] == before["spec"]
        assert found["spec"]["volumes"][0]["image"]["reference"] == f"{NGINX}:1"
        assert originals(found) == {"c0": "busybox:1", "volumes/data": "nginx:1"}
    finally:
        redirected.delete(written, "default")


@pytest.mark.parametrize("label", [f"{OPT_OUT_LABEL}={OPT_OUT_VALUE}", "cnpg.io/cluster=db"])
def test_a_pod_opted_out_by_the_update_that_writes_an_image_is_left(
    redirected: Cluster, label: str
) -> None:
    key, _, value = label.partition("=")
    with stored(redirected, named("opting-out", "nginx:1")):
        change = {
            "metadata": {"labels": {key: value}},
            "spec": {"containers": [{"name": "c0", "image": "busybox:2"}]},
        }
        redirected.kubectl("patch", "pod", "opting-out", "--patch", json.dumps(change))
        assert images(redirected.pod("opting-out")) == ["busybox:2"]


def test_kubectl_debug_is_redirected(redirected: Cluster) -> None:
    with stored(redirected, named("debugged", "nginx:1")):
        redirected.kubectl("debug", "debugged", "--image=busybox:1", "--container=d")
        found = redirected.pod("debugged")
        assert images(found, "ephemeralContainers") == [f"{DOMAIN}/library/busybox:1"]
        assert images(found) == [f"{NGINX}:1"]
        redirected.kubectl("debug", "debugged", "--image=quay.io/a/b", "--container=e")
        assert images(redirected.pod("debugged"), "ephemeralContainers") == [
            f"{DOMAIN}/library/busybox:1",
            "quay.io/a/b",
        ]


@pytest.mark.parametrize(
    "labels",
    [
        {OPT_OUT_LABEL: OPT_OUT_VALUE},
        {"cnpg.io/cluster": "db"},
        {"example.com/operated": ""},
    ],
    ids=["opt-out", "cloudnative-pg", "configured"],
)
def test_pods_with_an_excluded_label_are_left(redirected: Cluster, labels: dict[str, str]) -> None:
    found = redirected.create(labelled(labels, "nginx"))
    assert images(found) == ["nginx"]
    assert originals(found) == {}


def test_the_opt_out_label_with_another_value_excludes_nothing(redirected: Cluster) -> None:
    assert images(redirected.create(labelled({OPT_OUT_LABEL: "enabled"}, "nginx"))) == [NGINX]


@pytest.mark.parametrize(
    "namespace", ["kube-system", "kube-public", "kube-node-lease", "left-alone", "opted-out"]
)
def test_excluded_namespaces_are_left(redirected: Cluster, namespace: str) -> None:
    labels = {OPT_OUT_LABEL: OPT_OUT_VALUE} if namespace == "opted-out" else {}
    document = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "labels": labels},
    }
    redirected.apply(document)
    redirected.await_service_account(namespace)
    wait.until(
        lambda: images(redirected.create(pod("nginx"), namespace)) == ["nginx"],
        "it is left",
        timeout=10,
    )


NODE = {"apiVersion": "v1", "kind": "Node", "name": "node-a", "uid": "some-uid"}


@pytest.mark.parametrize(
    "metadata",
    [{"annotations": {"kubernetes.io/config.mirror": "hash"}}, {"ownerReferences": [NODE]}],
    ids=["mirror-pod", "owned-by-its-node"],
)
def test_static_pods_are_left(redirected: Cluster, metadata: dict[str, Any]) -> None:
    written = pod("nginx")
    written["metadata"] |= metadata
    written["spec"]["nodeName"] = "node-a"
    assert images(redirected.create(written)) == ["nginx"]


def test_private_images_get_the_login_beside_the_pods_own(redirected: Cluster) -> None:
    own = [{"name": "own"}]
    found = redirected.create(pod("bitnami/redis", imagePullSecrets=own))
    assert found["spec"]["imagePullSecrets"] == [{"name": "own"}, {"name": "proxy-login"}]
    found = redirected.create(pod("bitnami/redis"))
    assert found["spec"]["imagePullSecrets"] == [{"name": "proxy-login"}]
    again = redirected.create(pod("bitnami/redis", imagePullSecrets=[{"name": "proxy-login"}]))
    assert again["spec"]["imagePullSecrets"] == [{"name": "proxy-login"}]
    unnamed = redirected.create(pod("nginx", "bitnami/redis", imagePullSecrets=[{"name": ""}]))
    assert images(unnamed) == [NGINX, f"{DOMAIN}/bitnami/redis"]
    assert unnamed["spec"]["imagePullSecrets"] == [{}, {"name": "proxy-login"}]


def test_public_images_get_no_login(redirected: Cluster) -> None:
    assert "imagePullSecrets" not in redirected.create(pod("nginx"))["spec"]


@pytest.mark.parametrize("kind", ["Deployment", "Job", "CronJob", "StatefulSet", "DaemonSet"])
def test_the_pods_of_controllers_are_redirected_and_their_templates_are_not(
    redirected: Cluster, kind: str
) -> None:
    name = f"of-a-{kind.lower()}"
    document = workload(kind, name, pod("nginx:1"))
    redirected.apply(document, "default")
    try:
        if kind == "CronJob":
            redirected.kubectl("create", "job", name, f"--from=cronjob/{name}")
        wait.until(lambda: bool(redirected.pods(f"test={name}")), f"the {kind} created a Pod")
        for each in redirected.pods(f"test={name}"):
            assert images(each) == [f"{NGINX}:1"]
        stored = json.loads(redirected.kubectl("get", kind, name, "-o", "json").stdout)
        spec = stored["spec"]
        template = (
            spec["jobTemplate"]["spec"]["template"] if kind == "CronJob" else spec["template"]
        )
        assert template["spec"]["containers"][0]["image"] == "nginx:1"
    finally:
        redirected.delete(document, "default")
        if kind == "CronJob":
            redirected.kubectl("delete", "job", name, "--ignore-not-found", "--wait=false")
