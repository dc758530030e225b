"""The mode that asks Docker Hub about each image first, with look-ups that are answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from components.types import Engine, FailurePolicy
from rehearsal.admit import admit
from tests.conformance.test_pods import images, pod
from tests.support.docker_hub import DockerHub
from tests.support.harness import DOMAIN, Cluster, KyvernoProcess

NGINX = f"{DOMAIN}/library/nginx"
NOT_THERE = "sha256:" + "0123456789abcdef" * 4
SERVED = ["bitnami", "library"]


@pytest.fixture(scope="module")
def looking_up(cluster: Cluster, kyverno: KyvernoProcess) -> Iterator[Cluster]:
    """The policy with the default failurePolicy."""
    del kyverno
    with cluster.policy(
        Engine.CLUSTER_POLICY,
        lookup=True,
        probe="nginx",
        namespaces=SERVED,
        failure_policy=FailurePolicy.IGNORE,
    ):
        yield cluster


@pytest.mark.parametrize(
    ("image", "admitted"),
    [
        ("nginx", NGINX),
        ("nginx:latest", f"{NGINX}:latest"),
        ("nginx:1.27", f"{NGINX}:1.27"),
        ("library/nginx:1.28", f"{NGINX}:1.28"),
        ("docker.io/nginx", NGINX),
        ("index.docker.io/library/nginx:1.27", f"{NGINX}:1.27"),
        ("registry-1.docker.io/library/nginx", NGINX),
        ("bitnami/redis:7.2", f"{DOMAIN}/bitnami/redis:7.2"),
    ],
)
def test_an_image_docker_hub_has_is_redirected(
    looking_up: Cluster, image: str, admitted: str
) -> None:
    assert looking_up.admitted(image) == admitted


@pytest.mark.parametrize("form", ["@{digest}", ":1.27@{digest}"], ids=["digest", "tag-and-digest"])
def test_a_digest_is_kept(looking_up: Cluster, docker_hub: DockerHub, form: str) -> None:
    suffix = form.format(digest=docker_hub.digests["library/nginx:1.27"])
    assert looking_up.admitted(f"nginx{suffix}") == f"{NGINX}{suffix}"


def test_init_containers_and_image_volumes_are_redirected_in_one_pod(looking_up: Cluster) -> None:
    given = pod(
        "quay.io/a/b",
        "bitnami/redis",
        initContainers=[{"name": "i", "image": "busybox:1.37"}],
        volumes=[{"name": "v", "image": {"reference": "nginx:1.28"}}],
    )
    found = looking_up.create(given)
    assert images(found) == ["quay.io/a/b", f"{DOMAIN}/bitnami/redis"]
    assert images(found, "initContainers") == [f"{DOMAIN}/library/busybox:1.37"]
    assert found["spec"]["volumes"][0]["image"]["reference"] == f"{NGINX}:1.28"


@pytest.mark.parametrize(
    "image", ["quay.io/library/nginx", "other/nginx", f"{NGINX}:1.27", "nginx:ü"],
    ids=["other-registry", "not-served", "redirected-already", "invalid"],
)  # fmt: skip
def test_what_is_not_to_be_redirected_is_not_looked_up(
    looking_up: Cluster, docker_hub: DockerHub, image: str
) -> None:
    before = docker_hub.requests()
    assert looking_up.admitted(image) == image
    assert docker_hub.requests() == before
    assert looking_up.admitted("nginx") == NGINX
    assert docker_hub.requests() > before


@pytest.mark.parametrize(
    "image", ["nginx:9.99", "library/no-such-image", f"nginx@{NOT_THERE}"],
    ids=["tag", "repository", "digest"],
)  # fmt: skip
def test_a_pod_with_an_image_docker_hub_has_not_stays_as_written(
    looking_up: Cluster, image: str
) -> None:
    assert images(looking_up.create(pod("nginx:1.27", image))) == ["nginx:1.27", image]


def test_a_private_image_brings_the_login(cluster: Cluster, kyverno: KyvernoProcess) -> None:
    del kyverno
    values: dict[str, Any] = {"private_namespaces": ["bitnami"], "pull_secret": "proxy-login"}
    with cluster.policy(
        Engine.CLUSTER_POLICY, lookup=True, probe="nginx", namespaces=SERVED, **values
    ):
        found = cluster.create(pod("bitnami/redis:7.2", imagePullSecrets=[{"name": "own"}]))
        assert images(found) == [f"{DOMAIN}/bitnami/redis:7.2"]
        assert found["spec"]["imagePullSecrets"] == [{"name": "own"}, {"name": "proxy-login"}]
        assert "imagePullSecrets" not in cluster.create(pod("nginx:1.27"))["spec"]


def test_with_failure_policy_fail_such_a_pod_is_denied(
    cluster: Cluster, kyverno: KyvernoProcess
) -> None:
    del kyverno
    values: dict[str, Any] = {"namespaces": SERVED, "failure_policy": FailurePolicy.FAIL}
    with cluster.policy(Engine.CLUSTER_POLICY, lookup=True, probe="nginx", **values):
        has, has_not = admit(cluster.api, ["nginx:1.27", "nginx:9.99"], namespace="default")
    assert has.admitted == f"{NGINX}:1.27"
    assert has_not.admitted is None
    assert "denied the request" in (has_not.error or "")
