"""What clusters really send: injected sidecars, operators, others' policies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import yaml
from kubernetes import client
from kubernetes.client import ApiException

from components.policy import OPT_OUT_LABEL, OPT_OUT_VALUE, PODS_LEFT_ALONE
from components.types import Engine
from rehearsal import wait
from tests.support.harness import DOMAIN, Cluster, docker_hub
from tests.support.injectors import ISTIO, SELECTED, SIDECARS, VAULT, injectors
from tests.support.pods import images, labelled, named, originals, pod, stored

PROXIES = [
    docker_hub(
        *("acme", "aerospike", "foundationdb", "istio", "library", "opensearchproject"),
        private=["hashicorp"],
    )
]
AT_THE_PROXY = {
    ISTIO: f"{DOMAIN}/istio/proxyv2:1.27.1",
    VAULT: f"{DOMAIN}/hashicorp/vault:1.20.0",
}
OPTED_OUT = {OPT_OUT_LABEL: OPT_OUT_VALUE}
ASKS = {"sidecar.istio.io/inject": "true"}
"""An annotation by which a Pod asks for something to be injected."""


ALLOWS_DOCKER_HUB = list(
    yaml.safe_load_all("""
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: only-docker-hub}
spec:
  matchConstraints:
    resourceRules:
      - {apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}
  validations:
    - expression: >-
        object.spec.containers.all(c, c.image.startsWith('docker.io/') || !c.image.contains('/'))
      message: Docker Hub only
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: only-docker-hub}
spec: {policyName: only-docker-hub, validationActions: [Deny]}
""")
)
VERIFIES_DOCKER_HUB = yaml.safe_load("""
apiVersion: kyverno.io/v1
kind: ClusterPolicy
metadata: {name: signed}
spec:
  webhookTimeoutSeconds: 15
  rules:
    - name: v
      match: {any: [{resources: {kinds: [Pod]}}]}
      verifyImages:
        - imageReferences: ["docker.io/acme/*"]
          failureAction: Enforce
          attestors:
            - entries:
                - keys:
                    publicKeys: |-
                      -----BEGIN PUBLIC KEY-----
                      MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8nXRh950IZbRj8Ra/N9sbqOPZrfM
                      5/KAQN0/KjHcorm/J5yctVd7iEcnessRQjU917hmKO6JWVGHpDguIyakZA==
                      -----END PUBLIC KEY-----
