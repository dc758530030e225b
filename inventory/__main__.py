"""`python -m inventory`."""

import gc

from inventory.cli import app

# Nothing that is read has cycles; to look for some in all that is kept takes a third of the time.
gc.disable()
app(prog_name="python -m inventory")
