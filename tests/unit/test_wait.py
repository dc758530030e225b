"""Waiting: what it returns, what ends it, and what its error says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from rehearsal import wait


def after(looks: int, *, until_then: object = None) -> Callable[[], str]:
    """A condition that holds from so many looks on; before, it raises or returns something."""
    left = iter(range(looks))

    def look() -> str:
        if next(left, None) is None:
            return "there"
        if isinstance(until_then, Exception):
            raise until_then
        return ""

    return look


def test_it_returns_what_the_condition_returned() -> None:
    assert wait.until(after(2), "it", timeout=5, interval=0) == "there"


async def test_other_tasks_go_on_while_it_waits() -> None:
    seen = asyncio.Event()
    setting = asyncio.create_task(_set(seen))
    assert await wait.until_async(seen.is_set, "it", timeout=5, interval=0)
    await setting


async def _set(event: asyncio.Event) -> None:
    event.set()


def test_an_exception_to_ignore_means_not_yet() -> None:
    condition = after(2, until_then=ValueError("no"))
    assert wait.until(condition, "it", timeout=5, interval=0, ignoring=ValueError) == "there"


def test_any_other_exception_ends_the_wait() -> None:
    with pytest.raises(ValueError, match=r"^broken$"):
        wait.until(after(2, until_then=ValueError("broken")), "it", ignoring=OSError)


def test_the_error_says_what_was_not_there_in_time() -> None:
    with pytest.raises(wait.NotInTimeError, match=r"^not in 0\.01 s: the login is copied$"):
        wait.until(after(9999), "the login is copied", timeout=0.01, interval=0.001)


async def test_the_error_names_the_last_reason_against_it() -> None:
    condition = after(9999, until_then=ValueError("404"))
    with pytest.raises(wait.NotInTimeError, match=r"^not in 0\.01 s: it is there: 404$") as raised:
        await wait.until_async(
            condition, "it is there", timeout=0.01, interval=0.001, ignoring=ValueError
        )
    assert isinstance(raised.value.__cause__, ValueError)
