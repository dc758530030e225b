"""Runs the CNCF distribution registry: writes its config, starts it, finds its port, stops it."""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rehearsal.cloud.registries.certificates import ServerCertificate
from rehearsal.wait import NotInTimeError, until_async

START_TIMEOUT = 20.0
STOP_TIMEOUT = 5.0
_LISTENING = re.compile(r"listening on (?P<host>\[[^]]+\]|[0-9.]+):(?P<port>\d+)")


class RegistryStartError(RuntimeError):
    """The registry process ended, or was silent, before it listened; names its log file."""


@dataclass(frozen=True, kw_only=True)
class RegistryConfig:
    """The settings of one distribution process that differ between its uses here."""

    folder: Path
    """Holds the config, the log and, unless `storage` says otherwise, the content."""
    address: str = "127.0.0.1:0"
    """host:port to listen on; port 0 takes a free one."""
    tls: ServerCertificate | None = None
    """Serve HTTPS with this certificate; None serves plain HTTP."""
    remote_url: str | None = None
    """Pull-through mode in front of this registry; None is an ordinary registry."""
    log_requests: bool = True
    """Write an access log line for every request."""

    @property
    def log(self) -> Path:
        """The file that gets the standard output and error of the process."""
        return self.folder / "registry.log"

    def write(self) -> Path:
        """Write the config file and return its path."""
        http: dict[str, Any] = {
            "addr": self.address,
            "relativeurls": True,
            "secret": secrets.token_hex(16),
            "headers": {"X-Content-Type-Options": ["nosniff"]},
        }
        if self.tls is not None:
            http["tls"] = {
                "certificate": str(self.tls.certificate),
                "key": str(self.tls.key),
            }
        content: dict[str, Any] = {
            "version": 0.1,
            "log": {
                "level": "info",
                "formatter": "text",
                "accesslog": {"disabled": not self.log_requests},
            },
            "storage": {
                "filesystem": {"rootdirectory": str(self.folder / "content")},
                "delete": {"enabled": False},
            },
            "http": http,
        }
        if self.remote_url is not None:
            content["proxy"] = {"remoteurl": self.remote_url}
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "config.yml"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(content))
        return path

    def command(self, binary: Path) -> list[str]:
        """Write the config and return the command that serves it."""
        return [str(binary), "serve", str(self.write())]


def listening_port(log: Path) -> int | None:
    """Return the port that a registry says in its log it listens on, None if it does not yet."""
    try:
        text = log.read_text(errors="replace")
    except FileNotFoundError:
        return None
    found = _LISTENING.search(text)
    return int(found["port"]) if found else None


class RegistryProcess:
    """One running distribution registry."""

    def __init__(self, config: RegistryConfig, binary: Path) -> None:
        self._config = config
        self._binary = binary
        self._process: asyncio.subprocess.Process | None = None
        self._port: int | None = None

    @property
    def port(self) -> int:
        """The TCP port it listens on. Raises RuntimeError before start()."""
        if self._port is None:
            raise RuntimeError("the registry has not been started")
        return self._port

    async def start(self) -> None:
        """Start it and wait until it listens. Raises RegistryStartError with its log file."""
        command = self._config.command(self._binary)
        self._config.log.unlink(missing_ok=True)
        with self._config.log.open("wb") as out:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={"OTEL_TRACES_EXPORTER": "none"},
            )
        process, log = self._process, self._config.log

        def port() -> int | None:
            if process.returncode is not None:
                raise RegistryStartError(f"the registry ended with {process.returncode}; see {log}")
            return listening_port(log)

        try:
            self._port = await until_async(
                port, f"the registry listens; see {log}", timeout=START_TIMEOUT, interval=0.02
            )
        except NotInTimeError as error:
            await self.stop()
            raise RegistryStartError(str(error)) from None

    async def stop(self) -> None:
        """End it: politely, then by force after STOP_TIMEOUT seconds. Stopping twice is fine."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()
