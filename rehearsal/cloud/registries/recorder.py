"""Between a pull-through registry and its upstream: forwards, and sees what upstream is asked."""

from __future__ import annotations

import re
from dataclasses import dataclass

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cloud.registries.faults import FaultKind, FaultState
from rehearsal.cloud.registries.forwarding import forward
from rehearsal.cloud.registries.serving import drop_connection

_CONTENT = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs)/(?P<reference>[^/]+)")


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a registry request asks for: part of a repository's content."""

    repository: str
    kind: str
    """`manifests` or `blobs`."""
    reference: str
    """A tag or a digest."""


def content_of(path: str) -> Content | None:
    """Return what a registry path asks for; None for /v2/, tag lists and all the rest."""
    found = _CONTENT.fullmatch(path)
    if found is None:
        return None
    return Content(repository=found["name"], kind=found["kind"], reference=found["reference"])


class UpstreamRecorder:
    """An ASGI application that forwards to upstream and remembers each request.

    Of the faults of the upstream it knows `status` and `drop`.
    """

    def __init__(
        self, upstream_url: str, authority: Authority, faults: FaultState | None = None
    ) -> None:
        self._faults = faults or FaultState()
        self._client = httpx.AsyncClient(
            base_url=upstream_url,
            verify=authority.context(),
            trust_env=False,
            timeout=httpx.Timeout(60.0),
        )
        self._seen: list[tuple[str, Content]] = []

    @property
    def mark(self) -> int:
        """How many content requests upstream has had; keep it and give it to since()."""
        return len(self._seen)

    def since(self, mark: int, content: Content) -> tuple[str, ...]:
        """Return the methods of the requests since `mark` that serve a request for `content`.

        A tag is served by asking for it and then for the manifest it points to, so for manifests
        all requests for manifests of the repository count; for blobs, those of the digest.
        Requests of two clients for the same thing at the same time cannot be distinguished.
        """
        return tuple(
            method
            for method, seen in self._seen[mark:]
            if seen.repository == content.repository
            and seen.kind == content.kind
            and (content.kind == "manifests" or seen.reference == content.reference)
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward one request."""
        request = Request(scope, receive)
        content = content_of(request.url.path)
        if content is not None:
            self._seen.append((request.method, content))
        fault = self._faults.fault
        if fault is None:
            await forward(self._client, request, send)
        elif fault.kind is FaultKind.STATUS:
            await Response(status_code=fault.status)(scope, receive, send)
        else:
            await drop_connection(receive, send)

    async def close(self) -> None:
        """Close the connections to upstream."""
        await self._client.aclose()
