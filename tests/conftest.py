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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first, and those that share real parts in one worker (`-n 2`)."""
    items.sort(key=lambda item: "unit" not in item.path.parts)
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_parts_shared_by(item)))


def _parts_shared_by(item: pytest.Item) -> str:
    folder, file = item.path.parent.name, item.path.stem
    if folder == "node" or file in {"test_real_node", "test_rehearsal_node"}:
        return "this machine's mounts, links and processes"
    if file in {"test_rehearsal", "test_pull_credentials"}:
        return "one deployed stage"
    return folder if folder == "conformance" else file
