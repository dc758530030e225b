"""The emulator believes signatures of the official SDK, and nothing else."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from unittest import mock

import httpx
import pytest
import volcenginesdkcore
from volcenginesdkcore.rest import ApiException
from volcenginesdkcore.signv4 import SignerV4

from rehearsal.cloud.api import signature
from rehearsal.cloud.api.errors import ApiError
from rehearsal.cloud.api.signature import Caller, SignedRequest, verify
from tests.support.volcengine_stage import (
    ACCESS_KEY,
    SECRET_KEY,
    Refused,
    RunningEmulator,
    refused,
)

pytest_plugins = ("tests.support.volcengine_fixtures",)

QUERY = {"Action": "ListRegistries", "Version": "2022-05-12"}
BODY = '{"PageNumber": 1, "PageSize": 10}'


def signed(
    *,
    method: str = "POST",
    query: Mapping[str, str] = QUERY,
    body: str = BODY,
    host: str = "open.example:8080",
    secret_key: str = SECRET_KEY,
    signed_at: dt.datetime | None = None,
) -> SignedRequest:
    """A request as the SDK's own signer signs it."""
    headers = {"Host": host, "Content-Type": "application/json"}
    clock = mock.Mock(wraps=dt.datetime)
    clock.utcnow.return_value = signed_at or dt.datetime.now(dt.UTC)
    with mock.patch("volcenginesdkcore.signv4.datetime.datetime", clock):
        SignerV4.sign(
            "/", method, headers, body, None, query, ACCESS_KEY, secret_key, "cn-beijing", "cr"
        )
    return SignedRequest(
        method=method,
        path="/",
        query=str(httpx.QueryParams(query)),
        headers={name.lower(): value for name, value in headers.items()},
        body=body.encode(),
    )


def check(request: SignedRequest) -> Caller:
    return verify(
        request, access_key=ACCESS_KEY, secret_key=SECRET_KEY, now=dt.datetime.now(dt.UTC)
    )


def header(name: str, value: str) -> Any:
    return lambda request: replace(request, headers={**request.headers, name: value})


def without(name: str) -> Any:
    return lambda request: replace(
        request, headers={key: value for key, value in request.headers.items() if key != name}
    )


@pytest.mark.parametrize(
    ("method", "query", "body", "host"),
    [
        pytest.param("POST", QUERY, BODY, "127.0.0.1:8080", id="json-body"),
        pytest.param("POST", QUERY, "", "127.0.0.1:8080", id="no-body"),
        pytest.param("POST", QUERY, '{"Name": "镜像"}', "127.0.0.1:8080", id="body-not-ascii"),
        pytest.param(
            "GET",
            {**QUERY, "EipAddresses.1": "203.0.113.7", "Empty": "", "Text": "a b+c/ü~*'"},
            "",
            "127.0.0.1:8080",
            id="query-that-needs-encoding",
        ),
        pytest.param("GET", QUERY, "", "open.example:80", id="default-port-left-out"),
        pytest.param("GET", QUERY, "", "open.example", id="no-port"),
    ],
)
def test_what_the_sdk_signs_is_believed(
    method: str, query: Mapping[str, str], body: str, host: str
) -> None:
    request = signed(method=method, query=query, body=body, host=host)
    assert check(request) == Caller(region="cn-beijing", service="cr")


