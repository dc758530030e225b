"""Where the rehearsal keeps things: built parts per user, runs per checkout."""

from __future__ import annotations

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
"""The project's folder, which holds `Pulumi.yaml`."""
GO_MODULES = Path(__file__).resolve().parent / "parts" / "go"
"""One small Go module for each part: what to build, pinned by `go.mod` and `go.sum`."""
RUNS = CHECKOUT / ".rehearsal"
"""One folder for each rehearsal of this checkout; git ignores it."""


def cache() -> Path:
    """The per-user cache of built parts (`XDG_CACHE_HOME`, else `~/.cache`)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "vke-dockerhub-proxy"


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, from its first moment."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write(text)
