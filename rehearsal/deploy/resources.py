"""Resources as an applier leaves them, and what it takes to delete them later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True, kw_only=True)
class Applied:
    """A resource as it now is."""

    id: str
    """The provider's id of it."""
    outputs: Mapping[str, Any] = field(default_factory=dict)
    """What it has beside its inputs, names in camelCase."""


class Deployed(NamedTuple):
    """A resource of the stack, as the record of a deployment names it."""

    kind: str
    """Pulumi's type of it."""
    cluster: str
    """The Kubernetes provider it was applied with; empty for Volcengine's."""
    id: str
