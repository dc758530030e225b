"""Servers in threads, and addresses for them."""

from __future__ import annotations

import itertools
import secrets
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from rehearsal.cloud.registries.certificates import ServerCertificate
from rehearsal.cloud.registries.serving import server_context

_numbers = itertools.count(2)
_NETWORK = f"127.{100 + secrets.randbelow(100)}.{secrets.randbelow(250)}"


def loopback_address() -> str:
    """An address of loopback for a server on port 443, another one each time."""
    return f"{_NETWORK}.{next(_numbers)}"


Server = TypeVar("Server", bound=socketserver.TCPServer)


@contextmanager
def serving(server: Server, certificate: ServerCertificate | None = None) -> Iterator[Server]:
    """Let a server answer while the context lasts, by TLS with a certificate."""
    if certificate is not None:
        context = server_context(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    with server:
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
