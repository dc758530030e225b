"""Logins for Pods of private namespaces, kept by a real Kyverno with either kind of policy."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kubernetes import client, watch

from components.labels import NAMESPACE
from components.pull_credentials import ROLE, SECRET
from components.types import Engine
from rehearsal import wait
from rehearsal.deploy.stack import Runner, deploy, engine_config, outputs_of
from rehearsal.progress import Progress
from rehearsal.proof import login_of
from rehearsal.stage import Run, api_client

DOMAIN = "dockerhub-rehearsal-cn-beijing.cr.volces.com"
KINDS = {
    Engine.CLUSTER_POLICY: ("kyverno.io", "clusterpolicies"),
    Engine.MUTATING_POLICY: ("policies.kyverno.io", "generatingpolicies"),
}
"""What copies the login beside each redirect policy."""


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest, deployed: Run) -> Iterator[Engine]:
    """The stack deployed with each of Kyverno's engines in turn."""
    put(deployed, request.param)
    yield request.param
    deploy(deployed, Runner.EMBEDDED, Progress())


@pytest.fixture(scope="module")
def api(deployed: Run) -> client.CoreV1Api:
    return client.CoreV1Api(api_client(deployed))


@pytest.fixture
def namespace(api: client.CoreV1Api, engine: Engine) -> Iterator[str]:
    """A namespace created after the policy."""
    del engine
    with new_namespace(api) as name:
        yield name


@contextmanager
def new_namespace(api: client.CoreV1Api) -> Iterator[str]:
    name = f"later-{secrets.token_hex(3)}"
    api.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    yield name
    api.delete_namespace(name)


def put(run: Run, engine: Engine, **config: str) -> None:
    """Deploy the stack with this engine and, by `__` for a dot, other settings."""
    others = {path.replace("__", "."): value for path, value in config.items()}
    deploy(run, Runner.EMBEDDED, Progress(), {**engine_config(engine), **others})


def login_in(api: client.CoreV1Api, namespace: str) -> str | None:
    """The password of the copy in a namespace; None while there is no copy."""
    try:
        copy: Any = api.read_namespaced_secret(SECRET, namespace)
    except client.ApiException as error:
        if error.status != 404:
            raise
        return None
    config = json.loads(base64.b64decode(copy.data[".dockerconfigjson"]))
    (password,) = {str(each["password"]) for each in config["auths"].values()}
    return password


def copies(api: client.CoreV1Api) -> set[str]:
    """The namespaces with a copy of the login."""
    found: Any = api.list_secret_for_all_namespaces(field_selector=f"metadata.name={SECRET}")
    return {each.metadata.namespace for each in found.items} - {NAMESPACE}


@contextmanager
def watched(api: client.CoreV1Api) -> Iterator[list[str]]:
    """The namespaces whose copy went, for however short a time, while the context lasted."""
    lost: list[str] = []
    began: Any = api.list_secret_for_all_namespaces(limit=1)
    yield lost
    since = watch.Watch().stream(  # type: ignore[no-untyped-call]
        api.list_secret_for_all_namespaces,
        field_selector=f"metadata.name={SECRET}",
        resource_version=began.metadata.resource_version,
        timeout_seconds=2,
    )
    lost += [each["object"].metadata.namespace for each in since if each["type"] == "DELETED"]


def change(api: client.CoreV1Api, namespace: str, password: str) -> None:
    """Put another password into the Secret of a namespace, as somebody's hand would."""
    config = {"auths": {"x.example": {"username": "u", "password": password}}}
    text = base64.b64encode(json.dumps(config).encode()).decode()
    api.patch_namespaced_secret(SECRET, namespace, {"data": {".dockerconfigjson": text}})


def pod_of(api: client.CoreV1Api, namespace: str, image: str, *own: str) -> Any:
    pod: Any = {
        "metadata": {"generateName": "pod-"},
        "spec": {
            "containers": [{"name": "main", "image": image}],
            "imagePullSecrets": [{"name": name} for name in own],
        },
    }
    return api.create_namespaced_pod(namespace, pod, dry_run="All")


def pull_secrets(pod: Any) -> list[str]:
    return [each.name for each in pod.spec.image_pull_secrets or []]


def password_of(run: Run) -> str:
    return login_of(run, outputs_of(run)).password


def test_a_namespace_made_after_the_policy_gets_the_login(
    api: client.CoreV1Api, namespace: str, deployed: Run
) -> None:
    copied = wait.until(lambda: login_in(api, namespace), "the login is copied")
    assert copied == password_of(deployed)


