"""The data plane: every running proxy registry with its servers, and the table of their names."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field

from rehearsal.cloud.registries import distribution
from rehearsal.cloud.registries.access_log import AccessLog, log_file
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cloud.registries.faults import DataFault, FaultKind, FaultState
from rehearsal.cloud.registries.gate import Gate, Registry
from rehearsal.cloud.registries.login import AuthMode
from rehearsal.cloud.registries.recorder import UpstreamRecorder
from rehearsal.cloud.registries.serving import Listener
from rehearsal.cloud.registries.upstream import names_of
from rehearsal.processes import Processes


class DataPlaneConfig(BaseModel):
    """Settings that all proxy registries share."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    registry_binary: Path
    """The distribution registry."""
    work_dir: Path
    """One folder for each registry is created in it: access.log, cache/, tls/."""
    upstreams: dict[str, str]
    """Where the registry that plays each upstream host really is: docker.io to
    https://127.0.0.1:40123."""
    authority: Authority
    addresses: list[str] = Field(default=["127.0.0.1"], min_length=1)
    """IP addresses to serve on. With port 0 all registries share the first; with a fixed port
    each registry takes one of its own, in order, and a registry beyond the last one fails."""
    port: int = Field(default=0, ge=0, le=65535)
    """TCP port to serve on; 0 takes a free one for each registry."""
    auth: AuthMode = AuthMode.BOTH


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a name is really served."""

    host: str
    port: int


class ProxyRegistry:
    """The servers of one proxy registry."""

    def __init__(
        self,
        registry: Registry,
        address: str,
        config: DataPlaneConfig,
        recorder: UpstreamRecorder,
        processes: Processes,
    ) -> None:
        self._folder = config.work_dir / registry.domain
        self._config = config
        self._registry = registry
        self._faults = FaultState()
        self._recorder = recorder
        self._processes = processes
        self._listener: Listener | None = None
        self._black_hole: _BlackHole | None = None
        self._running = contextlib.AsyncExitStack()
        self.address = address
        """The IP address it is served on."""
        self._log = AccessLog(log_file(config.work_dir, registry.domain))

    @property
    def access_log(self) -> Path:
        """The file that has one line a request."""
        return self._log.path

    @property
    def endpoint(self) -> Endpoint:
        """Where its domain is really served. Raises RuntimeError before start()."""
        return Endpoint(host=self.address, port=self._started().port)

    async def start(self) -> None:
        """Start cache and gate. Raises ProcessError or OSError, with nothing left behind."""
        domain, running = self._registry.domain, self._running
        try:
            running.push_async_callback(self._recorder.close)
            upstream = await running.enter_async_context(Listener(self._recorder))
            running.push_async_callback(asyncio.to_thread, self._processes.stop, domain)
            port = await asyncio.to_thread(
                distribution.start,
                self._processes,
                domain,
                self._config.registry_binary,
                self._folder / "cache",
                remote_url=f"http://127.0.0.1:{upstream.port}",
            )
            gate = Gate(
                self._registry,
                cache_url=f"http://127.0.0.1:{port}",
                recorder=self._recorder,
                log=self._log,
                mode=self._config.auth,
                faults=self._faults,
            )
            running.push_async_callback(gate.close)
            self._listener = await running.enter_async_context(
                Listener(
                    gate,
                    host=self.address,
                    port=self._config.port,
                    tls=self._config.authority.issue([domain], self._folder / "tls"),
                )
            )
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all its servers. The content of the cache stays on disk."""
        self._close_black_hole()
        await self._running.aclose()

    async def set_fault(self, fault: DataFault | None) -> None:
        """Put a fault in force in place of the one before; None heals the registry."""
        listener = self._started()
        if fault == self._faults.fault:
            return
        self._faults.fault = fault
        self._close_black_hole()
        await listener.stop()
        if fault is None or not fault.kind.is_of_listener:
            await listener.start()
        elif fault.kind is FaultKind.BLACK_HOLE:
            self._black_hole = _BlackHole(self.address, listener.port)

    def _started(self) -> Listener:
        if self._listener is None:
            raise RuntimeError(f"{self._registry.domain} has not been started")
        return self._listener

    def _close_black_hole(self) -> None:
        if self._black_hole is not None:
            self._black_hole.close()
            self._black_hole = None


class DataPlane:
    """All proxy registries that run now."""

    def __init__(self, config: DataPlaneConfig) -> None:
        self._config = config
        self._registries: dict[str, ProxyRegistry] = {}
        self._upstream_faults = {host: FaultState() for host in config.upstreams}
        self._processes = Processes(config.work_dir / "logs")
        self._starting = asyncio.Lock()

    async def start_registry(self, registry: Registry) -> None:
        """Start the servers of a registry.

        Raises OSError when no address is left for it or no registry plays its upstream,
        ProcessError when its cache does not come up.
        """
        async with self._starting:
            url = self._config.upstreams.get(registry.upstream)
            if url is None:
                known = ", ".join(self._config.upstreams)
                raise OSError(f"no registry here plays {registry.upstream}; those played: {known}")
            faults = self._upstream_faults[registry.upstream]
            recorder = UpstreamRecorder(url, self._config.authority, faults)
            address = self._free_address()
            proxy = ProxyRegistry(registry, address, self._config, recorder, self._processes)
            await proxy.start()
            self._registries[registry.domain] = proxy

    async def stop_registry(self, domain: str) -> None:
        """Stop the servers of a registry and remove its cache; its access log stays.

        One that does not run is no error.
        """
        proxy = self._registries.pop(domain, None)
        if proxy is not None:
            await proxy.stop()
        shutil.rmtree(self._config.work_dir / domain / "cache", ignore_errors=True)

    def registry(self, domain: str) -> ProxyRegistry | None:
        """The servers of a registry, None when they do not run."""
        return self._registries.get(domain)

    def upstream_faults(self, host: str) -> FaultState | None:
        """The faults of an upstream host, None when it is not played here."""
        return self._upstream_faults.get(host)

    def names(self) -> Mapping[str, Endpoint]:
        """Host names of running proxy registries and upstreams, with where they are served."""
        table: dict[str, Endpoint] = {}
        for host, url in self._config.upstreams.items():
            parts = urlsplit(url)
            endpoint = Endpoint(host=parts.hostname or "127.0.0.1", port=parts.port or 443)
            table |= dict.fromkeys(names_of(host), endpoint)
        return table | {domain: proxy.endpoint for domain, proxy in self._registries.items()}

    async def stop(self) -> None:
        """Stop everything."""
        for domain in list(self._registries):
            await self.stop_registry(domain)

    def _free_address(self) -> str:
        if self._config.port == 0:
            return self._config.addresses[0]
        taken = {proxy.address for proxy in self._registries.values()}
        for address in self._config.addresses:
            if address not in taken:
                return address
        raise OSError(
            f"no address left for another registry on port {self._config.port}: "
            f"all of {', '.join(self._config.addresses)} are in use; configure more addresses"
        )


class _BlackHole:
    """An IPv4 address whose connection attempts get no answer.

    A listening socket that is never accepted from, its queue filled: Linux then drops SYNs.
    """

    def __init__(self, host: str, port: int) -> None:
        self._sockets = [socket.create_server((host, port), backlog=0)]
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex((host, port))
            self._sockets.append(client)

    def close(self) -> None:
        """Answer again: close all its sockets."""
        for each in self._sockets:
            each.close()
