"""Waiting until something holds: the only place where anything here polls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast

from tenacity import (
    AsyncRetrying,
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    retry_if_result,
    stop_after_delay,
    wait_fixed,
)

from rehearsal.errors import RehearsalError

T = TypeVar("T")


class NotInTimeError(RehearsalError):
    """What was waited for did not come; the message names it, and the last reason against it."""


def until(
    condition: Callable[[], T | None],
    what: str,
    *,
    timeout: float = 60.0,
    interval: float = 0.05,
    ignoring: type[Exception] | tuple[type[Exception], ...] = (),
) -> T:
    """What `condition` returns as soon as that is true.

    `what` says in words what is waited for, at most `timeout` seconds, with `interval` seconds
    between two looks. An exception of a type in `ignoring` means "not yet"; any other is raised.

    Raises:
        NotInTimeError: when it does not come in time, caused by the last of the exceptions.
    """
    found: object = Retrying(**_policy(what, timeout, interval, ignoring))(condition)
    return cast("T", found)


async def until_async(
    condition: Callable[[], T | None],
    what: str,
    *,
    timeout: float = 60.0,
    interval: float = 0.05,
    ignoring: type[Exception] | tuple[type[Exception], ...] = (),
) -> T:
    """The same as until(), while other tasks of the event loop go on."""

    async def look() -> T | None:
        return condition()

    found: object = await AsyncRetrying(**_policy(what, timeout, interval, ignoring))(look)
    return cast("T", found)


def _policy(
    what: str,
    timeout: float,
    interval: float,
    ignoring: type[Exception] | tuple[type[Exception], ...],
) -> dict[str, Any]:
    def give_up(state: RetryCallState) -> NoReturn:
        error = state.outcome.exception() if state.outcome else None
        reason = f": {error}" if error else ""
        raise NotInTimeError(f"not in {timeout:g} s: {what}{reason}") from error

    return {
        "retry": retry_if_result(lambda value: not value) | retry_if_exception_type(ignoring),
        "stop": stop_after_delay(timeout),
        "wait": wait_fixed(interval),
        "retry_error_callback": give_up,
    }