@pytest.mark.parametrize(
    ("tamper", "status", "code"),
    [
        pytest.param(
            lambda request: replace(request, body=b'{"PageNumber": 2}'),
            401,
            "SignatureDoesNotMatch",
            id="body",
        ),
        pytest.param(
            lambda request: replace(request, body=b""), 401, "SignatureDoesNotMatch", id="no-body"
        ),
        pytest.param(
            lambda request: replace(request, query=request.query.replace("List", "Delete")),
            401,
            "SignatureDoesNotMatch",
            id="action",
        ),
        pytest.param(
            lambda request: replace(request, query=request.query + "&More=1"),
            401,
            "SignatureDoesNotMatch",
            id="query-added",
        ),
        pytest.param(
            lambda request: replace(request, method="PUT"),
            401,
            "SignatureDoesNotMatch",
            id="method",
        ),
        pytest.param(
            lambda request: replace(request, path="/other"),
            401,
            "SignatureDoesNotMatch",
            id="path",
        ),
        pytest.param(header("host", "evil.example"), 401, "SignatureDoesNotMatch", id="host"),
        pytest.param(
            header("content-type", "text/plain"), 401, "SignatureDoesNotMatch", id="content-type"
        ),
        pytest.param(
            header("x-content-sha256", "0" * 64), 401, "SignatureDoesNotMatch", id="body-hash"
        ),
        pytest.param(without("authorization"), 401, "MissingAuthenticationToken", id="unsigned"),
        pytest.param(
            header("authorization", "Basic eDp5"), 400, "InvalidAuthorization", id="basic"
        ),
        pytest.param(without("x-date"), 400, "InvalidTimestamp", id="no-date"),
        pytest.param(header("x-date", "yesterday"), 400, "InvalidTimestamp", id="date-in-words"),
    ],
)
def test_a_request_changed_after_signing_is_refused(tamper: Any, status: int, code: str) -> None:
    with pytest.raises(ApiError) as raised:
        check(tamper(signed()))
    assert (raised.value.status, raised.value.code) == (status, code)


@pytest.mark.parametrize(
    ("minutes", "fresh"), [(-16, False), (-14, True), (14, True), (16, False), (-1440, False)]
)
def test_a_signature_is_good_for_a_quarter_of_an_hour(minutes: int, fresh: bool) -> None:
    request = signed(signed_at=dt.datetime.now(dt.UTC) + dt.timedelta(minutes=minutes))
    if fresh:
        assert check(request).service == "cr"
        return
    with pytest.raises(ApiError) as raised:
        check(request)
    assert raised.value.code == "InvalidTimestamp"


def test_a_signature_with_another_secret_key_is_refused() -> None:
    with pytest.raises(ApiError) as raised:
        check(signed(secret_key="another"))
    assert raised.value.code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("left_out", ["host", "x-date"])
def test_a_signature_must_cover_host_and_date(left_out: str) -> None:
    stamp = f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}"
    headers = {"x-date": stamp, "host": "open.example"}
    request = SignedRequest(
        method="POST", path="/", query=str(httpx.QueryParams(QUERY)), headers=headers, body=b""
    )
    names = sorted(set(headers) - {left_out})
    scope = f"{stamp[:8]}/cn-beijing/cr/request"
    # The SDK always signs both, so the signature is computed with the emulator's own arithmetic.
    canonical = signature._canonical_request(request, names, hashlib.sha256(b"").hexdigest())
    proof = signature._signature(canonical, stamp=stamp, scope=scope, secret=SECRET_KEY)
    authorization = (
        f"HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={';'.join(names)}, "
        f"Signature={proof}"
    )
    with pytest.raises(ApiError) as raised:
        check(replace(request, headers={**headers, "authorization": authorization}))
    assert raised.value.code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("keys", "code"),
    [
        pytest.param({"access_key": "AKother"}, "InvalidAccessKey", id="unknown-access-key"),
        pytest.param({"secret_key": "other"}, "SignatureDoesNotMatch", id="wrong-secret-key"),
    ],
)
def test_the_official_sdk_with_wrong_keys_gets_nowhere(
    api: RunningEmulator, keys: dict[str, str], code: str
) -> None:
    universal = volcenginesdkcore.UniversalApi(api.client(**keys))
    info = volcenginesdkcore.UniversalInfo(
        method="POST",
        service="cr",
        version="2022-05-12",
        action="CreateRegistry",
        content_type="application/json",
    )
    with pytest.raises(ApiException) as raised:
        universal.do_call(info, {"Name": "mirror"})
    assert refused(raised.value) == Refused(status=401, code=code)
    assert api.call("ListRegistries")["TotalCount"] == 0


def test_an_unsigned_request_is_refused_in_the_apis_own_shape(api: RunningEmulator) -> None:
    answer = httpx.post(f"{api.url}/", params=QUERY, json={}, trust_env=False)
    assert answer.status_code == 401
    metadata = json.loads(answer.text)["ResponseMetadata"]
    assert metadata["Action"] == "ListRegistries"
    assert metadata["Error"] == {
        "Code": "MissingAuthenticationToken",
        "CodeN": 100003,
        "Message": "Request is missing Authentication Token.",
    }
