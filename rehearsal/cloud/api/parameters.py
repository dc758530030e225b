"""Parameters of actions: JSON bodies or query strings, refused with the API's own errors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Self
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_pascal

from rehearsal.cloud.api.errors import ApiError


class Parameters(BaseModel):
    """The parameters of an action, or an object among them; those not played are ignored."""

    model_config = ConfigDict(alias_generator=to_pascal, strict=True, frozen=True)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Check them. Raises ApiError, naming the first that is missing or invalid."""
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
        # of a default the first letter is as in the model
        words = [each[0].upper() + each[1:] for each in first["loc"] if isinstance(each, str)]
        name = ".".join(words)
        if first["type"] == "missing":
            raise ApiError.missing(name)
        raise ApiError.invalid(name, f"{first['msg']}.")


class Page(Parameters):
    """Parameters of an action that lists."""

    page_number: int = Field(default=1, ge=1)
    page_size: int = Field(default=10, ge=1, le=100)

    def of(self, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the page that the caller asked for."""
        end = self.page_number * self.page_size
        return {
            "Items": list(items[end - self.page_size : end]),
            "PageNumber": self.page_number,
            "PageSize": self.page_size,
            "TotalCount": len(items),
        }


def parse(query: str, body: bytes) -> dict[str, Any]:
    """Return the parameters of a request: its body, else its query. Raises ApiError.

    `Name.1`, `Name.2` of a query become the list `Name`.
    """
    if body:
        try:
            content = json.loads(body)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ApiError.invalid("Body", "It must be a JSON object.")
        return content
    parameters: dict[str, Any] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        head, _, index = name.rpartition(".")
        if head and index.isdigit():
            parameters.setdefault(head, []).append(value)
        else:
            parameters[name] = value
    return parameters
