"""Forwards one pull request to another registry, streaming the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
from starlette.requests import Request
from starlette.types import Send

REQUEST_HEADERS = ("accept", "range", "if-none-match", "if-modified-since", "user-agent")
"""What a pull needs; a client's login is not passed on."""
CONNECTION_HEADERS = frozenset({"connection", "keep-alive", "transfer-encoding", "date", "server"})


async def forward(
    client: httpx.AsyncClient, request: Request, send: Send, *, corrupt: bool = False
) -> None:
    """Send a bodiless request on with `client` and its answer back.

    The request keeps its method, path and query. With `corrupt` the first byte of the answer's
    body is changed. A registry out of reach is answered with 502.
    """
    target = request.scope["raw_path"].decode("ascii")
    if request.url.query:
        target += f"?{request.url.query}"
    headers = [(name, value) for name in REQUEST_HEADERS for value in request.headers.getlist(name)]
    headers.append(("accept-encoding", "identity"))
    outgoing = httpx.Request(request.method, client.base_url.join(target), headers=headers)
    try:
        answer = await client.send(outgoing, stream=True)
    except httpx.HTTPError:
        await send({"type": "http.response.start", "status": 502, "headers": []})
        await send({"type": "http.response.body", "body": b""})
        return
    try:
        await send(
            {
                "type": "http.response.start",
                "status": answer.status_code,
                "headers": [
                    (name.lower(), value)
                    for name, value in answer.headers.raw
                    if name.lower().decode("latin-1") not in CONNECTION_HEADERS
                ],
            }
        )
        async for chunk in _body(answer, corrupt=corrupt):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        await answer.aclose()


async def _body(answer: httpx.Response, *, corrupt: bool) -> AsyncIterator[bytes]:
    async for chunk in answer.aiter_raw():
        if corrupt and chunk:
            yield bytes([chunk[0] ^ 1]) + chunk[1:]
            corrupt = False
        else:
            yield chunk
