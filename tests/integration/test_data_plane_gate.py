"""The gate of a proxy registry, request by request: logins, refusals and faults."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from rehearsal.cloud.registries.client import PullError, RegistryLogin
from rehearsal.cloud.registries.login import AuthMode
from tests.support.volcengine_stage import Stage

pytest_plugins = ("tests.support.volcengine_fixtures",)

NGINX = "/v2/library/nginx/manifests/latest"
REDIS = "/v2/bitnami/redis/manifests/7.2"
NOWHERE = "/v2/nowhere/app/manifests/latest"
ANY_MANIFEST = {"Accept": "application/vnd.oci.image.index.v1+json"}


@dataclass(frozen=True, kw_only=True)
class Mirror:
    """A running proxy registry with library (Private) and bitnami (Public)."""

    stage: Stage
    domain: str
    login: RegistryLogin

    @property
    def basic(self) -> tuple[str, str]:
        return self.login.username, self.login.password

    def get(self, path: str, **settings: Any) -> httpx.Response:
        settings["headers"] = {**ANY_MANIFEST, **settings.get("headers", {})}
        with self.stage.http(self.domain) as client:
            return client.get(path, **settings)

    def token(self, scope: str, **settings: Any) -> str:
        answer = self.get("/service/token", params={"scope": scope}, **settings)
        assert answer.status_code == 200
        return str(answer.json()["token"])

    def fault(self, **fault: Any) -> None:
        self.stage.api.fault(self.domain, **fault)

    def heal(self) -> None:
        self.stage.api.fault(self.domain)


def make_mirror(stage: Stage) -> Mirror:
    login = stage.api.make_proxy("mirror", {"library": "Private", "bitnami": "Public"})
    return Mirror(stage=stage, domain=login.domain, login=login)


@pytest.fixture
def mirror(stage: Stage) -> Mirror:
    return make_mirror(stage)


@pytest.mark.parametrize(
    ("mode", "login", "path", "status"),
    [
        ("basic", "none", NGINX, 401),
        ("basic", "none", REDIS, 200),
        ("basic", "none", NOWHERE, 401),
        ("basic", "none", "/v2/", 401),
        ("basic", "basic", "/v2/", 200),
        ("basic", "basic", NGINX, 200),
        ("basic", "basic", NOWHERE, 404),
        ("basic", "wrong", NGINX, 401),
        ("basic", "wrong", REDIS, 401),
        ("bearer", "none", NGINX, 401),
        ("bearer", "basic", NGINX, 401),
        ("bearer", "basic", REDIS, 401),
        ("bearer", "token", NGINX, 200),
        ("bearer", "token", "/v2/", 200),
        ("bearer", "token", NOWHERE, 404),
        ("bearer", "other-token", NGINX, 401),
        ("bearer", "made-up", REDIS, 401),
        ("both", "basic", NGINX, 200),
        ("both", "token", NGINX, 200),
        ("both", "none", NGINX, 401),
    ],
    ids=str,
)
def test_who_may_pull_what(
    start_stage: Callable[..., Stage], mode: str, login: str, path: str, status: int
) -> None:
    mirror = make_mirror(start_stage(auth=AuthMode(mode)))
    settings: dict[str, Any] = {}
    if login == "basic":
        settings["auth"] = mirror.basic
    elif login == "wrong":
        settings["auth"] = (mirror.login.username, "Wr0ng-pass")
    elif login == "made-up":
        settings["headers"] = {"Authorization": "Bearer made-up"}
    elif login != "none":
        repository = "nginx" if login == "token" else "busybox"
        token = mirror.token(f"repository:library/{repository}:pull", auth=mirror.basic)
        settings["headers"] = {"Authorization": f"Bearer {token}"}
    answer = mirror.get(path, **settings)
    assert answer.status_code == status
    challenge = answer.headers.get("www-authenticate", "")
    expected = {"basic": "Basic ", "bearer": "Bearer ", "both": "Bearer "}[mode]
    assert challenge.startswith(expected) == (status == 401)
    if status >= 400:
        code = {401: "UNAUTHORIZED", 404: "NAME_UNKNOWN"}[status]
        assert [error["code"] for error in answer.json()["errors"]] == [code]


def test_a_wrong_password_gets_no_token(mirror: Mirror) -> None:
    answer = mirror.get("/service/token", auth=(mirror.login.username, "Wr0ng-pass"))
    assert answer.status_code == 401


def test_a_token_ends_when_the_password_is_changed(mirror: Mirror) -> None:
    token = mirror.token("repository:library/nginx:pull", auth=mirror.basic)
    bearer = {"Authorization": f"Bearer {token}"}
    assert mirror.get(NGINX, headers=bearer).status_code == 200
    mirror.stage.api.set_password("mirror", "Passw0rd-2")
    assert mirror.get(NGINX, headers=bearer).status_code == 401


def test_the_challenge_names_the_token_service_and_the_scope(mirror: Mirror) -> None:
    assert mirror.get(NGINX).headers["www-authenticate"] == (
        f'Bearer realm="https://{mirror.domain}/service/token",service="{mirror.domain}",'
        'scope="repository:library/nginx:pull"'
    )


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_a_proxy_registry_takes_no_pushes(mirror: Mirror, method: str) -> None:
    with mirror.stage.http(mirror.domain) as client:
        answer = client.request(method, NGINX, auth=mirror.basic)
    assert answer.status_code == 405
    assert answer.json()["errors"][0]["code"] == "UNSUPPORTED"


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1/", "/v2/_catalog", "/v2/nginx/manifests/latest", "/v2/library/nginx",
        "/v2/library/../nowhere/app/manifests/latest", "/v2/library%2Fnginx/x/manifests/latest",
    ],
)  # fmt: skip
def test_a_path_that_is_no_content_of_a_namespace_is_not_served(mirror: Mirror, path: str) -> None:
    assert mirror.get(path, auth=mirror.basic).status_code == 404


def test_a_part_of_a_blob_can_be_asked_for(mirror: Mirror) -> None:
    index = mirror.get(NGINX, auth=mirror.basic).json()
    path = f"/v2/library/nginx/manifests/{index['manifests'][0]['digest']}"
    accept = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    manifest = mirror.get(path, auth=mirror.basic, headers=accept).json()
    layer = f"/v2/library/nginx/blobs/{manifest['layers'][0]['digest']}"
    whole = mirror.get(layer, auth=mirror.basic).content
    part = mirror.get(layer, auth=mirror.basic, headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole[10:20])


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_a_status_fault_meets_every_request_until_it_is_healed(mirror: Mirror, status: int) -> None:
    mirror.fault(kind="status", status=status)
    for _ in range(2):
        assert mirror.get(NGINX, auth=mirror.basic).status_code == status
    mirror.heal()
    assert mirror.get(NGINX, auth=mirror.basic).status_code == 200


def test_a_dropped_request_is_logged_with_no_status(mirror: Mirror) -> None:
    mirror.fault(kind="drop")
    with pytest.raises(httpx.RemoteProtocolError):
        mirror.get(NGINX, auth=mirror.basic)
    assert mirror.stage.access_log(mirror.domain)[-1].status == 0


def test_a_wrong_digest_is_a_body_of_the_right_length_with_another_digest(mirror: Mirror) -> None:
    image = f"{mirror.domain}/library/nginx:latest"
    digest = mirror.stage.client.pull(image, mirror.login)
    mirror.fault(kind="wrong-digest")
    index = mirror.get(NGINX, auth=mirror.basic)
    assert f"sha256:{hashlib.sha256(index.content).hexdigest()}" == digest
    with pytest.raises(PullError, match=r"mismatch|error verifying"):
        mirror.stage.client.pull(image, mirror.login)
    mirror.heal()
    assert mirror.stage.client.pull(image, mirror.login) == digest


def connect(mirror: Mirror) -> socket.socket:
    shown = mirror.stage.api.administer("GET", "registries")[0]
    return socket.create_connection((shown["host"], shown["port"]), timeout=0.5)


def test_a_refusing_registry_has_nothing_that_listens(mirror: Mirror) -> None:
    mirror.fault(kind="refuse")
    with pytest.raises(ConnectionRefusedError):
        connect(mirror)
    mirror.heal()
    assert mirror.get(NGINX, auth=mirror.basic).status_code == 200


def test_a_black_hole_answers_no_connection_attempt(mirror: Mirror) -> None:
    mirror.fault(kind="black-hole")
    for _ in range(3):
        with pytest.raises(TimeoutError):
            connect(mirror)
    mirror.fault(kind="refuse")
    with pytest.raises(ConnectionRefusedError):
        connect(mirror)
    mirror.heal()
    connect(mirror).close()
    assert mirror.get(NGINX, auth=mirror.basic).status_code == 200


def test_a_fault_that_is_none_is_refused(mirror: Mirror) -> None:
    answer = httpx.put(
        f"{mirror.stage.api.url}/-/registries/{mirror.domain}/fault",
        json={"kind": "explode"},
        trust_env=False,
    )
    assert answer.status_code == 400
