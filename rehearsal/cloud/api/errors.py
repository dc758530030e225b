"""Errors in the API's own words.

Codes and HTTP statuses: CR's common errors (docs 6420/79348) and each action's page; signature
and routing errors: the gateway's common errors (docs 6369/68677). Where a page gives no code for
a case (the quota, a rule of the console) the nearest documented form is used and said so.
"""

from __future__ import annotations

from typing import Self


class ApiError(Exception):
    """An answer with an error: HTTP status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message

    @classmethod
    def invalid(cls, parameter: str, detail: str) -> Self:
        """A parameter outside its rule."""
        message = f"The specified {parameter} is invalid. {detail}"
        return cls(400, f"InvalidParameter.{parameter}", message)

    @classmethod
    def missing(cls, parameter: str) -> Self:
        """A parameter that is required and not there."""
        message = f"The required parameter {parameter} is missing."
        return cls(400, f"MissingParameter.{parameter}", message)

    @classmethod
    def not_found(cls, kind: str, name: str) -> Self:
        """A resource that does not exist."""
        return cls(404, f"NotFound.{kind}", f"The specified resource {name} is not found.")

    @classmethod
    def exists(cls, kind: str, name: str) -> Self:
        """A name that is taken."""
        return cls(409, f"AlreadyExists.{kind}", f"The specified resource {name} already exist.")

    @classmethod
    def wrong_status(cls, code: str, status: str) -> Self:
        """An action that a resource's present phase does not allow (docs 6420/113750)."""
        message = f"The action has been denied due to wrong status {status}."
        return cls(400, f"OperationDenied.{code}", message)
