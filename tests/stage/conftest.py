"""One stage with the rehearsal's stack deployed on it, shared by all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rehearsal.deploy.stack import outputs_of
from rehearsal.stage import Run
from tests.support.rehearsals import rehearsal, run_of


@pytest.fixture(scope="package")
def run() -> Iterator[Run]:
    """A stage that is up, as `python -m rehearsal up` starts it, without a real node."""
    exports = rehearsal("up", "--no-node")
    started = run_of(exports)
    yield started
    rehearsal("down", folder=started.folder)


@pytest.fixture(scope="package")
def deployed(run: Run) -> Run:
    """The stage with the stack on it."""
    rehearsal("deploy", "--runner", "embedded", folder=run.folder)
    assert outputs_of(run)["domain"]
    return run
