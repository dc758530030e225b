"""Image references, parsed as `distribution/reference` parses them, which is what containerd uses.

The grammar is that of `ParseNormalizedNamed` and `ParseDockerRef` of distribution/reference v0.6.0;
tests/conformance holds this module to that parser itself, by the strings the policies are held to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from components.types import DOCKER_HUB

_ALSO_DOCKER_HUB = "index.docker.io"
_OFFICIAL = "library"
_LONGEST_PATH = 255

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_HOST_PART = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_HOST_PART}(?:\.{_HOST_PART})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?:(?P<domain>{_HOST})/)?(?P<path>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}))?"
)
_IMAGE_ID = re.compile(r"[a-f0-9]{64}")


class InvalidReferenceError(ValueError):
    """No image can be pulled by this reference; the message says why."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A valid reference, with what was left out of it put in, but for the tag."""

    domain: str
    """The registry; `docker.io` for Docker Hub. Empty where the first part is no host's name."""
    path: str
    """The repository: `library/nginx` for `nginx`."""
    tag: str | None
    """The tag as written; without it and `digest`, `latest` is pulled."""
    digest: str | None

    @property
    def namespace(self) -> str | None:
        """The first part of the path; None for a repository in no namespace."""
        namespace, slash, _ = self.path.partition("/")
        return namespace if slash else None

    @property
    def suffix(self) -> str:
        """Tag and digest as they follow the path."""
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Parse a reference.

    Raises:
        InvalidReferenceError: when no registry can be asked for it.
    """
    if _IMAGE_ID.fullmatch(text):
        raise InvalidReferenceError("64 hexadecimal digits are an image's id and not its name")
    domain, rest = _split(text)
    found = _REFERENCE.fullmatch(f"{domain}/{rest}")
    if found is None:
        upper = any(each.isupper() for each in rest.partition(":")[0])
        raise InvalidReferenceError(
            "a repository's name is written in lower case"
            if upper
            else "it is not of the form [host/]name[:tag][@digest]"
        )
    if len(found["path"]) > _LONGEST_PATH:
        raise InvalidReferenceError(f"a repository's name has at most {_LONGEST_PATH} characters")
    return Reference(found["domain"] or "", found["path"], found["tag"], found["digest"])


def _split(text: str) -> tuple[str, str]:
    """The domain and what follows it, as `splitDockerDomain` has it."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DOCKER_HUB, f"{_OFFICIAL}/{text}"
    if first in {DOCKER_HUB, _ALSO_DOCKER_HUB}:
        return DOCKER_HUB, rest if "/" in rest else f"{_OFFICIAL}/{rest}"
    if first == "localhost" or "." in first or ":" in first or first.lower() != first:
        return first, rest
    return DOCKER_HUB, text
