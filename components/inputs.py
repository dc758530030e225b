"""A component's args as the inputs that Pulumi records of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final

import pulumi

NOT_RECORDED: Final = {"recorded": False}
"""The metadata of a field that is no part of what a component is: how it looks at its cluster."""


def inputs(args: Any) -> dict[str, Any]:
    """The args of a component, for `super().__init__`: in the state, and in a preview's diff.

    Values stay as they are, so that secrets stay secret; resources are dependencies and no values.
    """
    values = {
        each.name: _plain(getattr(args, each.name))
        for each in fields(args)
        if each.metadata != NOT_RECORDED
    }
    return {name: value for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, pulumi.Resource):
        return None
    if is_dataclass(value) and not isinstance(value, type):
        return inputs(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [child for child in map(_plain, value) if child is not None]
    return value
