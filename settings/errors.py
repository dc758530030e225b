"""Error messages for invalid settings: the setting, what was found, what is allowed, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import pulumi
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

PROJECT = "vke-dockerhub-proxy"
"""The Pulumi project, the name space of its settings."""

SECRET_FIELDS = frozenset({"password", "kubeconfig"})
"""Keys whose values are secrets, in whatever section they are."""

LONGEST_VALUE = 100
"""Characters of a value in a message."""

_DAY = ("a day, such as 2026-12-31", None)
_WANTED: Mapping[str, tuple[str, str | None]] = {
    "model_type": ("a mapping", "write `{setting}:` and its keys below it, or leave it out"),
    "dict_type": ("a mapping", "write `{setting}:` and its keys below it, or leave it out"),
    "list_type": ("a list", "write its items below it, each on a line that begins with '- '"),
    "string_type": ("text", "write it in quotes"),
    "int_type": ("a whole number", None),
    "bool_type": ("true or false", None),
    "bool_parsing": ("true or false", None),
    "date_parsing": _DAY,
    "date_from_datetime_parsing": _DAY,
    "date_type": _DAY,
}
"""By pydantic's name of an error: what is allowed, and what to do if not to set it by command."""
_STRUCTURES = frozenset({"model_type", "dict_type", "list_type"})

Path = tuple[int | str, ...]
"""The keys and list positions that lead to a setting."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One invalid setting."""

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
    """The stack's config is invalid; `problems` holds every reason."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        count = "1 setting" if len(problems) == 1 else f"{len(problems)} settings"
        listing = "\n  ".join(str(problem) for problem in problems)
        super().__init__(f"{count} to correct; nothing was touched\n  {listing}")


def setting_path(path: Path) -> str:
    """A setting's path as `pulumi config set --path` takes it."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def command(setting: str, value: str = "<value>", *, secret: bool = False) -> str:
    """The command that sets a setting."""
    if ":" in setting:
        return f"pulumi config set {setting} {value}"
    flag = "--secret " if secret else ""
    return f"pulumi config set {flag}--path '{PROJECT}:{setting}'" + ("" if secret else f" {value}")


def describe(value: Any) -> str:
    """A value for an error message; structures are not printed: they may hold secrets."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "an empty list" if not value else f"a list of {len(value)}"
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}…"


def describe_type(value: Any) -> str:
    """A value's type, without the value: where a structure is wanted it may be a secret."""
    if isinstance(value, str):
        return "text"
    return "a number" if isinstance(value, int | float) else describe(value)


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """What pydantic found wrong with the input of `model`, in the words a user needs."""
    return [_problem(detail, model) for detail in error.errors(include_url=False)]


def _problem(detail: ErrorDetails, model: type[BaseModel]) -> Problem:
    path, kind, context = detail["loc"], detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(path, _keys(model, path[:-1]))
    setting = setting_path(path)
    secret = any(part in SECRET_FIELDS for part in path)
    found = "a secret (not shown)" if secret else describe(detail["input"])
    allowed = str(context.get("expected", detail["msg"].removeprefix("Input should be ")))
    do = command(setting, secret=secret)
    if kind == "too_short" and secret:
        allowed = "a value that is not empty"
    elif kind == "missing":
        found, allowed = "nothing", "a value is required"
    elif kind == "rule":
        allowed, do = context["allowed"], context["do"]
    elif kind in _WANTED:
        allowed, instead = _WANTED[kind]
        if instead and not secret:
            do = instead.format(setting=setting)
        if kind in _STRUCTURES and not secret:
            found = describe_type(detail["input"])
    return Problem(setting=setting, found=found, allowed=allowed, do=do)


def _unknown_key(path: Path, known: list[str]) -> Problem:
    setting, key = setting_path(path), str(path[-1])
    near = difflib.get_close_matches(key, known, n=1)
    near += [each for each in known if each.endswith(f":{key}")]
    do = f"did you mean '{near[0]}'?" if near else "remove it"
    if len(path) == 1 and "." in key:
        do = f"pulumi config rm '{PROJECT}:{key}'; then {command(key)}"
    allowed = ", ".join(sorted(known))
    return Problem(setting=setting, found="an unknown key", allowed=allowed, do=do)


def _keys(model: type[BaseModel], path: Path) -> list[str]:
    """The keys of the model that `path` leads to from `model`."""
    for part in path:
        if isinstance(part, str):
            fields = {field.alias: field for field in model.model_fields.values()}
            model = next(_models_in(fields[part].annotation))
    return [field.alias or name for name, field in model.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models of a field's type, also inside a list or an Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
