"""One stage with the rehearsal's stack deployed on it, shared by the tests that need one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal.engine.deploy import outputs_of
from rehearsal.locations import CHECKOUT
from rehearsal.stage import Run


def rehearsal(*words: str, folder: Path | None = None, stdin: str = "") -> str:
    """Run `python -m rehearsal …` on the run of a folder; its standard output."""
    environment = {key: value for key, value in os.environ.items() if key != "REHEARSAL_RUN"}
    if folder is not None:
        environment["REHEARSAL_RUN"] = str(folder)
    done = subprocess.run(
        [sys.executable, "-m", "rehearsal", *words],
        cwd=CHECKOUT,
        env=environment,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="session")
def run() -> Iterator[Run]:
    """A stage that is up, as `python -m rehearsal up` starts it."""
    exports = rehearsal("up")
    (line,) = (each for each in exports.splitlines() if each.startswith("export REHEARSAL_RUN="))
    started = Run.load(Path(line.partition("=")[2].strip("'")))
    yield started
    rehearsal("down", folder=started.folder)


@pytest.fixture(scope="session")
def deployed(run: Run) -> Run:
    """The stage with the stack on it."""
    rehearsal("deploy", "--engine", "embedded", folder=run.folder)
    assert outputs_of(run)["domain"]
    return run
