"""Secrets that stand in a stack file in plain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from settings.errors import PROJECT, SECRET_FIELDS, Problem, command, written


def plain_secrets(section: str, value: Any, path: tuple[int | str, ...] = ()) -> list[Problem]:
    """The secrets that are not encrypted in a section, as the stack file has it."""
    problems: list[Problem] = []
    items: Iterable[tuple[int | str, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, child in items:
        here = (*path, key)
        encrypted = isinstance(child, dict) and set(child) == {"secure"}
        if key not in SECRET_FIELDS:
            problems += plain_secrets(section, child, here)
        elif child and not encrypted:
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
    return problems


def section_in(stack_file: Path, section: str) -> Any:
    """A section as a stack file has it, secrets encrypted; None when it is not to be read there.

    Pulumi calls a section a secret as a whole when one value in it is encrypted, whatever stands
    beside it; the file tells.
    """
    try:
        document = yaml.safe_load(stack_file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return None
    config = document.get("config") if isinstance(document, Mapping) else None
    return config.get(f"{PROJECT}:{section}") if isinstance(config, Mapping) else None
