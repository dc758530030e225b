"""The rehearsal's commands, as a shell runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from rehearsal import wait
from rehearsal.admit import admit
from rehearsal.locations import CHECKOUT, RUNS
from rehearsal.stage import Run, api_client

DOMAIN = "dockerhub-rehearsal-cn-beijing.cr.volces.com"
"""The domain of Docker Hub's proxy in the rehearsal's stack."""
GHCR_DOMAIN = "ghcr-rehearsal-cn-beijing.cr.volces.com"
"""The same of ghcr.io's."""


def ran(
    *words: str, folder: Path | None = None, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `python -m rehearsal …` on the run of a folder, or where the environment names none."""
    environment = {key: value for key, value in os.environ.items() if key != "REHEARSAL_RUN"}
    if folder is not None:
        environment["REHEARSAL_RUN"] = str(folder)
    return subprocess.run(
        [sys.executable, "-m", "rehearsal", *words],
        cwd=CHECKOUT,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def rehearsal(*words: str, folder: Path | None = None, stdin: str = "") -> str:
    """The same for a command that succeeds; its standard output."""
    done = ran(*words, folder=folder, stdin=stdin)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


def run_of(exports: str) -> Run:
    """The run that `python -m rehearsal up` printed the exports of."""
    (line,) = (each for each in exports.splitlines() if each.startswith("export REHEARSAL_RUN="))
    return Run.load(Path(line.partition("=")[2].strip("'")))


def interrupted_at(step: str, *words: str, log: str = "", runner: str = "embedded") -> Path:
    """Start a whole rehearsal, end it by SIGINT at one of its steps; the folder it leaves.

    With `log` it is ended once there is that log.
    """
    return _interrupted(("run", "--runner", runner, *words), step, log, signal.SIGINT)


def up_interrupted_at(
    step: str, *words: str, log: str = "", number: signal.Signals = signal.SIGINT
) -> Path:
    """As `interrupted_at`, but `up`, ended by this signal; the folder it had."""
    return _interrupted(("up", *words), step, log, number)


def _interrupted(words: Sequence[str], step: str, log: str, number: signal.Signals) -> Path:
    process = subprocess.Popen(
        [sys.executable, "-m", "rehearsal", *words],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if step in line:
            break
    (folder,) = {
        RUNS / Path(word).relative_to(RUNS).parts[0]
        for child in psutil.Process(process.pid).children()
        for word in child.cmdline()
        if Path(word).is_relative_to(RUNS)
    }
    wait.until((folder / "logs" / log).exists, f"{log} is there")
    process.send_signal(number)
    said, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "export" not in said
    return folder


@contextmanager
def asking(run: Run, images: Sequence[str]) -> Iterator[list[str | None]]:
    """Asks all the time what these images are admitted as; the answers so far."""
    api = api_client(run)
    stopped = threading.Event()
    admitted: list[str | None] = []

    def ask() -> None:
        while not stopped.wait(0.02):
            admitted.extend(each.admitted for each in admit(api, images, workers=1))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield admitted
    finally:
        stopped.set()
        thread.join()
