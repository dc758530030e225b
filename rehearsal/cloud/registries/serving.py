"""Serves ASGI applications from the running event loop, and takes connections away from clients."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import Self

import uvicorn
from starlette.types import ASGIApp, Receive, Send

from rehearsal.cloud.registries.certificates import ServerCertificate
from rehearsal.wait import until_async


def server_context(certificate: ServerCertificate) -> ssl.SSLContext:
    """Return a TLS server context (HTTP/1.1) for a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate.certificate, certificate.key)
    context.set_alpn_protocols(["http/1.1"])
    return context


class Listener:
    """One ASGI application on one TCP address, inside the running event loop.

    It is bound by start(), answers until stop(), and may be started again on the same port.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ServerCertificate | None = None,
    ) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._tls = tls
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def host(self) -> str:
        """The IP address it is bound to."""
        return self._host

    @property
    def port(self) -> int:
        """The TCP port; after the first start() a real one, also while stopped."""
        return self._port

    async def start(self) -> None:
        """Bind and serve. Raises OSError when the address cannot be bound."""
        bound = _listening_socket(self._host, self._port)
        self._port = bound.getsockname()[1]
        tls = self._tls
        config = uvicorn.Config(
            self._app,
            http="h11",
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="error",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=1,
            ssl_context_factory=(lambda _config, _default: server_context(tls)) if tls else None,
        )
        self._server = _Server(config)
        self._task = asyncio.create_task(self._server.serve(sockets=[bound]))
        where = f"{self._host}:{self._port}"

        def serves() -> bool:
            if self._task is not None and self._task.done():
                self._task.result()
                raise OSError(f"could not serve on {where}")
            return self._server is not None and self._server.started

        await until_async(serves, f"it serves on {where}", interval=0.005)

    async def stop(self) -> None:
        """Close the listening socket and end open requests after a second. Idempotent."""
        if self._server is None or self._task is None:
            return
        self._server.should_exit = True
        await self._task
        # A TLS connection whose client does not answer the closing is still open by now.
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        connections = self._server.server_state.connections
        await until_async(lambda: not connections, "connections are closed", interval=0.005)
        self._server = self._task = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def _listening_socket(host: str, port: int) -> socket.socket:
    """Return a bound TCP socket.

    It names its protocol, unlike those of socket.create_server: asyncio sets TCP_NODELAY only on
    sockets that do, and without it every second answer on a connection takes 40 ms longer.
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
        bound.listen(256)
        bound.setblocking(False)
    except OSError:
        bound.close()
        raise
    return bound


class _Server(uvicorn.Server):
    """A uvicorn server that leaves the process's signal handlers alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing: the process that runs the listeners handles its signals itself."""
        yield


async def drop_connection(receive: Receive, send: Send) -> None:
    """Close the client's TCP connection at once, with no answer.

    Only for `send` as uvicorn hands it to the outermost application. Raises TypeError otherwise.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if not isinstance(transport, asyncio.Transport):
        raise TypeError("this `send` is not uvicorn's own, so its connection cannot be dropped")
    transport.abort()
    while (await receive())["type"] != "http.disconnect":
        pass
