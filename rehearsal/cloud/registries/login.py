"""Who a request to a proxy registry comes from: HTTP Basic, or Bearer tokens it issued itself."""

from __future__ import annotations

import base64
import binascii
import hmac
import secrets
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

TOKEN_LIFETIME = 300
"""Seconds."""


class AuthMode(StrEnum):
    """How a registry wants the login."""

    BASIC = "basic"
    """Basic on every request; the challenge is Basic."""
    BEARER = "bearer"
    """A token from /service/token on every request; Basic is taken only there."""
    BOTH = "both"
    """The challenge is Bearer, and Basic is taken on every request too."""


class Login(Protocol):
    """The login of a registry as it is now."""

    username: str
    """The one user."""
    password: str | None
    """None while none has been set, then nobody can log in."""


class LoginError(Exception):
    """Credentials were sent and are wrong, expired, or of a kind that is not taken here."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A caller. `user` None is an anonymous one."""

    user: str | None
    repositories: frozenset[str] | None
    """The repositories that a token is good for; None: not limited."""

    def may_pull(self, repository: str) -> bool:
        """Whether the token, if there is one, names the repository."""
        return self.repositories is None or repository in self.repositories


ANONYMOUS = Identity(user=None, repositories=None)


@dataclass(frozen=True, kw_only=True)
class _Token:
    identity: Identity
    expires: float
    password: str | None


class LoginCheck:
    """Checks the Authorization header of requests and issues Bearer tokens for one registry."""

    def __init__(self, login: Login, mode: AuthMode) -> None:
        self._login = login
        self._mode = mode
        self._tokens: dict[str, _Token] = {}

    def identify(self, authorization: str | None) -> Identity:
        """Return the caller of a registry request. Raises LoginError."""
        if not authorization:
            return ANONYMOUS
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "basic" and self._mode is not AuthMode.BEARER:
            return self._basic(value)
        if scheme.lower() == "bearer" and self._mode is not AuthMode.BASIC:
            return self._bearer(value)
        raise LoginError(f"{scheme} is not taken here")

    def identify_for_token(self, authorization: str | None) -> Identity:
        """Return the caller of the token endpoint, which takes Basic or nothing.

        Raises LoginError.
        """
        if not authorization:
            return ANONYMOUS
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() != "basic":
            raise LoginError(f"{scheme} is not taken here")
        return self._basic(value)

    def issue(self, user: str | None, repositories: frozenset[str]) -> str:
        """Return a new token for `repositories`; it ends with its lifetime or the password."""
        now = time.monotonic()
        self._tokens = {key: token for key, token in self._tokens.items() if token.expires > now}
        value = secrets.token_urlsafe(32)
        self._tokens[value] = _Token(
            identity=Identity(user=user, repositories=repositories),
            expires=now + TOKEN_LIFETIME,
            password=self._login.password,
        )
        return value

    def _basic(self, value: str) -> Identity:
        try:
            user, found, password = base64.b64decode(value, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise LoginError("not a Basic login") from None
        wanted = self._login.password
        right = wanted is not None and hmac.compare_digest(password.encode(), wanted.encode())
        if not (found and right and user == self._login.username):
            raise LoginError("wrong user or password")
        return Identity(user=user, repositories=None)

    def _bearer(self, value: str) -> Identity:
        token = self._tokens.get(value)
        if token is None or token.expires <= time.monotonic():
            raise LoginError("unknown or expired token")
        if token.identity.user is not None and token.password != self._login.password:
            raise LoginError("the password was changed after this token was issued")
        return token.identity
