"""Serving in a thread."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from rehearsal.cloud.registries.certificates import ServerCertificate
from rehearsal.cloud.registries.serving import server_context

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
