"""How the program ends when the Pulumi CLI interrupts it, as it does once something else failed."""

from __future__ import annotations

import sys
from types import TracebackType


def quiet(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say nothing of an interrupt: the message that matters was printed before it.

    For `sys.excepthook`.
    """
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
