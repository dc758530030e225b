"""Reads action parameters with the API's own errors, from JSON bodies or query strings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from rehearsal.cloud.api.errors import ApiError

ROUTING = frozenset({"Action", "Version"})
MAX_PAGE_SIZE = 100


def parse(query: str, content_type: str, body: bytes) -> dict[str, Any]:
    """Return the parameters of a request: a JSON body, else query and form, `Action` left out.

    `Name.1`, `Name.2` of queries and forms become the list `Name`. Raises ApiError.
    """
    if body and "json" in content_type.lower():
        try:
            content = json.loads(body)
        except ValueError:
            raise ApiError.invalid("Body", "It must be JSON.") from None
        if not isinstance(content, dict):
            raise ApiError.invalid("Body", "It must be a JSON object.")
        return content
    pairs = parse_qsl(query, keep_blank_values=True)
    if "form" in content_type.lower():
        pairs += parse_qsl(body.decode("utf-8", errors="replace"), keep_blank_values=True)
    return _unflatten((name, value) for name, value in pairs if name not in ROUTING)


def _unflatten(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    parameters: dict[str, Any] = {}
    for name, value in pairs:
        head, _, index = name.rpartition(".")
        if head and index.isdigit():
            parameters.setdefault(head, []).append(value)
        else:
            parameters[name] = value
    return parameters


class Parameters:
    """Typed access to the parameters of one call."""

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self._values = values
        self._prefix = prefix

    def text(self, name: str, default: str | None = None) -> str:
        """Return a string. Raises ApiError when it is another type, or missing with no default."""
        value = self._values.get(name)
        if value is None or value == "":
            if default is None:
                raise ApiError.missing(self._prefix + name)
            return default
        if not isinstance(value, str):
            raise ApiError.invalid(self._prefix + name, "It must be a string.")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean, False when it is missing. Raises ApiError for another type."""
        value = self._values.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise ApiError.invalid(self._prefix + name, "It must be a boolean.")
        return value

    def number(self, name: str, default: int, least: int, most: int) -> int:
        """Return an integer in a range. Raises ApiError."""
        value = self._values.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ApiError.invalid(
                self._prefix + name, f"It must be an integer from {least} to {most}."
            )
        return value

    def group(self, name: str) -> Parameters:
        """Return an object, an empty one when it is missing. Raises ApiError for another type."""
        value = self._values.get(name)
        if value is None:
            value = {}
        if not isinstance(value, dict):
            raise ApiError.invalid(self._prefix + name, "It must be an object.")
        return Parameters(value, f"{self._prefix}{name}.")

    def groups(self, name: str) -> list[Parameters]:
        """Return a list of objects, empty when it is missing. Raises ApiError."""
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise ApiError.invalid(self._prefix + name, "It must be an array of objects.")
        return [Parameters(item, f"{self._prefix}{name}.") for item in value]

    def texts(self, name: str) -> list[str]:
        """Return a list of strings, empty when it is missing. Raises ApiError."""
        value = self._values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise ApiError.invalid(self._prefix + name, "It must be an array of strings.")
        return value

    def has(self, name: str) -> bool:
        """Whether the caller sent the parameter."""
        return self._values.get(name) is not None

    def page(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the page of `items` that the caller asked for (PageNumber, PageSize)."""
        size = self.number("PageSize", 10, 1, MAX_PAGE_SIZE)
        page = self.number("PageNumber", 1, 1, 2**31 - 1)
        return {
            "Items": list(items[(page - 1) * size : page * size]),
            "PageNumber": page,
            "PageSize": size,
            "TotalCount": len(items),
        }
