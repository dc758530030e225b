"""What a stack's proxies serve and what its redirect leaves alone, as its stack file says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from components.policy import DOCKER_HUB_HOSTS, NAMESPACES_LEFT_ALONE, OPT_OUT, PODS_LEFT_ALONE
from components.types import DOCKER_HUB, Access, Proxy, Way
from inventory.reference import Reference
from settings import Settings
from settings.stack_file import read_stack_file

REPOSITORY: Final = Path(__file__).resolve().parent.parent
"""Where the stack files are."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """What the inventory knows of a stack, and assumes where there is none."""

    name: str | None = None
    proxies: Sequence[Proxy] = ()
    redirects: bool = True
    """Whether any cluster of it redirects Pods at admission."""
    excluded_namespaces: frozenset[str] = frozenset(NAMESPACES_LEFT_ALONE)
    excluded_pod_labels: frozenset[str] = frozenset()
    """Labels, `key` or `key=value`, that the stack's user named, beside those of operators."""
    sections: Mapping[str, Any] | None = None
    """The stack file's sections as written; None without a stack."""
    has_account: bool = False
    """Whether the proxy has a Docker Hub account; without one it serves `library` alone."""

    @property
    def label_keys(self) -> frozenset[str]:
        """The keys of Pods' labels that decide whether they are left alone."""
        labels = (OPT_OUT, *PODS_LEFT_ALONE, *self.excluded_pod_labels)
        return frozenset(each.partition("=")[0] for each in labels)

    def proxy(self, host: str) -> Proxy | None:
        """The proxy of a registry; None where it has none."""
        return next((each for each in self.proxies if each.host == host), None)

    def with_namespaces(self, more: Mapping[str, Mapping[str, Access]]) -> Stack:
        """This stack, if these namespaces were added, by host."""
        known = {each.host: each for each in self.proxies}
        for host, namespaces in more.items():
            before = known.get(host, Proxy(host=host, domain=f"(proxy of {host})", namespaces={}))
            known[host] = replace(before, namespaces={**namespaces, **before.namespaces})
        return replace(self, proxies=list(known.values()))


def host_of(reference: Reference) -> str:
    """The registry whose image it is: Docker Hub has several names."""
    return DOCKER_HUB if reference.domain in DOCKER_HUB_HOSTS else reference.domain


def namespace_of(reference: Reference) -> str | None:
    """The namespace of a reference; a bare name at Docker Hub is in `library`."""
    if reference.namespace is None and host_of(reference) == DOCKER_HUB:
        return "library"
    return reference.namespace


def no_stack() -> Stack:
    """A stack that serves nothing yet."""
    return Stack(proxies=[Proxy(host=DOCKER_HUB, domain="(a proxy)", namespaces={})])


def load_stack(name: str, folder: Path = REPOSITORY) -> Stack:
    """The stack whose file is `Pulumi.<name>.yaml`.

    Raises:
        OSError: when there is no such file.
        yaml.YAMLError: when it is no YAML.
        SettingsError: when a setting is invalid.
    """
    file = read_stack_file(folder / f"Pulumi.{name}.yaml")
    settings = file.settings
    return Stack(
        name=name,
        proxies=_proxies(settings),
        redirects=settings.redirect.enabled
        and any(Way.ADMISSION in each.ways for each in settings.clusters),
        excluded_namespaces=frozenset(
            {
                *NAMESPACES_LEFT_ALONE,
                settings.kyverno.namespace,
                *settings.redirect.exclude.namespaces,
            }
        ),
        excluded_pod_labels=frozenset(settings.redirect.exclude.pod_labels),
        sections=file.sections,
        has_account=settings.dockerhub.username is not None,
    )


def _proxies(settings: Settings) -> list[Proxy]:
    return [
        Proxy(
            host=each.host,
            domain=f"{each.registry.name}-{settings.region}.cr.volces.com",
            namespaces={one.name: one.access for one in each.registry.namespaces},
        )
        for each in settings.proxies
    ]
