"""Docker Hub as Kyverno sees it: a real registry on loopback, under Docker Hub's names."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rehearsal.cloud.registries import upstream
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cloud.registries.images import SAMPLE_IMAGES
from rehearsal.cloud.registries.names import NamesProxy
from rehearsal.cloud.registries.plane import Endpoint
from rehearsal.processes import Processes


@dataclass(frozen=True, kw_only=True)
class DockerHub:
    """The running registry."""

    names_proxy: str
    """The URL for HTTPS_PROXY; it knows Docker Hub's names and refuses all others."""
    ca_certificate: Path
    """The file for SSL_CERT_FILE."""
    digests: Mapping[str, str]
    """The digest of each `repository:tag`."""
    log: Path

    @classmethod
    @contextmanager
    def start(
        cls, processes: Processes, binaries: Mapping[str, Path], folder: Path
    ) -> Iterator[DockerHub]:
        """Start the registry with `SAMPLE_IMAGES` and a way to it by name."""
        authority = Authority.create(folder / "authority")
        hub = upstream.start(processes, binaries, folder, authority, SAMPLE_IMAGES)
        endpoint = Endpoint(host="127.0.0.1", port=int(hub.url.rpartition(":")[2]))
        with _names_proxy(dict.fromkeys(upstream.DOCKER_HUB_NAMES, endpoint)) as url:
            yield cls(
                names_proxy=url,
                ca_certificate=authority.certificate,
                digests=hub.digests,
                log=hub.log,
            )

    def requests(self) -> int:
        """How many requests it has answered."""
        return self.log.read_text(encoding="utf-8", errors="replace").count("http.request.method")


@contextmanager
def _names_proxy(table: Mapping[str, Endpoint]) -> Iterator[str]:
    """A `NamesProxy` in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    proxy = NamesProxy(lambda: table)
    try:
        yield asyncio.run_coroutine_threadsafe(proxy.start(), loop).result(10)
    finally:
        asyncio.run_coroutine_threadsafe(proxy.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
