"""The emulator believes signatures of the official SDK, and nothing else."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any
from unittest import mock

import httpx
import pytest
from volcenginesdkcore.signv4 import SignerV4

from tests.support.volcengine_stage import ACCESS_KEY, SECRET_KEY, Refused, RunningEmulator

pytest_plugins = ("tests.support.volcengine_fixtures",)

LIST = {"Action": "ListRegistries", "Version": "2022-05-12"}
ADDRESSES = {"Action": "DescribeEipAddresses", "Version": "2020-04-01"}
BODY = '{"PageNumber": 1, "PageSize": 10}'
Request = dict[str, Any]


def signed(
    api: RunningEmulator,
    *,
    method: str = "POST",
    query: Mapping[str, str] = LIST,
    body: str = BODY,
    service: str = "cr",
    signed_at: dt.datetime | None = None,
    host: bool = True,
) -> Request:
    """A request as the SDK's own signer signs it, as the arguments of `httpx.request`."""
    headers = {"Content-Type": "application/json"}
    if host:
        headers["Host"] = api.url.removeprefix("http://")
    clock = mock.Mock(wraps=dt.datetime)
    clock.utcnow.return_value = signed_at or dt.datetime.now(dt.UTC)
    with mock.patch("volcenginesdkcore.signv4.datetime.datetime", clock):
        SignerV4.sign(
            *("/", method, headers, body, None, query, ACCESS_KEY, SECRET_KEY),
            *("cn-beijing", service),
        )
    return {
        "method": method,
        "url": f"{api.url}/",
        "params": dict(query),
        "content": body.encode(),
        "headers": headers,
    }


def answer(request: Request) -> tuple[int, str]:
    """The status, and the code of the error."""
    found = httpx.request(**request, trust_env=False)
    return found.status_code, found.json()["ResponseMetadata"].get("Error", {}).get("Code", "")


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param({}, id="json-body"),
        pytest.param({"body": ""}, id="no-body"),
        pytest.param({"body": '{"Name": "镜像"}'}, id="body-not-ascii"),
        pytest.param(
            {
                "method": "GET",
                "query": {**ADDRESSES, "EipAddresses.1": "1", "Empty": "", "Text": "a b+c/ü~*'"},
                "body": "",
                "service": "vpc",
            },
            id="query-that-needs-encoding",
        ),
    ],
)
def test_what_the_sdk_signs_is_believed(api: RunningEmulator, request_: dict[str, Any]) -> None:
    assert answer(signed(api, **request_)) == (200, "")


def header(name: str, value: str) -> Callable[[Request], Request]:
    return lambda request: {"headers": {**request["headers"], name: value}}


def without(name: str) -> Callable[[Request], Request]:
    return lambda request: {
        "headers": {key: value for key, value in request["headers"].items() if key != name}
    }


MISMATCH = (401, "SignatureDoesNotMatch")


@pytest.mark.parametrize(
    ("tamper", "expected"),
    [
        pytest.param(lambda _: {"content": b'{"PageNumber": 2}'}, MISMATCH, id="body"),
        pytest.param(lambda _: {"content": b""}, MISMATCH, id="no-body"),
        pytest.param(
            lambda _: {"params": {**LIST, "Action": "DeleteRegistry"}}, MISMATCH, id="action"
        ),
        pytest.param(lambda _: {"params": {**LIST, "More": "1"}}, MISMATCH, id="query-added"),
        pytest.param(lambda _: {"method": "PUT"}, MISMATCH, id="method"),
        pytest.param(lambda each: {"url": each["url"] + "other"}, MISMATCH, id="path"),
        pytest.param(header("Host", "evil.example"), MISMATCH, id="host"),
        pytest.param(header("Content-Type", "text/plain"), MISMATCH, id="content-type"),
        pytest.param(header("X-Content-Sha256", "0" * 64), MISMATCH, id="body-hash"),
        pytest.param(without("Authorization"), (401, "MissingAuthenticationToken"), id="unsigned"),
        pytest.param(
            header("Authorization", "Basic eDp5"), (400, "InvalidAuthorization"), id="basic"
        ),
        pytest.param(without("X-Date"), (400, "InvalidTimestamp"), id="no-date"),
        pytest.param(header("X-Date", "yesterday"), (400, "InvalidTimestamp"), id="date-in-words"),
    ],
)
def test_a_request_changed_after_signing_is_refused(
    api: RunningEmulator, tamper: Callable[[Request], Request], expected: tuple[int, str]
) -> None:
    request = signed(api)
    assert answer({**request, **tamper(request)}) == expected


def test_a_signature_must_cover_the_host(api: RunningEmulator) -> None:
    assert answer(signed(api, host=False)) == MISMATCH


@pytest.mark.parametrize(
    ("minutes", "fresh"), [(-16, False), (-14, True), (14, True), (16, False), (-1440, False)]
)
def test_a_signature_is_good_for_a_quarter_of_an_hour(
    api: RunningEmulator, minutes: int, fresh: bool
) -> None:
    request = signed(api, signed_at=dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes))
    assert answer(request) == ((200, "") if fresh else (400, "InvalidTimestamp"))


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        pytest.param({"ak": "AKother"}, "InvalidAccessKey", id="unknown-access-key"),
        pytest.param({"sk": "other"}, "SignatureDoesNotMatch", id="wrong-secret-key"),
    ],
)
def test_the_official_sdk_with_wrong_keys_gets_nowhere(
    api: RunningEmulator, keys: dict[str, str], code: str
) -> None:
    refused = api.refusal("CreateRegistry", Name="mirror", client=api.client(**keys))
    assert refused == Refused(status=401, code=code)
    assert api.call("ListRegistries")["TotalCount"] == 0
