"""Errors in the API's own words.

Codes and HTTP statuses: CR's common errors (docs 6420/79348) and each action's page; signature
and routing errors: the gateway's common errors (docs 6369/68677). Where a page gives no code for
a case (the quota, a rule of the console) the nearest documented form is used and said so.
"""

from __future__ import annotations

from typing import Self


class ApiError(Exception):
    """An answer with an error: HTTP status, code and message."""

    def __init__(self, status: int, code: str, message: str, number: int | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.number = number

    def body(self) -> dict[str, object]:
        """Return the `Error` object of ResponseMetadata."""
        error: dict[str, object] = {"Code": self.code, "Message": self.message}
        if self.number is not None:
            error["CodeN"] = self.number
        return error

    @classmethod
    def invalid(cls, parameter: str, detail: str) -> Self:
        """A parameter outside its rule."""
        return cls(
            400,
            f"InvalidParameter.{parameter}",
            f"The specified {parameter} is invalid. {detail}",
        )

    @classmethod
    def missing(cls, parameter: str) -> Self:
        """A parameter that is required and not there."""
        return cls(
            400, f"MissingParameter.{parameter}", f"The required parameter {parameter} is missing."
        )

    @classmethod
    def not_found(cls, kind: str, name: str) -> Self:
        """A resource that does not exist."""
        return cls(404, f"NotFound.{kind}", f"The specified resource {name} is not found.")

    @classmethod
    def exists(cls, kind: str, name: str) -> Self:
        """A name that is taken."""
        return cls(409, f"AlreadyExists.{kind}", f"The specified resource {name} already exist.")

    @classmethod
    def wrong_status(cls, status: str) -> Self:
        """An action that the registry's present phase does not allow (docs 6420/113750)."""
        return cls(
            400,
            "OperationDenied.RegistryStatus",
            f"The action has been denied due to wrong status {status}.",
        )

    @classmethod
    def quota(cls, resource: str, limit: int, region: str) -> Self:
        """A quota that is used up. The page (docs 6420/113745) gives the limits but no code."""
        return cls(
            400,
            f"QuotaExceeded.{resource}",
            f"The quota of {limit} {resource} in {region} is exceeded.",
        )

    @classmethod
    def token_mismatch(cls) -> Self:
        """A ClientToken that was used before with other parameters."""
        return cls(
            400,
            "IdempotentParameterMismatch",
            "Parameters mismatch the previous request with a same ClientToken.",
        )
