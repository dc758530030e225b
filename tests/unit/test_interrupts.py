"""What is left on the screen of a program that is interrupted."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rehearsal.locations import CHECKOUT


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param("KeyboardInterrupt", False, id="an interrupt"),
        pytest.param("ValueError('x')", True, id="a fault"),
    ],
)
def test_an_interrupt_leaves_no_traceback_below_the_message_that_matters(
    error: str, said: bool
) -> None:
    code = (
        f"import sys; from settings.interrupts import quiet; sys.excepthook = quiet; raise {error}"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert ("Traceback" in done.stderr) is said
