"""Processes a rehearsal starts, each with a log of its own, all ended with it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

import psutil

from rehearsal import wait
from rehearsal.errors import RehearsalError

_GRACE_SECONDS = 5.0


class ProcessError(RehearsalError):
    """A process ended or did not become ready; the message names its log file."""


class Processes:
    """The processes of one rehearsal. Leaving the context ends them."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        logs.mkdir(parents=True, exist_ok=True)
        self._started: dict[str, subprocess.Popen[bytes]] = {}
        self._disposable: set[int] = set()

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        ready: Callable[[], bool] = lambda: True,
        environment: Mapping[str, str] | None = None,
        timeout: float = 60,
        disposable: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start a process in a session of its own and wait until it is ready.

        A disposable one is killed in the end and not asked: it is slow to end, and keeps nothing.

        Raises:
            ProcessError: when it ends, or is not ready in `timeout` seconds.
        """
        log = self.logs / f"{name}.log"
        with log.open("ab") as out:
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self._started[name] = process
        if disposable:
            self._disposable.add(process.pid)
        await_ready(process, ready, name=name, log=log, timeout=timeout)
        return process

    def stop(self, name: str) -> None:
        """End one process and what it started; a name not running is no error."""
        process = self._started.pop(name, None)
        if process is not None:
            end_groups(process.pid)
            process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        leaders = [process.pid for process in self._started.values()]
        for leader in self._disposable.intersection(leaders):
            _signal_group(leader, signal.SIGKILL)
        end_groups(*leaders)
        while self._started:
            self._started.popitem()[1].wait()


def await_ready(
    process: subprocess.Popen[bytes],
    ready: Callable[[], bool],
    *,
    name: str,
    log: Path,
    timeout: float,
) -> None:
    """Wait until a process is ready.

    Raises:
        ProcessError: when it ends, or is not ready in `timeout` seconds; it names `log`.
    """

    def is_ready() -> bool:
        done = ready()
        if not done and process.poll() is not None:
            raise ProcessError(f"{name} ended with {process.returncode}; see {log}")
        return done

    try:
        wait.until(is_ready, f"{name} is ready; see {log}", timeout=timeout, interval=0.05)
    except wait.NotInTimeError as error:
        raise ProcessError(str(error)) from error


def end_groups(*leaders: int) -> None:
    """End process groups, all at once: ask, wait, then kill."""
    members = [each for each in psutil.process_iter() if _group_of(each) in leaders]
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for leader in leaders:
            _signal_group(leader, signal.SIGCONT)
            _signal_group(leader, sign)
        _, members = psutil.wait_procs(members, timeout=_GRACE_SECONDS)
        if not members:
            return


def _signal_group(leader: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, number)


def _group_of(process: psutil.Process) -> int | None:
    try:
        return os.getpgid(process.pid)
    except (ProcessLookupError, PermissionError):
        return None


def end_all(processes: Sequence[psutil.Process]) -> None:
    """End these processes: ask, wait, then kill."""
    left = list(processes)
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for each in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.send_signal(sign)
        _, left = psutil.wait_procs(left, timeout=_GRACE_SECONDS)


def free_port() -> int:
    """A TCP port of loopback that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def answers(port: int, address: str = "127.0.0.1") -> bool:
    """Whether something accepts connections on this port of an IP address."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex((address, port)) == 0


def end_strays(folder: Path) -> None:
    """End what a killed supervisor, or one interrupted while it started a process, left.

    That is every process with the run's folder in its command, but this one.
    """
    strays = [
        each
        for each in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in each.info["cmdline"] or ())
        and each.pid != os.getpid()
    ]
    for each in strays:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(strays, timeout=5)
