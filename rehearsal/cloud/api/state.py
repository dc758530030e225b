"""The emulated account: registries, their namespaces, users and VPC access, in memory."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal
from urllib.parse import urlsplit

from rehearsal.cloud.registries.images import DOCKER_HUB

AccessLevel = Literal["Private", "Public"]
Edition = Literal["Enterprise", "Micro"]
ProxyType = Literal["DockerHub", "DockerRegistry"]


class Phase(StrEnum):
    """A registry's Status.Phase (docs 6420/115066)."""

    CREATING = "Creating"
    RUNNING = "Running"
    DELETING = "Deleting"
    FAILED = "Failed"


CONDITIONS = {
    Phase.CREATING: ["Progressing"],
    Phase.RUNNING: ["Ok"],
    Phase.DELETING: ["Progressing"],
    Phase.FAILED: ["Unknown"],
}
"""Status.Conditions that go with a phase (docs 6420/115066)."""


class VpcStatus(StrEnum):
    """The status of a VPC's access to a registry."""

    ENABLING = "Enabling"
    ENABLED = "Enabled"
    DISABLING = "Disabling"
    FAILED = "Failed"


def timestamp() -> str:
    """Return the present time as the API writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(kw_only=True)
class VpcAccess:
    """Access of one VPC to a registry."""

    vpc_id: str
    subnet_id: str
    account_id: int
    ip: str
    region: str
    status: VpcStatus = VpcStatus.ENABLING
    created: str = field(default_factory=timestamp)
    turn: int = 0
    """Grows with each change, so that a change that was overtaken can tell."""


@dataclass(frozen=True, kw_only=True)
class Namespace:
    """A namespace of a registry."""

    name: str
    project: str
    access_level: AccessLevel
    created: str = field(default_factory=timestamp)


@dataclass(frozen=True, kw_only=True)
class ProxyCache:
    """What a proxy registry is in front of. The password is used up at creation, not kept."""

    type: ProxyType
    endpoint: str
    username: str
    skip_ssl_verify: bool

    @property
    def host(self) -> str:
        """The host it is in front of, as images name it."""
        return DOCKER_HUB if self.type == "DockerHub" else urlsplit(self.endpoint).netloc

    @property
    def is_anonymous_docker_hub(self) -> bool:
        """Whether only the namespace library may be created (docs 6420/1360645)."""
        return self.type == "DockerHub" and not self.username


@dataclass(kw_only=True)
class Registry:
    """One registry; also what its gate decides by."""

    name: str
    region: str
    type: Edition
    project: str
    tags: list[dict[str, str]]
    proxy_cache: ProxyCache | None
    username: str
    password: str | None = field(default=None, repr=False)
    user_active: bool = False
    phase: Phase = Phase.CREATING
    created: str = field(default_factory=timestamp)
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    vpcs: dict[str, VpcAccess] = field(default_factory=dict)

    @property
    def domain(self) -> str:
        """The host name that images are pulled from."""
        return f"{self.name}-{self.region}.cr.volces.com"

    @property
    def upstream(self) -> str:
        """The host it is a proxy of; empty for a registry that is none."""
        return self.proxy_cache.host if self.proxy_cache else ""

    @property
    def reachable(self) -> bool:
        """Whether clusters reach the domain.

        A Micro registry is open within the region; an Enterprise one only to VPCs whose access
        is Enabled (the vendor's page, step 1.3). The rehearsal's clients stand for all of them.
        """
        return self.type == "Micro" or any(
            vpc.status is VpcStatus.ENABLED for vpc in self.vpcs.values()
        )

    def access_level(self, namespace: str) -> AccessLevel | None:
        """Return the access level of a namespace, None when there is no such namespace."""
        found = self.namespaces.get(namespace)
        return found.access_level if found else None

    def describe(self) -> dict[str, Any]:
        """Return the registry as ListRegistries shows it: no password of either kind."""
        described: dict[str, Any] = {
            "Name": self.name,
            "Type": self.type,
            "Project": self.project,
            "ResourceTags": self.tags,
            "CreateTime": self.created,
            "ChargeType": "PostCharge",
            "RenewType": "",
            "ExpireTime": "",
            "Status": {"Phase": self.phase.value, "Conditions": CONDITIONS[self.phase]},
            "ProxyCacheEnabled": self.proxy_cache is not None,
        }
        if self.proxy_cache is not None:
            described["ProxyCache"] = {
                "Type": self.proxy_cache.type,
                "Endpoint": self.proxy_cache.endpoint,
                "Username": self.proxy_cache.username,
                "SkipSSLVerify": self.proxy_cache.skip_ssl_verify,
            }
        return described


class Account:
    """All registries of the emulated account, by region and name."""

    def __init__(self) -> None:
        self._registries: dict[tuple[str, str], Registry] = {}

    def add(self, registry: Registry) -> None:
        """Add a registry; its name must be free in its region."""
        self._registries[registry.region, registry.name] = registry

    def remove(self, registry: Registry) -> None:
        """Remove a registry."""
        self._registries.pop((registry.region, registry.name), None)

    def find(self, region: str, name: str) -> Registry | None:
        """Return a registry, None when there is none of that name in the region."""
        return self._registries.get((region, name))

    def registries(self, region: str | None = None) -> list[Registry]:
        """Return the registries of a region, or all, oldest first."""
        return [found for found in self._registries.values() if region in (None, found.region)]
