"""Logins for Pods redirected to a private namespace, kept by a real Kyverno."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client

from components.pull_credentials import SECRET, SOURCE
from rehearsal.deploy.stack import outputs_of
from rehearsal.stage import Run, api_client

_SECONDS = 20


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


def until(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"not after {_SECONDS} s")


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
    assert until(lambda: login_in(api, namespace)) == password


def test_a_pod_of_a_private_image_is_given_the_login_beside_its_own(
    api: client.CoreV1Api, namespace: str
) -> None:
    admitted = until(
        lambda: (
            (pod := pod_of(api, namespace, "bitnami/redis:7.2", "mine"))
            and pod.spec.containers[0].image != "bitnami/redis:7.2"
            and pod
        )
    )
    assert pull_secrets(admitted) == ["mine", SECRET]


def test_a_pod_of_a_public_image_is_given_no_login(api: client.CoreV1Api, namespace: str) -> None:
    assert pull_secrets(pod_of(api, namespace, "nginx")) == []


def test_a_pod_that_is_not_redirected_is_given_no_login(
    api: client.CoreV1Api, namespace: str
) -> None:
    assert pull_secrets(pod_of(api, namespace, "quay.io/bitnami/redis:7.2", "mine")) == ["mine"]


def test_service_accounts_are_left_as_they_are(api: client.CoreV1Api, namespace: str) -> None:
    account: Any = until(
        lambda: (
            api.list_namespaced_service_account(
                namespace, field_selector="metadata.name=default"
            ).items
        )
    )[0]
    assert not account.image_pull_secrets


@pytest.mark.parametrize("excluded", ["kube-system", "kyverno"])
def test_an_excluded_namespace_gets_no_login(api: client.CoreV1Api, excluded: str) -> None:
    assert login_in(api, excluded) is None


def test_a_changed_password_reaches_every_copy(
    api: client.CoreV1Api, namespace: str, deployed: Run
) -> None:
    until(lambda: login_in(api, namespace))
    source: Any = api.read_namespaced_secret(SECRET, SOURCE)
    before = source.data[".dockerconfigjson"]
    config = json.loads(base64.b64decode(before))
    (login,) = config["auths"].values()
    login["password"] = "Rotated-1"
    rotated = base64.b64encode(json.dumps(config).encode()).decode()
    api.patch_namespaced_secret(SECRET, SOURCE, {"data": {".dockerconfigjson": rotated}})
    try:
        until(lambda: login_in(api, namespace) == "Rotated-1")
    finally:
        api.patch_namespaced_secret(SECRET, SOURCE, {"data": {".dockerconfigjson": before}})
    password = outputs_of(deployed)["login"].value["password"]
    until(lambda: login_in(api, namespace) == password)
