"""Checks HMAC-SHA256 signatures of requests (docs 6369/67269), as every action demands one.

The signature is computed from what arrived, whatever was signed, with the official SDK's functions.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
from dataclasses import dataclass

from starlette.requests import Request
from volcenginesdkcore.signv4 import SignerV4

from rehearsal.cloud.api.errors import ApiError

TOLERANCE = dt.timedelta(minutes=15)
"""How far X-Date may be from now."""
_AUTHORIZATION = re.compile(
    r"HMAC-SHA256 Credential=(?P<key>[^/,\s]+)/(?P<scope>(?P<date>\d{8})/(?P<region>[^/,\s]+)/"
    r"(?P<service>[^/,\s]+)/request),\s*SignedHeaders=(?P<headers>[a-z0-9;-]+),\s*"
    r"Signature=(?P<signature>[0-9a-f]{64})"
)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """What a verified signature says about a request."""

    region: str
    service: str


def verify(request: Request, body: bytes, *, access_key: str, secret_key: str) -> Caller:
    """Check the signature of a request. Raises ApiError with the gateway's code."""
    header = request.headers.get("authorization")
    if not header:
        raise ApiError(
            401, "MissingAuthenticationToken", "Request is missing Authentication Token."
        )
    found = _AUTHORIZATION.fullmatch(header)
    if found is None:
        raise ApiError(400, "InvalidAuthorization", "The Authorization header is invalid.")
    stamp = request.headers.get("x-date", "")
    if not (_is_fresh(stamp) and stamp.startswith(found["date"])):
        raise ApiError(400, "InvalidTimestamp", "The signature of the request is expired.")
    if found["key"] != access_key:
        raise ApiError(401, "InvalidAccessKey", "The accesskey included in the request is invalid.")
    signed = found["headers"].split(";")
    canonical = [
        request.method,
        request.url.path,
        SignerV4.canonical_query(dict(request.query_params)),
        *(f"{name}:{request.headers.get(name, '')}" for name in signed),
        "",
        found["headers"],
        hashlib.sha256(body).hexdigest(),
    ]
    digest = hashlib.sha256("\n".join(canonical).encode()).hexdigest()
    text = "\n".join(["HMAC-SHA256", stamp, found["scope"], digest])
    key = SignerV4.get_signing_secret_key_v4(
        secret_key, found["date"], found["region"], found["service"]
    )
    matches = hmac.compare_digest(
        found["signature"], hmac.digest(key, text.encode(), "sha256").hex()
    )
    if not matches or "host" not in signed:
        raise ApiError(
            401,
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your Secret Access Key and signing method.",
        )
    return Caller(region=found["region"], service=found["service"])


def _is_fresh(stamp: str) -> bool:
    try:
        sent = dt.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    except ValueError:
        return False
    return abs(dt.datetime.now(dt.UTC) - sent) <= TOLERANCE
