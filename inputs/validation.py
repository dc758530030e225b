"""Plain config to the model, with every refusal in a user's words."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from inputs.model import (
    Settings,
)
from inputs.problems import SECRET_FIELDS, Problem, command, shown, written


def validate(document: Mapping[str, Any]) -> tuple[Settings | None, list[Problem]]:
    """The settings and what was refused of them.

    What was refused is left out in further tries, so that the rules across settings are checked
    in the same run; None when nothing is left that stands.
    """
    problems: list[Problem] = []
    remainder: dict[str, Any] = deepcopy(dict(document))
    for attempt in range(3):
        try:
            return Settings.model_validate(remainder), problems
        except ValidationError as error:
            details = error.errors(include_url=False)
        if attempt == 0:
            problems = [_problem(detail) for detail in details]
        for path in sorted((each["loc"] for each in details), key=_position, reverse=True):
            _leave_out(remainder, path if attempt == 0 else _item(path))
    return None, problems


def _position(path: tuple[int | str, ...]) -> list[str]:
    """A sort key that puts later items of a list after earlier ones."""
    return [f"{part:>9}" for part in path]


def _item(path: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The path of the list item `path` leads into, or `path` itself."""
    last = max((index for index, part in enumerate(path) if isinstance(part, int)), default=None)
    return path if last is None else path[: last + 1]


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


def _problem(detail: ErrorDetails) -> Problem:
    """Say a refusal of the model in the words a user needs."""
    path = detail["loc"]
    setting = written(path)
    kind, context = detail["type"], detail.get("ctx", {})
    hidden = any(part in SECRET_FIELDS for part in path)
    found = "a secret (not shown)" if hidden else shown(detail["input"])
    if kind == "extra_forbidden":
        known = [field.alias or name for name, field in _model_at(path[:-1]).model_fields.items()]
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        do = f"did you mean '{near[0]}'?" if near else "remove it"
        return Problem(
            setting=setting, found="an unknown key", allowed=", ".join(sorted(known)), do=do
        )
    if kind == "missing":
        return Problem(
            setting=setting, found="nothing", allowed="a value is required", do=command(setting)
        )
    if kind == "rule":
        return Problem(setting=setting, found=found, allowed=context["allowed"], do=context["do"])
    allowed = str(context.get("expected", detail["msg"]))
    return Problem(setting=setting, found=found, allowed=allowed, do=command(setting))


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
