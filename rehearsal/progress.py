"""What a person sees while a rehearsal works: one line a step, its time, its log when it fails."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich import progress as bars
from rich.console import Console
from rich.markup import escape


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A piece of a longer work."""

    name: str
    seconds: float
    """The CPU seconds it takes, about; above 0."""
    log: Path | None = None


class Progress:
    """Steps on standard error: live with a running time on a terminal, plain lines elsewhere.

    Steps may overlap, from any thread.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._live = bars.Progress(
            bars.SpinnerColumn(),
            bars.TextColumn("{task.description}"),
            bars.TimeElapsedColumn(),
            console=self.console,
            transient=True,
        )
        self._running = 0

    @contextmanager
    def step(self, what: str, *, log: Path | None = None) -> Iterator[None]:
        """Show `what` while the block runs, then its time, or that it failed and its log."""
        started = time.monotonic()
        if not self.console.is_terminal:
            self.console.print(f"  … {escape(what)}")
        task = self._begin(what)
        try:
            yield
        except BaseException:
            seen = f"; log: {log}" if log else ""
            self._end(task, f"  [red]✗[/] {escape(what)} ({_since(started)}){seen}")
            raise
        self._end(task, f"  [green]✓[/] {escape(what)} ({_since(started)})")

    @contextmanager
    def work(self, what: str, pieces: Sequence[Piece]) -> Iterator[Work]:
        """Say what pieces a longer work has and what each takes, then show a bar of all of it."""
        self.say(f"{what}, about {_about(sum(each.seconds for each in pieces) / _cores())}:")
        for each in pieces:
            self.say(f"  · {escape(each.name)}: about {_about(each.seconds / _cores())}")
        task = self._begin(what)
        try:
            yield Work(self, task, pieces)
        finally:
            self._end(task)

    def show(self, task: bars.TaskID, text: str, *, line: bool) -> None:
        """Put this text beside a task; without a terminal print it, if it is worth a `line`."""
        if self.console.is_terminal:
            self._live.update(task, description=escape(text))
        elif line:
            self.say(f"  … {escape(text)}")

    def say(self, what: str) -> None:
        """Print one line."""
        self.console.print(what)

    def _begin(self, what: str) -> bars.TaskID:
        task = self._live.add_task(escape(what), total=None)
        self._running += 1
        if self.console.is_terminal:
            self._live.start()
        return task

    def _end(self, task: bars.TaskID, line: str = "") -> None:
        self._live.remove_task(task)
        if line:
            self.console.print(line)
        self._running -= 1
        if self._running == 0 and self.console.is_terminal:
            self._live.stop()


class Work:
    """What is done of a longer work: a bar and the time left, by what each piece was to take."""

    def __init__(self, progress: Progress, task: bars.TaskID, pieces: Sequence[Piece]) -> None:
        self._progress = progress
        self._task = task
        self._seconds = {each.name: each.seconds for each in pieces}
        self._done = dict.fromkeys(self._seconds, 0.0)
        self._started = self._printed = time.monotonic()

    @contextmanager
    def piece(self, piece: Piece) -> Iterator[None]:
        """One piece, as a step."""
        with self._progress.step(piece.name, log=piece.log):
            yield
        self.did(piece, 1.0)

    def did(self, piece: Piece, share: float) -> None:
        """Say that so much of a piece, 0 to 1, is done."""
        self._done[piece.name] = share
        whole = sum(self._seconds.values())
        done = sum(seconds * self._done[name] for name, seconds in self._seconds.items())
        now = time.monotonic()
        line = now - self._printed > _LINE_SECONDS
        self._printed = now if line else self._printed
        left = time_left(now - self._started, done, whole)
        blocks = int(_BLOCKS * done / whole)
        text = f"{'█' * blocks}{'░' * (_BLOCKS - blocks)} about {_about(left)} left"
        self._progress.show(self._task, text, line=line)


_BLOCKS = 24
_LINE_SECONDS = 60.0
_TRUSTED_SHARE = 0.1
"""From this share on, what was done so far says how fast this machine is."""


def time_left(elapsed: float, done: float, whole: float) -> float:
    """Seconds of wall time until the whole work is done; `done` and `whole` in CPU seconds."""
    if done < _TRUSTED_SHARE * whole:
        return max(0.0, (whole - done) / _cores())
    return elapsed * (whole - done) / done


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _about(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{round(seconds / 60)} min"


def _since(started: float) -> str:
    return f"{time.monotonic() - started:.1f} s"
