"""Runs the Volcengine emulator: `python -m rehearsal.cloud.api --config FILE`.

FILE is JSON and private (chmod 600); config.py describes each key, of which only the two of the
account are required.

When it answers it prints one line on standard output (and writes it to `ready_file`):
`{"url": "http://127.0.0.1:PORT", "names_url": "http://127.0.0.1:PORT"}`. SIGTERM and SIGINT stop
it and every process it started. app.py describes the paths below /-/ .
"""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from rehearsal.cloud.api.config import EmulatorConfig
from rehearsal.cloud.api.run import emulator


def main(config: Annotated[Path, typer.Option(help="The config file (JSON, mode 0600).")]) -> None:
    """Run the Volcengine emulator until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        settings = EmulatorConfig.load(config)
    except (OSError, ValidationError) as error:
        typer.echo(f"{config}: {_words(error)}", err=True)
        raise typer.Exit(2) from None
    asyncio.run(_serve(settings))


async def _serve(settings: EmulatorConfig) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with emulator(settings) as ready:
        typer.echo(ready.model_dump_json())
        await ended.wait()


def _words(error: OSError | ValidationError) -> str:
    """Return an error's text, for a config that is not right without the values it holds."""
    if isinstance(error, ValidationError):
        return "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
    return str(error)


if __name__ == "__main__":
    typer.run(main)
