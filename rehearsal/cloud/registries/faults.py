"""Faults of a proxy registry, switched on and off while it runs."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class FaultKind(StrEnum):
    """The ways in which a proxy registry can fail its clients."""

    REFUSE = "refuse"
    """Connections are refused: nothing listens."""
    BLACK_HOLE = "black-hole"
    """Connection attempts get no answer at all: SYNs are dropped. Linux only."""
    DROP = "drop"
    """Connections are closed when a request comes."""
    STATUS = "status"
    """Every request gets `status` and an OCI error body."""
    WRONG_DIGEST = "wrong-digest"
    """Bodies of blobs have one byte changed, at the same length."""

    @property
    def is_of_listener(self) -> bool:
        """Whether it acts on the listening socket, not on requests."""
        return self in (FaultKind.REFUSE, FaultKind.BLACK_HOLE)


class DataFault(BaseModel):
    """One fault as set by request."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: FaultKind
    status: int = Field(default=503, ge=400, le=599)
    """HTTP status, for kind `status` only: 401, 429, 500, 503 and so on."""


class FaultState:
    """The fault that is in force, None where there is none."""

    fault: DataFault | None = None
