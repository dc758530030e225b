"""Plain config to the model, with every refusal in a user's words."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from settings.errors import PROJECT, SECRET_FIELDS, Problem, command, kind_of, shown, written
from settings.model import (
    Settings,
)


@dataclass(frozen=True, kw_only=True)
class Validated:
    """What stands of a config, and what was refused of it."""

    settings: Settings | None
    """What is left, with defaults where a setting was refused; None when it cannot stand alone."""
    problems: list[Problem]
    refused: frozenset[str]
    """The settings refused, and those a misspelt key was most likely meant for."""
    dropped: Mapping[str, frozenset[int]]
    """By list, the items left out because something in them was refused."""

    def as_written(self, problem: Problem) -> Problem:
        """A problem of what is left, with items of lists numbered as the user wrote them."""
        return replace(
            problem,
            setting=self._renumbered(problem.setting),
            found=self._renumbered(problem.found),
            do=self._renumbered(problem.do),
        )

    def _renumbered(self, text: str) -> str:
        for name, gone in self.dropped.items():
            parts = re.split(re.escape(name) + r"\[([0-9]+)\]", text)
            for at in range(1, len(parts), 2):
                parts[at] = f"{name}[{_before(int(parts[at]), gone)}]"
            text = "".join(parts)
        return text


def validate(document: Mapping[str, Any]) -> Validated:
    """The settings and what was refused of them.

    What was refused is left out in further tries, an item of a list as a whole, so that the rules
    across settings are checked in the same run.
    """
    problems: list[Problem] = []
    refused: set[str] = set()
    dropped: dict[str, set[int]] = {}
    settings = None
    remainder: dict[str, Any] = deepcopy(dict(document))
    for attempt in range(3):
        try:
            settings = Settings.model_validate(remainder)
            break
        except ValidationError as error:
            details = error.errors(include_url=False)
        if attempt == 0:
            problems = [_problem(detail) for detail in details]
        refused |= {written(path) for detail in details for path in _refused_by(detail)}
        paths = {_item(each["loc"]) for each in details}
        for path in sorted(paths, key=_position, reverse=True):
            if isinstance(path[-1], int):
                dropped.setdefault(written(path[:-1]), set()).add(path[-1])
            _leave_out(remainder, path)
    return Validated(
        settings=settings,
        problems=problems,
        refused=frozenset(refused),
        dropped={name: frozenset(gone) for name, gone in dropped.items()},
    )


def _refused_by(detail: ErrorDetails) -> Iterator[tuple[int | str, ...]]:
    """The settings of which nothing is known after a refusal."""
    path = detail["loc"]
    yield path
    if detail["type"] == "extra_forbidden":
        for near in _nearest(path):
            yield (*path[:-1], near)


def _before(index: int, gone: frozenset[int]) -> int:
    """The position an item had before those `gone` were left out."""
    for each in sorted(gone):
        index += each <= index
    return index


def _position(path: tuple[int | str, ...]) -> list[str]:
    """A sort key that puts later items of a list after earlier ones."""
    return [f"{part:>9}" for part in path]


def _item(path: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The path of the outermost list item `path` leads into, or `path` itself."""
    for index, part in enumerate(path):
        if isinstance(part, int):
            return path[: index + 1]
    return path


def _leave_out(node: Any, path: tuple[int | str, ...]) -> None:
    """Remove what `path` leads to, if it is there."""
    *parents, last = path
    for key in parents:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(node, dict):
        node.pop(last, None)
    elif isinstance(node, list) and isinstance(last, int) and last < len(node):
        del node[last]


_SHAPES: Mapping[str, tuple[str, str | None]] = {
    "model_type": ("a mapping", "write `{setting}:` and its keys below it, or leave it out"),
    "dict_type": ("a mapping", "write `{setting}:` and its keys below it, or leave it out"),
    "list_type": ("a list", "write its items below it, each on a line that begins with '- '"),
    "string_type": ("text", "write it in quotes"),
    "int_type": ("a whole number", None),
    "bool_type": ("true or false", None),
    "bool_parsing": ("true or false", None),
    "date_parsing": ("a day, such as 2026-12-31", None),
    "date_from_datetime_parsing": ("a day, such as 2026-12-31", None),
    "date_type": ("a day, such as 2026-12-31", None),
}
"""By Pydantic's name of an error: what is wanted, and what to do if not to set it by command."""
_STRUCTURES = frozenset({"model_type", "dict_type", "list_type"})


def _problem(detail: ErrorDetails) -> Problem:
    """Say a refusal of the model in the words a user needs."""
    path = detail["loc"]
    setting = written(path)
    kind, context = detail["type"], detail.get("ctx", {})
    hidden = any(part in SECRET_FIELDS for part in path)
    allowed = str(context.get("expected", detail["msg"].removeprefix("Input should be ")))
    do = command(setting, secret=hidden)
    found = "a secret (not shown)" if hidden else shown(detail["input"])
    if kind == "extra_forbidden":
        near = _nearest(path) or [key for key in _keys(path) if key.endswith(f":{path[-1]}")]
        found, allowed = "an unknown key", ", ".join(sorted(_keys(path)))
        do = f"did you mean '{near[0]}'?" if near else "remove it"
        if len(path) == 1 and "." in setting:
            do = f"pulumi config rm '{PROJECT}:{setting}'; then {command(setting)}"
    elif kind == "too_short" and hidden:
        allowed = "a value that is not empty"
    elif kind == "missing":
        found, allowed = "nothing", "a value is required"
    elif kind == "rule":
        allowed, do = context["allowed"], context["do"]
    elif kind in _SHAPES:
        allowed, instead = _SHAPES[kind]
        if instead and not hidden:
            do = instead.format(setting=setting)
        if kind in _STRUCTURES and not hidden:
            found = kind_of(detail["input"])
    return Problem(setting=setting, found=found, allowed=allowed, do=do)


def _keys(path: tuple[int | str, ...]) -> list[str]:
    """The keys there are where `path` has one that is unknown."""
    fields = _model_at(path[:-1]).model_fields
    return [field.alias or name for name, field in fields.items()]


def _nearest(path: tuple[int | str, ...]) -> list[str]:
    """The known key most like the unknown one at the end of `path`; none if none is like it."""
    return difflib.get_close_matches(str(path[-1]), _keys(path), n=1)


def _model_at(path: tuple[int | str, ...]) -> type[BaseModel]:
    """The model whose keys stand at `path`."""
    model: type[BaseModel] = Settings
    for part in path:
        if isinstance(part, str):
            fields = {field.alias: field for field in model.model_fields.values()}
            model = next(_models_in(fields[part].annotation))
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models of a field's type, also inside a list or an Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)
