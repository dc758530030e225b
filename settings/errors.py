"""What a user is told of a setting that cannot stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pulumi

PROJECT = "vke-dockerhub-proxy"
"""The Pulumi project, the name space of its settings."""

SECRET_FIELDS = frozenset({"password", "kubeconfig"})
"""Keys whose values are secrets, wherever they stand."""

LONGEST_SHOWN = 100
"""Characters of a value in a message."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One setting that cannot stand: where, what was found, what is allowed, what to do."""

    setting: str
    found: str
    allowed: str
    do: str

    def __str__(self) -> str:
        return (
            f"{self.setting}\n    found:   {self.found}\n"
            f"    allowed: {self.allowed}\n    do:      {self.do}"
        )


class SettingsError(pulumi.RunError):
    """The stack's config cannot stand; `problems` holds every reason."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        count = "1 setting" if len(problems) == 1 else f"{len(problems)} settings"
        listing = "\n  ".join(str(problem) for problem in problems)
        super().__init__(f"{count} to correct; nothing was touched\n  {listing}")


def written(path: tuple[int | str, ...]) -> str:
    """A setting's path as `pulumi config set --path` takes it."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def shown(value: Any) -> str:
    """A value for an error message; structures are named, not printed: they may hold secrets."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "an empty list" if not value else f"a list of {len(value)}"
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}…"


def kind_of(value: Any) -> str:
    """What a value is, and not which: where a structure is wanted a secret may stand."""
    if isinstance(value, str):
        return "text"
    return "a number" if isinstance(value, int | float) else shown(value)


def command(setting: str, value: str = "<value>", *, secret: bool = False) -> str:
    """The command that sets a setting."""
    flag = "--secret " if secret else ""
    return f"pulumi config set {flag}--path '{PROJECT}:{setting}'" + ("" if secret else f" {value}")
