"""Verifies HMAC-SHA256 signatures of requests, as every action of the API demands one.

Written from the signing rules (docs 6369/67269), not with the SDK's signer, so that the SDK is
tested against it: the canonical request is rebuilt from what arrived, whatever was signed.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

from rehearsal.cloud.api.errors import ApiError

TOLERANCE = dt.timedelta(minutes=15)
"""How far X-Date may be from now."""
_AUTHORIZATION = re.compile(
    r"HMAC-SHA256 Credential=(?P<key>[^/,\s]+)/(?P<date>\d{8})/(?P<region>[^/,\s]+)/"
    r"(?P<service>[^/,\s]+)/request,\s*SignedHeaders=(?P<headers>[a-z0-9;-]+),\s*"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)
_MUST_BE_SIGNED = frozenset({"host", "x-date"})


@dataclass(frozen=True, kw_only=True)
class Caller:
    """What a verified signature says about a request."""

    region: str
    service: str


@dataclass(frozen=True, kw_only=True)
class SignedRequest:
    """The parts of an HTTP request that a signature covers."""

    method: str
    path: str
    query: str
    """As it arrived, still encoded."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


def verify(request: SignedRequest, *, access_key: str, secret_key: str, now: dt.datetime) -> Caller:
    """Check the signature of a request. Raises ApiError with the gateway's code."""
    header = request.headers.get("authorization")
    if not header:
        raise ApiError(
            401,
            "MissingAuthenticationToken",
            "Request is missing Authentication Token.",
            100003,
        )
    found = _AUTHORIZATION.fullmatch(header)
    if found is None:
        raise ApiError(400, "InvalidAuthorization", "The Authorization header is invalid.", 100024)
    stamp = request.headers.get("x-date", "")
    _check_date(stamp, found["date"], now)
    if not hmac.compare_digest(found["key"], access_key):
        raise ApiError(
            401,
            "InvalidAccessKey",
            f"The accesskey [{found['key']}] included in the request is invalid.",
            100009,
        )
    signed = found["headers"].split(";")
    body_hash = hashlib.sha256(request.body).hexdigest()
    claimed_hash = request.headers.get("x-content-sha256", body_hash)
    scope = f"{found['date']}/{found['region']}/{found['service']}/request"
    expected = _signature(
        _canonical_request(request, signed, body_hash), stamp=stamp, scope=scope, secret=secret_key
    )
    matches = hmac.compare_digest(found["signature"], expected)
    if not (matches and claimed_hash == body_hash and set(signed) >= _MUST_BE_SIGNED):
        raise ApiError(
            401,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your Secret Access Key and signing method.",
            100010,
        )
    return Caller(region=found["region"], service=found["service"])


def _check_date(stamp: str, scope_date: str, now: dt.datetime) -> None:
    try:
        sent = dt.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    except ValueError:
        sent = None
    if sent is None or abs(now - sent) > TOLERANCE or stamp[:8] != scope_date:
        raise ApiError(400, "InvalidTimestamp", "The signature of the request is expired.", 100006)


def _canonical_request(request: SignedRequest, signed: list[str], body_hash: str) -> str:
    headers = "".join(f"{name}:{_header(request, name)}\n" for name in signed)
    return "\n".join(
        [
            request.method,
            quote(request.path, safe="/-_.~"),
            _canonical_query(request.query),
            headers,
            ";".join(signed),
            body_hash,
        ]
    )


def _signature(canonical: str, *, stamp: str, scope: str, secret: str) -> str:
    text = "\n".join(["HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = secret.encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def _header(request: SignedRequest, name: str) -> str:
    value = request.headers.get(name, "").strip()
    if name == "host" and value.rpartition(":")[2] in ("80", "443"):
        # Signers leave the default ports out of the Host header they sign.
        return value.rpartition(":")[0]
    return value


def _canonical_query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    encoded = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)
