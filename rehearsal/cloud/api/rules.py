"""The rules that the CR API enforces on names, passwords and registries, each with its source.

Of proxies of other upstreams than Docker Hub no source says more than that `DockerRegistry` is
general and needs an endpoint. Assumed, and so to be tried on Volcengine:

- an endpoint is `https://<host>`, a port allowed, nothing behind it; another is refused;
- such a registry takes any namespace, without upstream credentials too (of Docker Hub, the vendor's
  page allows `library` alone);
- its images are pulled by `<domain>/<namespace>/<name>`, so an upstream's image without a namespace
  (`registry.k8s.io/pause`) cannot be named;
- the Enterprise quota counts all registries, whatever they are proxies of.
"""

from __future__ import annotations

import re

from rehearsal.cloud.api.errors import ApiError

REGISTRY_NAME = re.compile(r"[a-z](?:[a-z0-9-]*[a-z0-9])?")
NAMESPACE_NAME = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")
PASSWORD_MARKS = r"~!@#$%^&*()-_=+\|[]:,<.>/;"  # noqa: S105 - an alphabet
DEFAULT_QUOTA = {"cn-beijing": 3, "cn-guangzhou": 1, "cn-shanghai": 1}
"""Standard (Enterprise) registries per account and region (docs 6420/113745)."""


def check_registry_name(name: str) -> None:
    """3 to 30 of a-z 0-9 -, no leading digit, no hyphen first or last (docs 6420/113745)."""
    if not (3 <= len(name) <= 30 and REGISTRY_NAME.fullmatch(name)):
        raise ApiError.invalid(
            "Name",
            "It must have 3 to 30 lowercase letters, digits and hyphens, not start with a digit "
            "or a hyphen and not end with a hyphen.",
        )


def check_namespace_name(name: str) -> None:
    """2 to 90 of a-z 0-9 . _ -, no separator first, last or twice (docs 6420/113771)."""
    if not (2 <= len(name) <= 90 and NAMESPACE_NAME.fullmatch(name)):
        raise ApiError.invalid(
            "Name",
            "It must have 2 to 90 lowercase letters, digits and separators (. _ -), with no "
            "separator first, last or beside another.",
        )


def check_upstream_endpoint(endpoint: str) -> None:
    """`https://<host>[:port]`, assumed from the provider's example; see the top of this file."""
    if not re.fullmatch(r"https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?", endpoint):
        raise ApiError.invalid("ProxyCache.Endpoint", "It must be https:// and a host name.")


def check_password(password: str) -> None:
    """8 to 20 characters, upper and lower case, and a digit or mark (docs 6420/113750)."""
    allowed = all(
        character.isascii() and (character.isalnum() or character in PASSWORD_MARKS)
        for character in password
    )
    strong = (
        any(character.isupper() for character in password)
        and any(character.islower() for character in password)
        and any(character.isdigit() or character in PASSWORD_MARKS for character in password)
    )
    if not (8 <= len(password) <= 20 and allowed and strong):
        raise ApiError.invalid(
            "Password",
            "Before Base64 it must have 8 to 20 characters, upper and lower case letters, and a "
            f"digit or one of {PASSWORD_MARKS}",
        )
