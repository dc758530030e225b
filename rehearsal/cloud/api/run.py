"""Puts the emulator together: API, data plane and names proxy in one process and event loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from pydantic import BaseModel

from rehearsal.cloud.api.app import Emulator
from rehearsal.cloud.api.config import EmulatorConfig
from rehearsal.cloud.api.cr import CrApi
from rehearsal.cloud.api.faults import Faults
from rehearsal.cloud.api.state import Account
from rehearsal.cloud.registries.names import NamesProxy
from rehearsal.cloud.registries.plane import DataPlane, running
from rehearsal.cloud.registries.serving import Listener


class Ready(BaseModel):
    """What the emulator says, as one JSON line, when it answers."""

    url: str
    """Base URL of the API and of /-/ ."""
    names_url: str | None
    """HTTPS_PROXY for OCI clients; None without a data plane."""


@contextlib.asynccontextmanager
async def emulator(config: EmulatorConfig) -> AsyncIterator[Ready]:
    """Run the emulator while the context lasts; all it started is stopped at its end.

    Raises OSError when an address cannot be bound.
    """
    async with contextlib.AsyncExitStack() as stack:
        plane: DataPlane | None = None
        names_url: str | None = None
        if config.data_plane is not None:
            plane = await stack.enter_async_context(running(config.data_plane))
            names = NamesProxy(plane.names)
            names_url = await names.start()
            stack.push_async_callback(names.stop)
        account = Account()
        faults = Faults()
        cr_api = CrApi(config, account, faults, plane)
        stack.push_async_callback(cr_api.close)
        listener = Listener(Emulator(config, account, faults, cr_api, plane))
        await stack.enter_async_context(listener)
        ready = Ready(url=f"http://{listener.host}:{listener.port}", names_url=names_url)
        if config.ready_file is not None:
            _write_whole(config.ready_file, ready.model_dump_json() + "\n")
        yield ready


def _write_whole(path: Path, text: str) -> None:
    """Write a file so that a reader sees all of it or none."""
    draft = path.with_name(f".{path.name}.new")
    draft.write_text(text)
    draft.replace(path)
