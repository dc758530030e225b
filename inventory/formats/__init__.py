"""The answer as people and programs read it: one module a format, each with `write(answer)`."""