def test_a_pod_of_a_private_image_is_given_the_login_beside_its_own(
    api: client.CoreV1Api, namespace: str
) -> None:
    def redirected() -> Any:
        pod = pod_of(api, namespace, "bitnami/redis:7.2", "mine")
        return pod if pod.spec.containers[0].image != "bitnami/redis:7.2" else None

    admitted = wait.until(redirected, "bitnami/redis is redirected")
    assert pull_secrets(admitted) == ["mine", SECRET]


def test_a_pod_of_a_public_image_is_given_no_login(api: client.CoreV1Api, namespace: str) -> None:
    assert pull_secrets(pod_of(api, namespace, "nginx")) == []


def test_a_pod_that_is_not_redirected_is_given_no_login(
    api: client.CoreV1Api, namespace: str
) -> None:
    assert pull_secrets(pod_of(api, namespace, "quay.io/bitnami/redis:7.2", "mine")) == ["mine"]


def test_service_accounts_are_left_as_they_are(api: client.CoreV1Api, namespace: str) -> None:
    named = "metadata.name=default"
    (account,) = wait.until(
        lambda: api.list_namespaced_service_account(namespace, field_selector=named).items,
        "the namespace has its service account",
    )
    assert not account.image_pull_secrets


@pytest.mark.parametrize("excluded", ["kube-system", "kyverno"])
def test_an_excluded_namespace_gets_no_login(
    api: client.CoreV1Api, engine: Engine, excluded: str
) -> None:
    del engine
    assert login_in(api, excluded) is None


def test_a_copy_that_is_changed_or_deleted_is_put_right(
    api: client.CoreV1Api, namespace: str, deployed: Run
) -> None:
    password = password_of(deployed)
    wait.until(lambda: login_in(api, namespace) == password, "the login is copied")

    def is_put_right() -> bool:
        change(api, namespace, "Somebody-1")  # again: Kyverno does not know a copy at once
        return wait.until(lambda: login_in(api, namespace) == password, "it is", timeout=5)

    wait.until(is_put_right, "the copy is put right", ignoring=wait.NotInTimeError)
    before: Any = api.read_namespaced_secret(SECRET, namespace)
    api.delete_namespaced_secret(SECRET, namespace)
    wait.until(lambda: login_in(api, namespace) == password, "the copy is back")
    after: Any = api.read_namespaced_secret(SECRET, namespace)
    assert after.metadata.uid != before.metadata.uid


def test_a_changed_login_reaches_every_copy(
    api: client.CoreV1Api, engine: Engine, deployed: Run
) -> None:
    """Those there before it is changed, and those created while it was another one."""
    password = password_of(deployed)
    change(api, NAMESPACE, "Rotated-1")
    with new_namespace(api) as later:
        wait.until(lambda: login_in(api, later) == "Rotated-1", "what is there now is copied")
        with watched(api) as lost:
            put(deployed, engine)
            wait.until(lambda: login_in(api, later) == password, "the stack's login is copied")
        assert lost == []


def test_a_source_that_was_deleted_and_is_made_again_reaches_every_namespace(
    api: client.CoreV1Api, namespace: str, engine: Engine, deployed: Run
) -> None:
    """Without the source copies stay, and new namespaces have none."""
    wait.until(lambda: login_in(api, namespace), "the login is copied")
    with watched(api) as lost:
        api.delete_namespaced_secret(SECRET, NAMESPACE)
        with new_namespace(api) as without:
            assert login_in(api, without) is None
            put(deployed, engine)
            password = password_of(deployed)
            wait.until(lambda: login_in(api, without) == password, "the login is copied")
            assert login_in(api, namespace) == password
    assert [each for each in lost if each not in {NAMESPACE, without}] == []


def test_a_namespace_that_opts_out_later_loses_its_copy_and_gets_it_back(
    api: client.CoreV1Api, namespace: str
) -> None:
    wait.until(lambda: login_in(api, namespace), "the login is copied")
    label = "vke-dockerhub-proxy/redirect"
    api.patch_namespace(namespace, {"metadata": {"labels": {label: "disabled"}}})
    wait.until(lambda: login_in(api, namespace) is None, "the copy is gone")
    api.patch_namespace(namespace, {"metadata": {"labels": {label: None}}})
    wait.until(lambda: login_in(api, namespace), "the login is copied again")


