"""Starts the CNCF distribution registry: writes its config and finds the port it takes."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

import yaml

from rehearsal.cloud.registries.certificates import ServerCertificate
from rehearsal.processes import Processes

_LISTENING = re.compile(r"listening on (?:\[[^]]+\]|[0-9.]+):(?P<port>\d+)")


def start(
    processes: Processes,
    name: str,
    binary: Path,
    folder: Path,
    *,
    address: str = "127.0.0.1:0",
    tls: ServerCertificate | None = None,
    remote_url: str | None = None,
) -> int:
    """Start a registry as a process of this name and wait until it listens; its port.

    `folder` holds its config and content. `address` is host:port, port 0 takes a free one. Without
    `tls` it serves plain HTTP; with `remote_url` it is a pull-through cache of that registry. Its
    log has a line for every request.

    Raises:
        ProcessError: when it does not start; the message names its log file.
    """
    http: dict[str, Any] = {
        "addr": address,
        "relativeurls": True,
        "secret": secrets.token_hex(16),
        "headers": {"X-Content-Type-Options": ["nosniff"]},
    }
    if tls is not None:
        http["tls"] = {"certificate": str(tls.certificate), "key": str(tls.key)}
    content: dict[str, Any] = {
        "version": 0.1,
        "log": {"level": "info", "formatter": "text", "accesslog": {"disabled": False}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "content")},
            "delete": {"enabled": False},
        },
        "http": http,
    }
    if remote_url is not None:
        content["proxy"] = {"remoteurl": remote_url}
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "config.yml"
    config.touch(mode=0o600)
    config.write_text(yaml.safe_dump(content))
    log = processes.logs / f"{name}.log"
    log.unlink(missing_ok=True)
    processes.start(
        name,
        [binary, "serve", config],
        ready=lambda: _LISTENING.search(log.read_text(errors="replace")) is not None,
        environment={"OTEL_TRACES_EXPORTER": "none"},
    )
    (port,) = _LISTENING.findall(log.read_text(errors="replace"))[:1]
    return int(port)
