"""`python -m inventory`."""

from inventory.cli import app

app(prog_name="python -m inventory")
