"""Logins for Pods redirected to a private namespace, kept by a real Kyverno."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from kubernetes import client

from components.labels import NAMESPACE
from components.pull_credentials import SECRET
from rehearsal import wait
from rehearsal.deploy.stack import outputs_of
from rehearsal.stage import Run, api_client


@pytest.fixture(scope="module")
def api(deployed: Run) -> client.CoreV1Api:
    return client.CoreV1Api(api_client(deployed))


@pytest.fixture
def namespace(api: client.CoreV1Api) -> Iterator[str]:
    """A namespace made after the policy."""
    name = f"later-{secrets.token_hex(3)}"
    api.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=name)))
    yield name
    api.delete_namespace(name)


def login_in(api: client.CoreV1Api, namespace: str) -> str | None:
    """The password of the copy in a namespace; None while there is no copy."""
    try:
        copy: Any = api.read_namespaced_secret(SECRET, namespace)
    except client.ApiException as error:
        if error.status != 404:
            raise
        return None
    config = json.loads(base64.b64decode(copy.data[".dockerconfigjson"]))
    (login,) = config["auths"].values()
    return str(login["password"])


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


def test_a_namespace_made_after_the_policy_gets_the_login(
    api: client.CoreV1Api, namespace: str, deployed: Run
) -> None:
    password = outputs_of(deployed)["login"].value["password"]
    assert wait.until(lambda: login_in(api, namespace), "the login is copied") == password


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
def test_an_excluded_namespace_gets_no_login(api: client.CoreV1Api, excluded: str) -> None:
    assert login_in(api, excluded) is None


def test_a_changed_password_reaches_every_copy(
    api: client.CoreV1Api, namespace: str, deployed: Run
) -> None:
    wait.until(lambda: login_in(api, namespace), "the login is copied")
    source: Any = api.read_namespaced_secret(SECRET, NAMESPACE)
    before = source.data[".dockerconfigjson"]
    config = json.loads(base64.b64decode(before))
    (login,) = config["auths"].values()
    login["password"] = "Rotated-1"
    rotated = base64.b64encode(json.dumps(config).encode()).decode()
    api.patch_namespaced_secret(SECRET, NAMESPACE, {"data": {".dockerconfigjson": rotated}})
    try:
        wait.until(lambda: login_in(api, namespace) == "Rotated-1", "the new password is copied")
    finally:
        api.patch_namespaced_secret(SECRET, NAMESPACE, {"data": {".dockerconfigjson": before}})
    password = outputs_of(deployed)["login"].value["password"]
    wait.until(lambda: login_in(api, namespace) == password, "the old password is copied")
