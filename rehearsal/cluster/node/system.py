"""The operating system of a node: files of its own over the machine's, and its own services.

In namespaces of its own; `inside.py` is their first process. When that ends, so does all in it.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from rehearsal.cluster.node.inside import Spec
from rehearsal.locations import CHECKOUT, write_private
from rehearsal.processes import Processes, await_ready

_FORK_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class System:
    """A node's operating system that is starting or up."""

    outer: subprocess.Popen[bytes]
    """The process that ends with it."""
    pid: int
    """Its first process, as seen from outside."""

    @property
    def root(self) -> Path:
        """Its root folder, as seen from outside."""
        return Path(f"/proc/{self.pid}/root")


def start(
    processes: Processes, name: str, folder: Path, spec: Spec, namespaces: Sequence[str]
) -> System:
    """Start it as the process `name`; `namespaces` are what `unshare` gives it.

    It comes up once it has its network, if `spec` says that it has one of its own.
    Raises ProcessError.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_private(folder / "spec.json", json.dumps(asdict(spec), indent=1))
    outer = processes.start(
        name,
        [
            *("unshare", *namespaces, "--kill-child"),
            *(sys.executable, "-m", "rehearsal.cluster.node.inside", folder / "spec.json"),
        ],
        environment={"PYTHONPATH": str(CHECKOUT)},
    )
    children: list[psutil.Process] = []

    def forked() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            children.extend(psutil.Process(outer.pid).children())
        return bool(children)

    log = processes.logs / f"{name}.log"
    await_ready(outer, forked, name=name, log=log, timeout=_FORK_SECONDS)
    return System(outer=outer, pid=children[0].pid)


def run(
    pid: int, *command: str | Path, stdin: str | None = None, check: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a command in all namespaces of a process, such as a real node's first one."""
    return subprocess.run(
        ["nsenter", "--all", f"--target={pid}", "--", *command],
        input=stdin,
        capture_output=True,
        text=True,
        check=check,
    )
