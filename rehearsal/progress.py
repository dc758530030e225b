"""What a person sees while a rehearsal works: one line a step, its time, its log when it fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console


class Progress:
    """Steps on standard error, with a spinner on a terminal and plain lines elsewhere."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True, highlight=False)

    @contextmanager
    def step(self, what: str, *, log: Path | None = None) -> Iterator[None]:
        """Show `what` while the block runs, then its time, or that it failed and its log."""
        started = time.monotonic()
        if not self.console.is_terminal:
            self.console.print(f"  … {what}")
        try:
            with self.console.status(what):
                yield
        except BaseException:
            seen = f"; log: {log}" if log else ""
            self.console.print(f"  [red]✗[/] {what} ({time.monotonic() - started:.1f} s){seen}")
            raise
        self.console.print(f"  [green]✓[/] {what} ({time.monotonic() - started:.1f} s)")

    def say(self, what: str) -> None:
        """Print one line."""
        self.console.print(what)
