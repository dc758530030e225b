"""What all failures that a person can do something about have in common."""


class RehearsalError(Exception):
    """The message says what is wrong; the command line shows it alone, without a traceback."""