def test_exclusions_change_in_one_update_and_no_other_namespace_is_without_its_login(
    api: client.CoreV1Api, engine: Engine, deployed: Run
) -> None:
    with new_namespace(api) as one, new_namespace(api) as other:
        for each in (one, other):
            wait.until(lambda each=each: login_in(api, each), "the login is copied")  # type: ignore[misc]
        with watched(api) as lost:
            put(deployed, engine, redirect__exclude__namespaces=f"[{one}]")
            with new_namespace(api) as later:
                wait.until(lambda: login_in(api, later), "the login is copied")
            put(deployed, engine, redirect__exclude__namespaces=f"[{other}]")
            wait.until(lambda: login_in(api, one), "the login is copied")
            put(deployed, engine)
            wait.until(lambda: login_in(api, other), "the login is copied")
        assert set(lost) - {later} <= {one, other}
        if engine is Engine.CLUSTER_POLICY:  # as its README says, the copy stays
            assert set(lost) - {later} == set()


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"login__pods": "addon"}, id="another-way-of-logins"),
        pytest.param({"redirect__enabled": "false"}, id="redirect-switched-off"),
    ],
)
def test_no_copy_is_left_once_the_stack_needs_none(
    api: client.CoreV1Api, namespace: str, engine: Engine, deployed: Run, settings: Any
) -> None:
    wait.until(lambda: login_in(api, namespace), "the login is copied")
    put(deployed, engine, **settings)
    assert copies(api) == set()
    put(deployed, engine)
    wait.until(lambda: login_in(api, namespace), "the login is copied again")


def test_no_copy_is_left_where_kyverno_does_not_answer_any_more(
    api: client.CoreV1Api, namespace: str, engine: Engine, deployed: Run
) -> None:
    """What a destroy does to the copies is Kubernetes' own work: they go before their owner."""
    wait.until(lambda: login_in(api, namespace), "the login is copied")
    group, plural = KINDS[engine]
    version = "v1"
    policies = client.CustomObjectsApi(api.api_client)
    policies.delete_cluster_custom_object(group, version, plural, SECRET)
    roles = client.RbacAuthorizationV1Api(api.api_client)
    apps = client.AppsV1Api(api.api_client)
    scale = {"spec": {"replicas": 0}}
    apps.patch_namespaced_deployment("kyverno-background-controller", "kyverno", scale)
    roles.delete_cluster_role(ROLE, propagation_policy="Foreground")
    gone = f"metadata.name={ROLE}"
    wait.until(lambda: not roles.list_cluster_role(field_selector=gone).items, "the role is gone")
    assert copies(api) == set()
    scale = {"spec": {"replicas": 2}}
    apps.patch_namespaced_deployment("kyverno-background-controller", "kyverno", scale)
    put(deployed, engine)
    wait.until(lambda: login_in(api, namespace), "the login is copied again")


def test_the_step_from_clusterpolicy_to_mutatingpolicy_leaves_no_moment_without_either(
    api: client.CoreV1Api, deployed: Run
) -> None:
    """No Pod unredirected, no namespace without its login, and nothing of the old kind left."""
    put(deployed, Engine.CLUSTER_POLICY)
    own = client.CoreV1Api(api_client(deployed))
    stopped = threading.Event()
    admitted: list[tuple[str, list[str]]] = []

    def ask(namespace: str) -> None:
        while not stopped.is_set():
            for image in ("nginx", "bitnami/redis:7.2"):
                pod = pod_of(own, namespace, image)
                admitted.append((pod.spec.containers[0].image, pull_secrets(pod)))

    with new_namespace(api) as namespace:
        wait.until(lambda: login_in(api, namespace), "the login is copied")
        asking = threading.Thread(target=ask, args=[namespace])
        asking.start()
        try:
            with watched(api) as lost:
                put(deployed, Engine.MUTATING_POLICY)
                with new_namespace(api) as later:
                    wait.until(lambda: login_in(api, later), "the login is copied")
        finally:
            stopped.set()
            asking.join()
        assert set(lost) - {later} == set()
    assert len(admitted) > 50
    assert {image for image, _ in admitted} == {
        f"{DOMAIN}/library/nginx",
        f"{DOMAIN}/bitnami/redis:7.2",
    }
    assert all(logins == [SECRET] for image, logins in admitted if "bitnami" in image)
    policies = client.CustomObjectsApi(api.api_client)
    for plural in ("clusterpolicies", "policies"):
        found: Any = policies.list_cluster_custom_object("kyverno.io", "v1", plural)
        assert found["items"] == []
    deploy(deployed, Runner.EMBEDDED, Progress())
