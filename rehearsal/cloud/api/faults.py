"""Faults of the API on demand: calls that fail, connections that drop, changes that go wrong."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class CallFault(BaseModel):
    """Makes the next calls of an action fail."""

    model_config = ConfigDict(extra="forbid")

    action: str
    """Name of an action, or * for all."""
    times: int = Field(default=1, ge=1)
    status: int = Field(default=500, ge=400, le=599)
    code: str = "InternalError"
    message: str = "The request failed due to an unknown error."
    drop: bool = False
    """Close the connection unanswered instead of sending an error."""
    moment: Literal["before", "after"] = "before"
    """`after`: the action takes effect, only its answer is lost or an error."""


class OutcomeFault(BaseModel):
    """Makes the next asynchronous change of a registry or a VPC end in Failed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["registry", "vpc"]
    name: str
    """A registry's name or a VPC's id."""


class Faults:
    """All faults that are waiting to happen."""

    def __init__(self) -> None:
        self._calls: list[CallFault] = []
        self._outcomes: list[OutcomeFault] = []

    def add_call(self, fault: CallFault) -> None:
        """Add a call fault behind those there are."""
        self._calls.append(fault)

    def add_outcome(self, fault: OutcomeFault) -> None:
        """Add an outcome fault."""
        self._outcomes.append(fault)

    def clear(self) -> None:
        """Forget all faults."""
        self._calls.clear()
        self._outcomes.clear()

    def meet_call(self, action: str) -> CallFault | None:
        """Return the fault that this call meets and count it."""
        for fault in self._calls:
            if fault.action in (action, "*"):
                fault.times -= 1
                if fault.times == 0:
                    self._calls.remove(fault)
                return fault
        return None

    def meet_outcome(self, kind: Literal["registry", "vpc"], name: str) -> bool:
        """Whether this change is to fail; counts it."""
        wanted = OutcomeFault(kind=kind, name=name)
        if wanted in self._outcomes:
            self._outcomes.remove(wanted)
            return True
        return False
