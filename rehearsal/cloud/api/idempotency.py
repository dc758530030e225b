"""ClientToken: the same call again gives the same answer and does nothing (docs 6420/113745)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rehearsal.cloud.api.errors import ApiError

TOKEN_LIMIT = 64


class ClientTokens:
    """The tokens of calls that succeeded, with their parameters and answers."""

    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}

    def answer(self, action: str, parameters: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the answer of the earlier call with this token, None when there was none.

        Raises ApiError when the token is not up to 64 ASCII characters, or was used with other
        parameters.
        """
        token = parameters.get("ClientToken")
        if not token:
            return None
        if not isinstance(token, str) or len(token) > TOKEN_LIMIT or not token.isascii():
            raise ApiError.invalid(
                "ClientToken", f"It must be a string of at most {TOKEN_LIMIT} ASCII characters."
            )
        found = self._answers.get((action, token))
        if found is None:
            return None
        if found[0] != _fingerprint(parameters):
            raise ApiError.token_mismatch()
        return found[1]

    def remember(self, action: str, parameters: Mapping[str, Any], answer: dict[str, Any]) -> None:
        """Keep the answer of a call that succeeded, if it had a token."""
        token = parameters.get("ClientToken")
        if token:
            self._answers[action, token] = (_fingerprint(parameters), answer)


def _fingerprint(parameters: Mapping[str, Any]) -> str:
    return json.dumps(parameters, sort_keys=True)
