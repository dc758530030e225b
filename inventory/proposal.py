"""What to add to a stack's settings so that the images in use come from its proxies."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml
from pydantic import TypeAdapter, ValidationError

from components.types import DOCKER_HUB, Access
from inventory.stack import Stack
from settings.errors import PROJECT, command
from settings.types import NO_LIBRARY, NamespaceName

PUBLIC_REGISTRIES: Final[Mapping[str, str]] = {
    "docker.elastic.co": "elastic",
    "gcr.io": "gcr",
    "ghcr.io": "ghcr",
    "k8s.gcr.io": "k8s-gcr",
    "mcr.microsoft.com": "mcr",
    "nvcr.io": "nvcr",
    "public.ecr.aws": "ecr-public",
    "quay.io": "quay",
    "registry.gitlab.com": "gitlab",
    "registry.k8s.io": "k8s",
}
"""Registries for everyone, for which a proxy is proposed, each with a short name for it.

Others may be a company's own, which clusters reach as well as they do.
"""
UPSTREAMS: Final = "upstreams"
"""The settings section of further proxies."""

_NAMESPACE = TypeAdapter(NamespaceName)


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Namespaces to add, as settings."""

    namespaces: Mapping[str, Mapping[str, Access]]
    """By host, those to add."""
    yaml: str
    """The changed sections, each complete, as in a stack file; empty without a change."""
    notes: Sequence[str]
    """What else is to do, and what cannot be served."""


def propose(wanted: Iterable[tuple[str, str | None]], stack: Stack) -> Proposal:
    """The settings that serve these namespaces, by host, as far as any can."""
    notes: list[str] = []
    added: dict[str, dict[str, Access]] = {}
    unproxied: dict[str, None] = {}
    for host, namespace in sorted(set(wanted), key=lambda each: (each[0], each[1] or "")):
        proxy = stack.proxy(host)
        if proxy is None and host not in PUBLIC_REGISTRIES:
            unproxied.setdefault(host)
        elif namespace is None:
            notes.append(
                f"{host}: images in no namespace stay as they are: a proxy registry needs one."
            )
        elif (refused := _refused(host, namespace)) is not None:
            notes.append(f"{host}/{namespace} cannot be served: {refused}.")
        elif proxy is None or namespace not in proxy.namespaces:
            added.setdefault(host, {})[namespace] = _access(stack, host)
    sections = _sections(added, stack)
    hub = added.get(DOCKER_HUB, {})
    if hub.keys() - {"library"} and not stack.has_account:
        notes.append(
            "Without a Docker Hub account the proxy serves library alone:"
            f" {command('dockerhub.username')}, then"
            f" {command('dockerhub.password', secret=True)}"
        )
    if unproxied:
        notes.append(
            f"No proxy of {_list(unproxied)}: images of"
            f" {'it' if len(unproxied) == 1 else 'them'} stay as they are."
        )
    text = yaml.safe_dump(
        {"config": sections}, sort_keys=False, default_flow_style=None, width=1000
    )
    return Proposal(namespaces=added, yaml=text if sections else "", notes=notes)


def _sections(added: Mapping[str, Mapping[str, Access]], stack: Stack) -> dict[str, Any]:
    """The changed sections of the stack file, whole."""
    written = stack.sections or {}
    registry: dict[str, Any] = dict(written.get("registry") or {"name": "dockerhub-dev"})
    sections: dict[str, Any] = {}
    if DOCKER_HUB in added:
        sections[f"{PROJECT}:registry"] = _with_namespaces(registry, added[DOCKER_HUB])
    others = {host: names for host, names in added.items() if host != DOCKER_HUB}
    if others:
        before = [dict(each) for each in written.get(UPSTREAMS) or ()]
        known = {each["host"] for each in before}
        sections[f"{PROJECT}:{UPSTREAMS}"] = [
            *(_with_namespaces(each, others.get(each["host"], {})) for each in before),
            *(
                _with_namespaces({"host": host, "name": _registry_name(registry, host)}, names)
                for host, names in others.items()
                if host not in known
            ),
        ]
    return sections


def _with_namespaces(section: Mapping[str, Any], names: Mapping[str, Access]) -> dict[str, Any]:
    more = [{"name": name, "access": access.value} for name, access in names.items()]
    return {**section, "namespaces": [*(section.get("namespaces") or ()), *more]}


def _registry_name(registry: Mapping[str, Any], host: str) -> str:
    """A name beside Docker Hub's: `ghcr-dev` beside `dockerhub-dev`."""
    short, name = PUBLIC_REGISTRIES[host], str(registry["name"])
    renamed = name.replace("dockerhub", short) if "dockerhub" in name else f"{short}-{name}"
    return renamed[:30].rstrip("-")


def _access(stack: Stack, host: str) -> Access:
    """The access of most namespaces there are; public, which needs no login, if there are none."""
    proxy = stack.proxy(host) or stack.proxy(DOCKER_HUB)
    levels = list(proxy.namespaces.values()) if proxy else []
    private = levels.count(Access.PRIVATE)
    return Access.PRIVATE if 2 * private > len(levels) else Access.PUBLIC


def _refused(host: str, namespace: str) -> str | None:
    """Why the proxy of a registry cannot have a namespace of this name."""
    if host != DOCKER_HUB and namespace == "library":
        return NO_LIBRARY
    try:
        _NAMESPACE.validate_python(namespace)
    except ValidationError as error:
        return str(error.errors()[0]["msg"])
    return None


def _list(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
