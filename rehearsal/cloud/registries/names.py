"""A loopback HTTP CONNECT proxy that knows only the rehearsal's own host names.

OCI clients that have it as HTTPS_PROXY (and the rehearsal's CA as SSL_CERT_FILE) reach real
domain names, unmodified; every name that is not in the table is refused, so nothing can leave
the machine through it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from rehearsal.cloud.registries.plane import Endpoint

HEAD_LIMIT = 8192
HEAD_TIMEOUT = 10.0


class NamesProxy:
    """The proxy; `table` is asked anew for each connection."""

    def __init__(self, table: Callable[[], Mapping[str, Endpoint]]) -> None:
        self._table = table
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> str:
        """Listen on loopback and return the URL for HTTPS_PROXY."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, limit=HEAD_LIMIT)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Stop listening and cut open tunnels."""
        if self._server is None:
            return
        self._server.close()
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
            task.add_done_callback(self._open.discard)
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        except asyncio.CancelledError:  # by stop(); asyncio would log a cancelled one as an error
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_TIMEOUT)
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        target = rest.partition(" ")[0]
        if method != "CONNECT":
            await _answer(writer, "405 Method Not Allowed", "only CONNECT is served")
            return
        host, _, port = target.rpartition(":")
        endpoint = self._table().get(host.lower()) if port == "443" else None
        if endpoint is None:
            await _answer(writer, "403 Forbidden", f"{target} is not a name of the rehearsal")
            return
        try:
            far_reader, far_writer = await asyncio.open_connection(endpoint.host, endpoint.port)
        except OSError as error:
            await _answer(writer, "502 Bad Gateway", f"{target}: {error.strerror}")
            return
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            await _join(reader, writer, far_reader, far_writer)
        finally:
            far_writer.close()
            with contextlib.suppress(OSError):
                await far_writer.wait_closed()


async def _join(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    far_reader: asyncio.StreamReader,
    far_writer: asyncio.StreamWriter,
) -> None:
    """Copy both ways until one side has ended and the other has drained."""
    async with asyncio.TaskGroup() as copies:
        copies.create_task(_copy(reader, far_writer))
        copies.create_task(_copy(far_reader, writer))


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while chunk := await source.read(65536):
            sink.write(chunk)
            await sink.drain()
    except OSError:
        sink.transport.abort()
        return
    # A TLS peer that has closed sends nothing more that the other side could wait for.
    sink.close()


async def _answer(writer: asyncio.StreamWriter, status: str, text: str) -> None:
    body = f"{text}\n".encode()
    writer.write(
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
        "Connection: close\r\n\r\n".encode()
        + body
    )
    await writer.drain()
