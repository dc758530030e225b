"""Puts the emulator together: API, data plane and names proxy in one process and event loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import BaseModel

from rehearsal.cloud.api.app import Emulator
from rehearsal.cloud.api.config import DataPlaneSettings, EmulatorConfig
from rehearsal.cloud.api.cr import CrApi
from rehearsal.cloud.api.faults import Faults
from rehearsal.cloud.api.state import Account, Registry
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cloud.registries.names import NamesProxy
from rehearsal.cloud.registries.plane import DataPlane, DataPlaneConfig, running
from rehearsal.cloud.registries.serving import Listener


class Ready(BaseModel):
    """What the emulator says, as one JSON line, when it answers."""

    url: str
    """Base URL of the API and of /-/ ."""
    names_url: str | None
    """HTTPS_PROXY for OCI clients; None without a data plane."""


class ServedDomains:
    """Serves the domains of registries with real pull-through registries."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane

    async def start(self, registry: Registry) -> None:
        """Serve a registry. Raises OSError or RuntimeError when it cannot."""
        await self._plane.start_registry(registry.domain, registry)

    async def stop(self, registry: Registry, *, forget: bool) -> None:
        """Stop serving a registry; with `forget` its cache is removed, its access log stays."""
        await self._plane.stop_registry(registry.domain, forget=forget)


class UnservedDomains:
    """No data plane: domains have names and nothing behind them."""

    async def start(self, registry: Registry) -> None:
        """Do nothing."""

    async def stop(self, registry: Registry, *, forget: bool) -> None:
        """Do nothing."""


@contextlib.asynccontextmanager
async def emulator(config: EmulatorConfig) -> AsyncIterator[Ready]:
    """Run the emulator while the context lasts; all it started is stopped at its end.

    Raises OSError when an address cannot be bound.
    """
    async with contextlib.AsyncExitStack() as stack:
        plane: DataPlane | None = None
        names_url: str | None = None
        if config.data_plane is not None:
            plane = await stack.enter_async_context(running(_plane_config(config.data_plane)))
            names = NamesProxy(plane.names)
            names_url = await names.start(config.data_plane.names_port)
            stack.push_async_callback(names.stop)
        account = Account()
        faults = Faults()
        cr_api = CrApi(
            config, account, faults, ServedDomains(plane) if plane else UnservedDomains()
        )
        stack.push_async_callback(cr_api.close)
        listener = Listener(
            Emulator(config, account, faults, cr_api, plane), host=config.host, port=config.port
        )
        await stack.enter_async_context(listener)
        ready = Ready(url=f"http://{config.host}:{listener.port}", names_url=names_url)
        if config.ready_file is not None:
            _write_whole(config.ready_file, ready.model_dump_json() + "\n")
        yield ready


def _plane_config(settings: DataPlaneSettings) -> DataPlaneConfig:
    return DataPlaneConfig(
        registry_binary=settings.registry_binary,
        folder=settings.work_dir,
        upstreams=settings.upstreams,
        authority=Authority(certificate=settings.ca_certificate, key=settings.ca_key),
        addresses=tuple(settings.addresses),
        port=settings.port,
        mode=settings.auth,
    )


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or none."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text)
    draft.replace(path)
