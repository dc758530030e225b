"""What applying a resource yields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Made:
    """A resource as it now is."""

    id: str
    """The provider's id of it."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """What it has beside its inputs, names in camelCase."""
