"""Secrets that stand in a stack file in plain."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from inputs.problems import SECRET_FIELDS, Problem, command, written


def plain_secrets(section: str, value: Any, path: tuple[int | str, ...] = ()) -> list[Problem]:
    """Secrets that stand in the stack file in plain."""
    problems: list[Problem] = []
    items: Iterable[tuple[int | str, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, child in items:
        here = (*path, key)
        if key in SECRET_FIELDS and child:
            setting = written((section, *here))
            problems.append(
                Problem(
                    setting=setting,
                    found="a secret in plain text (not shown)",
                    allowed="an encrypted value",
                    do="change this secret, it was in a file; then "
                    + command(setting, secret=True),
                )
            )
        else:
            problems += plain_secrets(section, child, here)
    return problems
