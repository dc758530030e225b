"""The process of its own that holds a stage between commands: `up` starts it, `down` ends it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from rehearsal import wait
from rehearsal.cluster import node as real_node
from rehearsal.errors import RehearsalError
from rehearsal.locations import CHECKOUT
from rehearsal.processes import end_groups, end_strays
from rehearsal.stage import Run

_START_SECONDS = 3600.0
_STOP_SECONDS = 60.0


class NotUpError(RehearsalError):
    """A stage could not be started; the message names the log that says why."""


@contextmanager
def held(folder: Path, options: Sequence[str]) -> Iterator[Run]:
    """A stage in `folder`, held by a process that goes on after this context.

    An exception before its end, Ctrl-C too, ends the process with all it started and removes the
    folder. `options` are those of `hold`; what that says is repeated on standard error.

    Raises:
        NotUpError: when the stage cannot be started; its logs are kept.
        SystemExit: when nothing was started, and the reason is said.
    """
    log = folder / "stage.log"
    supervisor = None
    try:
        supervisor = _start(folder, options, log)
        run = _awaited(supervisor, folder, log)
        if run is not None:
            yield run
    except BaseException:
        for number in (signal.SIGINT, signal.SIGTERM):  # a second Ctrl-C would leave a part of it
            signal.signal(number, signal.SIG_IGN)
        with suppress(OSError):  # what failed may be standard error itself
            sys.stderr.write("rehearsal: not up; stopping everything it started\n")
        if supervisor is not None:
            _stop(supervisor)
        _remove(folder)
        raise
    if run is None:
        _stop(supervisor)
        if (folder / "logs").is_dir():
            raise NotUpError(f"not up; see {log}")
        shutil.rmtree(folder)
        raise SystemExit(1)


def end(folder: Path) -> None:
    """Stop everything of the stage in `folder`, held or left by a killed process; remove it."""
    with suppress(FileNotFoundError, ProcessLookupError, psutil.NoSuchProcess):
        supervisor = psutil.Process(Run.load(folder).supervisor)
        supervisor.terminate()
        supervisor.wait(timeout=_STOP_SECONDS)
    _remove(folder)


def _start(folder: Path, options: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "rehearsal", "hold", str(folder), *options],
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def _awaited(supervisor: subprocess.Popen[bytes], folder: Path, log: Path) -> Run | None:
    """The stage as soon as it is up; None if the supervisor ends, or it takes too long."""
    shown = 0
    found: list[Run] = []

    def over() -> bool:
        nonlocal shown
        ended = supervisor.poll() is not None
        text = log.read_text()
        sys.stderr.write(text[shown:])
        shown = len(text)
        with suppress(FileNotFoundError):
            found.append(Run.load(folder))
        return ended or bool(found)

    with suppress(wait.NotInTimeError):
        wait.until(over, "the stage is up", timeout=_START_SECONDS)
    return found[0] if found else None


def _stop(supervisor: subprocess.Popen[bytes]) -> None:
    """End a supervisor, which ends its parts, and what it builds, which is in its group."""
    with suppress(ProcessLookupError):
        os.killpg(supervisor.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        supervisor.wait(_STOP_SECONDS)
    end_groups(supervisor.pid)


def _remove(folder: Path) -> None:
    end_strays(folder)
    real_node.clear(folder / "real-node")
    shutil.rmtree(folder)
