"""The time left of a longer work."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from rehearsal import progress
from rehearsal.progress import Piece, Progress, time_left


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_cores", lambda: 2)


@pytest.mark.parametrize(
    ("elapsed", "done", "expected"),
    [
        pytest.param(0, 0, 500, id="at first, what it takes on this many cores"),
        pytest.param(200, 50, 475, id="a slow start does not count yet"),
        pytest.param(200, 200, 800, id="then, by how fast it went so far"),
        pytest.param(900, 1000, 0, id="at the end, nothing"),
    ],
)
def test_the_time_left_is_by_what_was_done(elapsed: float, done: float, expected: float) -> None:
    assert time_left(elapsed, done, 1000) == pytest.approx(expected)


def test_a_longer_work_says_what_it_will_do_and_how_long_each_piece_takes() -> None:
    console = Console(file=io.StringIO(), width=100)
    pieces = [Piece(name="building one", seconds=600), Piece(name="building two", seconds=60)]
    with Progress(console).work("the parts", pieces) as work:
        for piece in pieces:
            with work.piece(piece):
                work.did(piece, 0.5)
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "the parts, about 6 min" in text
    assert "building one: about 5 min" in text
    assert "building two: about 30 s" in text
    assert text.count("✓") == 2
