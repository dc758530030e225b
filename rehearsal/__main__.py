"""Entry point of `python -m rehearsal`."""

from rehearsal.cli import app

app()
