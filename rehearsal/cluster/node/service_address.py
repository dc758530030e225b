"""The cluster's `kubernetes` Service on a real node, which has no kube-proxy.

`python -m rehearsal.cluster.node.service_address ADDRESS HOST PORT` accepts on port 443 of ADDRESS
and forwards to the API server at HOST:PORT, for Pods that find the API server as every Pod does.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys


async def serve(address: str, host: str, port: int) -> None:
    """Forward until the process is ended. Raises OSError when the address cannot be bound."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))

    server = await asyncio.start_server(accept, address, 443)
    await server.serve_forever()


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await source.read(65536):
            sink.write(chunk)
            await sink.drain()
    sink.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], int(sys.argv[3])))
