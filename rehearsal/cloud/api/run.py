"""Puts the emulator together: API, data plane and names proxy in one process and event loop."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from pydantic import BaseModel

from rehearsal.cloud.api.app import Emulator
from rehearsal.cloud.api.config import EmulatorConfig
from rehearsal.cloud.api.cr import CrApi
from rehearsal.cloud.registries.names import NamesProxy
from rehearsal.cloud.registries.plane import DataPlane
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
            plane = DataPlane(config.data_plane)
            stack.push_async_callback(plane.stop)
            names = NamesProxy(plane.names)
            names_url = await names.start()
            stack.push_async_callback(names.stop)
        cr_api = CrApi(config, plane)
        stack.push_async_callback(cr_api.close)
        listener = Listener(Emulator(config, cr_api, plane))
        await stack.enter_async_context(listener)
        ready = Ready(url=f"http://{listener.host}:{listener.port}", names_url=names_url)
        if config.ready_file is not None:
            draft = config.ready_file.with_suffix(".new")  # a reader sees all of it or none
            draft.write_text(ready.model_dump_json())
            draft.replace(config.ready_file)
        yield ready
