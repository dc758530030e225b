"""A loopback registry that plays Docker Hub for look-ups and answers after a chosen time.

It has every image, and makes a client go all of Docker Hub's way: a 401 that names the token
service, a token, the index, the manifest and the configuration behind a redirect. Run as a program
it also serves the names of Docker Hub through a CONNECT proxy, whose URL it writes to a file.
`PUT /delay/<milliseconds>` sets the time each further request waits; `GET /requests` is how many
requests there were.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import typer
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from rehearsal.cloud.registries.names import NamesProxy
from rehearsal.cloud.registries.plane import Endpoint

BLOBS = "production.cloudflare.docker.com"
NAMES = ("index.docker.io", "registry-1.docker.io", "auth.docker.io", BLOBS, "quay.io")
"""The names it answers to; `quay.io` because the vendor's policy looks up other images too."""

_CONFIG = json.dumps({"architecture": "amd64", "os": "linux", "config": {}}).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _of(kind: str, content: bytes) -> dict[str, object]:
    media_type = f"application/vnd.oci.image.{kind}.v1+json"
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


_MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _of("config", _CONFIG),
        "layers": [],
    }
).encode()
_INDEX = json.dumps(
    {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [
            {**_of("manifest", _MANIFEST), "platform": {"architecture": "amd64", "os": "linux"}}
        ],
    }
).encode()


class Hub:
    """The registry."""

    def __init__(self) -> None:
        self._delay_seconds = 0.0
        self._requests = 0

    def application(self, port: int, ready: Path) -> Starlette:
        """The registry as an application that serves on `port`, and its names as a proxy."""

        @contextlib.asynccontextmanager
        async def lifespan(_: Starlette) -> AsyncIterator[None]:
            endpoint = Endpoint(host="127.0.0.1", port=port)
            proxy = NamesProxy(lambda: dict.fromkeys(NAMES, endpoint))
            ready.write_text(await proxy.start())
            yield
            await proxy.stop()

        return Starlette(
            routes=[
                Route("/delay/{milliseconds:int}", self._set_delay, methods=["PUT"]),
                Route("/requests", self._count),
                Route("/{path:path}", self._answer),
            ],
            lifespan=lifespan,
        )

    async def _set_delay(self, request: Request) -> Response:
        self._delay_seconds = request.path_params["milliseconds"] / 1000
        return Response(status_code=204)

    async def _count(self, _: Request) -> Response:
        return JSONResponse(self._requests)

    async def _answer(self, request: Request) -> Response:
        self._requests += 1
        await asyncio.sleep(self._delay_seconds)
        path = request.url.path
        if path == "/token":
            return JSONResponse({"token": "anonymous", "expires_in": 300})
        if path == "/blob":
            return Response(_CONFIG)
        if "authorization" not in request.headers:
            realm = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io"'
            return JSONResponse({}, status_code=401, headers={"WWW-Authenticate": realm})
        if "/blobs/" in path:
            return RedirectResponse(f"https://{BLOBS}/blob")
        content, kind = (
            (_MANIFEST, "manifest") if path.endswith(_digest(_MANIFEST)) else (_INDEX, "index")
        )
        return Response(
            content,
            media_type=f"application/vnd.oci.image.{kind}.v1+json",
            headers={"Docker-Content-Digest": _digest(content)},
        )


def main(port: int, certificate: Path, key: Path, ready: Path) -> None:
    """Serve HTTPS on loopback; `ready` gets the URL of the proxy once that listens."""
    uvicorn.run(
        Hub().application(port, ready),
        host="127.0.0.1",
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        log_level="warning",
    )


if __name__ == "__main__":
    typer.run(main)