""")


@pytest.fixture(scope="module")
def redirected(cluster: Cluster, engine: Engine) -> Iterator[Cluster]:
    with cluster.policy(engine, PROXIES, pull_secret="proxy-login"):
        yield cluster


@pytest.fixture(scope="module")
def injecting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    with injectors(tmp_path_factory.mktemp("injectors")) as configurations:
        yield configurations


@contextmanager
def injected_by(cluster: Cluster, configuration: dict[str, Any]) -> Iterator[None]:
    """A webhook of others in force."""
    name = configuration["metadata"]["name"]

    def containers() -> int:
        return len(images(cluster.create(meshed("quay.io/a/b"))))

    before = containers()
    cluster.apply(configuration)
    try:
        wait.until(lambda: containers() == before + 1, f"{name} is called")
        yield
    finally:
        cluster.delete(configuration)
        wait.until(lambda: containers() == before, f"{name} is gone")


def meshed(*written: str, annotations: dict[str, str] | None = None) -> dict[str, Any]:
    """A Pod that the injectors are called for."""
    return pod(
        *written,
        metadata={
            "generateName": "test-",
            "labels": SELECTED,
            "annotations": annotations or {},
        },
    )


class TestInjectedContainers:
    """Called by name, Istio's injector comes before Kyverno, Vault's after it; the native engine
    comes before both, and again after them.
    """

    @pytest.mark.parametrize("injector", SIDECARS)
    @pytest.mark.parametrize("asks", [True, False], ids=["asks-for-it", "does-not-ask"])
    @pytest.mark.parametrize(
        "own", ["registry.example.com/acme/app:1", "nginx:1.29"], ids=["own-registry", "hub-too"]
    )
    def test_they_are_redirected_where_the_engine_is_called_after_them(
        self,
        redirected: Cluster,
        engine: Engine,
        injecting: dict[str, dict[str, Any]],
        injector: str,
        asks: bool,
        own: str,
    ) -> None:
        called = {
            Engine.MUTATING_ADMISSION_POLICY: True,
            # Called again if it was before: for an image of the Pod's own, or one it asks for.
            Engine.CLUSTER_POLICY: injector == ISTIO or asks or own == "nginx:1.29",
            # Kyverno 1.19 has the API server call this webhook once.
            Engine.MUTATING_POLICY: injector == ISTIO,
        }[engine]
        with injected_by(redirected, injecting[injector]):
            found = redirected.create(meshed(own, annotations=ASKS if asks else {}))
        sidecar = SIDECARS[injector]
        assert images(found) == [
            f"{DOMAIN}/library/nginx:1.29" if own == "nginx:1.29" else own,
            AT_THE_PROXY[injector] if called else sidecar["image"],
        ]
        kept = {"c0": own} if own == "nginx:1.29" else {}
        assert originals(found) == kept | ({sidecar["name"]: sidecar["image"]} if called else {})
        login = [{"name": "proxy-login"}] if called and injector == VAULT else None
        assert found["spec"].get("imagePullSecrets") == login

    def test_istios_auto_is_filled_in_by_istio_and_then_redirected(
        self, redirected: Cluster, injecting: dict[str, dict[str, Any]]
    ) -> None:
        gateway = meshed("auto", annotations=ASKS)
        gateway["spec"]["containers"][0]["name"] = "istio-proxy"
        with injected_by(redirected, injecting[ISTIO]):
            assert images(redirected.create(gateway)) == [AT_THE_PROXY[ISTIO]]
        assert images(redirected.create(gateway)) == ["auto"]


class TestImagesThatAreNeverPulled:
    def test_they_stay_as_written_beside_others_that_are_redirected(
        self, redirected: Cluster
    ) -> None:
        never = {"imagePullPolicy": "Never"}
        given = pod(
            "busybox:1.37",
            initContainers=[{"name": "warm", "image": "ml-weights:local", **never}],
            volumes=[{"name": "v", "image": {"reference": "data:local", "pullPolicy": "Never"}}],
        )
        given["spec"]["containers"].append({"name": "app", "image": "runner:local", **never})
        found = redirected.create(given)
        assert images(found) == [f"{DOMAIN}/library/busybox:1.37", "runner:local"]
        assert images(found, "initContainers") == ["ml-weights:local"]
        volumes = {each["name"]: each for each in found["spec"]["volumes"]}
        assert volumes["v"]["image"]["reference"] == "data:local"
        assert originals(found) == {"c0": "busybox:1.37"}

    def test_an_ephemeral_container_with_one_is_left(self, redirected: Cluster) -> None:
        with stored(redirected, named("preloaded", "quay.io/a/b")) as name:
            redirected.kubectl(
                "debug", name, "--image=tools:local", "--image-pull-policy=Never", "--container=d"
            )
            found = redirected.pod(name)
            assert images(found, "ephemeralContainers") == ["tools:local"]


OPERATED = {
    "aerospike.com/cr": "aerospike/aerospike-server-enterprise:8.0.0.2",
    "application=spilo": "acme/spilo-17:4.0-p2",
    "apps.kubeblocks.io/component-name": "acme/mysql:8",
    "cnpg.io/cluster": "acme/postgresql:17",
    "foundationdb.org/fdb-cluster-name": "foundationdb/foundationdb:7.3.63",
    "olm.catalogSource": "acme/catalog:v1",
    "opensearch.org/opensearch-cluster": "opensearchproject/opensearch:3",
    "opster.io/opensearch-cluster": "docker.io/opensearchproject/opensearch:2.19.1",
}
"""An image that each operator writes, by the label of its Pods."""


def deletions(cluster: Cluster, labels: dict[str, str], image: str) -> int:
    """How often an operator deletes its Pod for another image than it wrote, in five looks at it.

    Where the Pod is missing it creates it, each time under another name: what ends a Pod for
    kwok deletes by name, now and then the next Pod of the same name too.
    """
    api: Any = client.CoreV1Api(cluster.api)
    name, deleted = "", 0
    for look in range(5):
        if not name:
            metadata = {"name": f"operated-{look}", "labels": labels}
            name = api.create_namespaced_pod("default", pod(image, metadata=metadata)).metadata.name
        if api.read_namespaced_pod(name, "default").spec.containers[0].image != image:
            api.delete_namespaced_pod(name, "default", grace_period_seconds=0)
            name, deleted = "", deleted + 1
    if name:
        api.delete_namespaced_pod(name, "default", grace_period_seconds=0)
    return deleted


@pytest.mark.parametrize("label", PODS_LEFT_ALONE)
def test_an_operator_that_compares_images_never_deletes_a_pod(
    redirected: Cluster, label: str
) -> None:
    key, _, value = label.partition("=")
    assert redirected.admitted(OPERATED[label]) != OPERATED[label]
    assert deletions(redirected, {key: value or "some"}, OPERATED[label]) == 0


def test_without_its_label_it_deletes_the_pod_whenever_it_looks(redirected: Cluster) -> None:
    assert deletions(redirected, {}, OPERATED["application=spilo"]) == 5


def test_a_label_of_an_operators_with_another_value_is_no_sign(redirected: Cluster) -> None:
    found = redirected.create(labelled({"application": "shop"}, "acme/app:1"))
    assert images(found) == [f"{DOMAIN}/acme/app:1"]


@pytest.mark.parametrize(
    "host", ["docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"]
)
def test_each_of_docker_hubs_hosts_is_docker_hubs(redirected: Cluster, host: str) -> None:
    assert redirected.admitted(f"{host}/library/nginx:1.29") == f"{DOMAIN}/library/nginx:1.29"


def test_a_namespace_that_only_begins_with_kube_is_redirected(redirected: Cluster) -> None:
    redirected.kubectl("create", "namespace", "kube-flannel", check=False)
    redirected.await_service_account("kube-flannel")
    found = redirected.create(pod("nginx:1.29"), "kube-flannel")
    assert images(found) == [f"{DOMAIN}/library/nginx:1.29"]


class TestGitOps:
    """A Pod in git that a tool applies again and again."""

    def test_a_server_side_diff_is_empty_and_a_client_side_one_is_not(
        self, redirected: Cluster
    ) -> None:
        smoke = named("smoke", "busybox:1.37")
        owner = ("--server-side", "--field-manager=argocd-controller")
        try:
            redirected.kubectl("apply", *owner, "--force-conflicts", "-f", "-", document=smoke)
            applied = redirected.pod("smoke")
            assert images(applied) == [f"{DOMAIN}/library/busybox:1.37"]
            redirected.kubectl("apply", *owner, "--force-conflicts", "-f", "-", document=smoke)
            again = redirected.pod("smoke")
            assert again["spec"] == applied["spec"]
            assert originals(again) == {"c0": "busybox:1.37"}
            seen = redirected.kubectl("diff", *owner, "-f", "-", document=smoke, check=False)
            assert seen.returncode == 0, seen.stdout
        finally:
            redirected.delete(smoke, "default")


class TestOthersPolicies:
    """They see the Pod as it is after the redirect."""

    def test_one_that_allows_registries_has_to_allow_the_proxy(self, redirected: Cluster) -> None:
        rule, binding = ALLOWS_DOCKER_HUB
        for each in (rule, binding):
            redirected.apply(each)
        try:
            wait.until(lambda: _denied(redirected, "quay.io/a/b"), "it denies")
            assert _denied(redirected, "nginx:1.29")
            assert images(redirected.create(labelled(OPTED_OUT, "nginx:1.29"))) == ["nginx:1.29"]
        finally:
            for each in (binding, rule):
                redirected.delete(each)
            wait.until(lambda: not _denied(redirected, "quay.io/a/b"), "it is gone")

    def test_one_that_verifies_images_by_docker_hubs_name_may_be_passed_over(
        self, redirected: Cluster, engine: Engine, request: pytest.FixtureRequest
    ) -> None:
        """Kyverno's webhooks are called by name, a ClusterPolicy's redirect after its verifyImages;
        the other engines come before it, and no signature is looked for any more: see Limits.
        """
        request.getfixturevalue("kyverno")
        as_written = labelled(OPTED_OUT, "acme/app:1")
        redirected.apply(VERIFIES_DOCKER_HUB)
        try:
            wait.until(lambda: _unverified(redirected, as_written), "it denies", timeout=120)
            verified = _unverified(redirected, pod("acme/app:1"))
            assert verified == (engine is Engine.CLUSTER_POLICY)
        finally:
            redirected.delete(VERIFIES_DOCKER_HUB)
            wait.until(lambda: not _unverified(redirected, as_written), "it is gone", timeout=120)


def _unverified(cluster: Cluster, written: dict[str, Any]) -> bool:
    try:
        cluster.create(written)
    except ApiException as error:
        return "docker.io/acme/app:1" in str(error.body)
    return False


def _denied(cluster: Cluster, image: str) -> bool:
    try:
        cluster.create(pod(image))
    except ApiException as error:
        return "Docker Hub only" in str(error.body)
    return False
