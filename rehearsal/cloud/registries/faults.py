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
    SILENT = "silent"
    """Connections and TLS are taken, requests are never answered."""
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
    times: int | None = Field(default=None, ge=1)
    """How many requests it meets; None: all until it is cleared. Not for refuse, black-hole."""


class FaultState:
    """The fault of one registry that is in force, counted down as requests meet it."""

    def __init__(self) -> None:
        self._fault: DataFault | None = None
        self._left: int | None = None

    def set(self, fault: DataFault | None) -> None:
        """Put a fault in force in place of the one before; None ends it."""
        self._fault = fault
        self._left = fault.times if fault else None

    def meet(self) -> DataFault | None:
        """Return the fault that the next request meets and count it."""
        fault = self._fault
        if fault is None or fault.kind.is_of_listener:
            return None
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self._fault = None
        return fault
