"""What holds for every test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Generator, Mapping
from pathlib import PurePosixPath
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from rehearsal.locations import CHECKOUT
from tests.support.machine import CANNOT

_MACHINE = "this machine's mounts and links"
_LONGEST = (_MACHINE, "stage", "conformance", "cli", "node")
"""What takes longest, in its order: scopes, and folders of them."""
_FEW_AND_LONG = (
    "test_node_roll_out",
    "test_looks_at_the_api_server",
    "test_kyverno_release",
    "test_rehearsal_interrupted",
)
"""Files that begin before others of their folder: their tests are few, and wait."""
_CHECKOUT = pytest.StashKey[str]()
_CONTAINERD = re.compile(r"\[(1\.6|2\.4)\b")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """In CI a skipped test is a failed one, unless the machine cannot run it."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        reason = str(report.longrepr[-1])
        if CANNOT not in reason:
            report.outcome = "failed"
            report.longrepr = f"skipped in CI: {reason}"
    return report


def pytest_sessionstart(session: pytest.Session) -> None:
    """In CI what git says of the checkout is kept, for a look after the last test."""
    if os.environ.get("CI") and not hasattr(session.config, "workerinput"):
        session.config.stash[_CHECKOUT] = _git_status()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tests that change the checkout fail."""
    before = session.config.stash.get(_CHECKOUT, None)
    if before is not None and before != (after := _git_status()):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        session.config.get_terminal_writer().line(f"the tests changed the checkout:\n{after}")


def _git_status() -> str:
    return subprocess.run(
        ["git", "status", "--porcelain"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout


def pytest_report_header() -> str:
    """Says whether the tests of tests/cli are among those run."""
    found = shutil.which("pulumi")
    return f"Pulumi CLI: {found or 'not on PATH, so tests/cli is left out'}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first, so that in the end no worker is left with them alone."""
    sizes = Counter(_parts_shared_by(item.nodeid) for item in items)
    items.sort(key=lambda item: _turn(item.nodeid, sizes))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Tests that share real parts run in one worker, which then ends the parts.

    xdist's own `--dist=loadgroup` does nothing under pytest 9: it renames a test by an attribute
    that pytest does not read any more, and each worker would start the parts again.
    """
    config.option.loadscopereorder = False  # the order of the items counts
    return _ByParts(config, log)


class _ByParts(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    def _split_scope(self, nodeid: str) -> str:
        return _parts_shared_by(nodeid)


def _turn(nodeid: str, sizes: Mapping[str, int]) -> tuple[int, bool, int, str]:
    parts = _parts_shared_by(nodeid)
    folder = parts.partition("/")[0]
    turn = _LONGEST.index(folder) if folder in _LONGEST else len(_LONGEST)
    few_and_long = any(each in parts for each in _FEW_AND_LONG)
    return turn, not few_and_long, -sizes[parts], parts


def _parts_shared_by(nodeid: str) -> str:
    path = PurePosixPath(nodeid.partition("::")[0])
    folder, file = path.parent.name, path.stem
    if file in {"test_real_node", "test_rehearsal_node"}:
        return _MACHINE
    if folder in {"stage", "conformance"}:
        return folder
    containerd = _CONTAINERD.search(nodeid)
    return f"{folder}/{file} {containerd[1] if folder == 'node' and containerd else ''}"
