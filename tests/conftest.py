"""What holds for every test."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """In CI a skipped test is a failed one: every part can be had there."""
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
    return report


_MACHINE = "this machine's mounts and links"
_LONGEST = (_MACHINE, "conformance", "stage")


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in this hook too
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Those that share real parts in one worker; the longest first, so that none is left alone."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_parts_shared_by(item)))
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    group = _parts_shared_by(item)
    if group in _LONGEST:
        return _LONGEST.index(group)
    return len(_LONGEST) + (item.path.parent.name != "node")


def _parts_shared_by(item: pytest.Item) -> str:
    folder, file = item.path.parent.name, item.path.stem
    if file in {"test_real_node", "test_rehearsal_node"}:
        return _MACHINE
    if folder == "node" and isinstance(item, pytest.Function) and hasattr(item, "callspec"):
        return f"{file} {item.callspec.params.get('containerd', '')}"
    return folder if folder in _LONGEST else file
