"""What a person sees while a rehearsal works: one line a step, its time, its log when it fails."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich import progress as bars
from rich.console import Console
from rich.markup import escape

_WIDTH = 120
"""Characters a line where no terminal says how many it has."""


def output() -> Console:
    """Standard output, for what a command is run for."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)


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

    def say(self, what: str) -> None:
        """Print one line."""
        self.console.print(what)

    def _begin(self, what: str) -> bars.TaskID:
        task = self._live.add_task(escape(what), total=None)
        self._running += 1
        if self.console.is_terminal:
            self._live.start()
        return task

    def _end(self, task: bars.TaskID, line: str) -> None:
        self._live.remove_task(task)
        self.console.print(line)
        self._running -= 1
        if self._running == 0 and self.console.is_terminal:
            self._live.stop()


def _since(started: float) -> str:
    return f"{time.monotonic() - started:.1f} s"
