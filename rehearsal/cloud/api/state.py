"""The emulated account: registries, their namespaces, users and VPC access, in memory."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from rehearsal.cloud.api.parameters import Parameters
from rehearsal.cloud.api.rules import NamespaceName, RegistryName, UpstreamEndpoint
from rehearsal.cloud.registries.gate import AccessLevel
from rehearsal.cloud.registries.images import DOCKER_HUB

Edition = Literal["Enterprise", "Micro"]
Phase = Literal["Creating", "Running", "Deleting", "Failed"]
"""A registry's Status.Phase (docs 6420/115066)."""
CONDITIONS: dict[Phase, str] = {
    "Creating": "Progressing",
    "Running": "Ok",
    "Deleting": "Progressing",
    "Failed": "Unknown",
}
"""Status.Conditions that go with a phase (docs 6420/115066)."""


def timestamp() -> str:
    """Return the present time as the API writes it."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Change:
    """A state that is reached after some seconds, and the one until then."""

    def __init__(self, meanwhile: str, then: str, seconds: float) -> None:
        self._meanwhile, self._then = meanwhile, then
        self._over = time.monotonic() + seconds

    @property
    def state(self) -> str:
        """The present one."""
        return self._meanwhile if time.monotonic() < self._over else self._then


class Tag(Parameters):
    """A tag of a registry."""

    key: str
    value: str = ""


def _each_key_once(tags: Sequence[Tag]) -> Sequence[Tag]:
    if len({tag.key for tag in tags}) != len(tags):
        raise ValueError("a key must not be there twice")
    return tags


class ProxyCache(Parameters):
    """What a proxy registry is in front of (ProxyCacheSpec, docs 6420/113745)."""

    type: Literal["DockerHub", "DockerRegistry"]
    endpoint: UpstreamEndpoint = "https://registry-1.docker.io"
    username: str = ""
    password: str = Field(default="", exclude=True, repr=False)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if bool(self.username) != bool(self.password):
            raise ValueError("Username and Password must both be there or neither")
        return self

    @property
    def host(self) -> str:
        """The host it is in front of, as images name it."""
        return DOCKER_HUB if self.type == "DockerHub" else urlsplit(self.endpoint).netloc

    @property
    def is_anonymous_docker_hub(self) -> bool:
        """Whether only the namespace library may be created (docs 6420/1360645)."""
        return self.type == "DockerHub" and not self.username


class RegistrySpec(Parameters):
    """What a registry is created with, and ListRegistries shows of it."""

    name: RegistryName
    type: Edition = "Enterprise"
    project: str = "default"
    resource_tags: Annotated[Sequence[Tag], AfterValidator(_each_key_once)] = ()
    proxy_cache_enabled: bool = False
    proxy_cache: ProxyCache | None = None


class Namespace(Parameters):
    """A namespace of a registry, as it is created and ListNamespaces shows it."""

    name: NamespaceName
    project: str = "default"
    repository_default_access_level: AccessLevel = "Private"
    create_time: str = Field(default_factory=timestamp)


@dataclass(kw_only=True)
class VpcAccess:
    """Access of one VPC to a registry."""

    subnet_id: str
    account_id: int
    change: Change


@dataclass(kw_only=True)
class Registry:
    """One registry; also what its gate decides by."""

    spec: RegistrySpec
    region: str
    username: str
    password: str | None = field(default=None, repr=False)
    user: Change = field(default_factory=lambda: Change("", "Inactive", 0))
    phase: Phase = "Creating"
    created: str = field(default_factory=timestamp)
    namespaces: dict[str, Namespace] = field(default_factory=dict)
    _vpcs: dict[str, VpcAccess] = field(default_factory=dict, init=False)

    @property
    def domain(self) -> str:
        """The host name that images are pulled from."""
        return f"{self.spec.name}-{self.region}.cr.volces.com"

    @property
    def upstream(self) -> str:
        """The host it is a proxy of; empty for a registry that is none."""
        return self.spec.proxy_cache.host if self.spec.proxy_cache else ""

    @property
    def vpcs(self) -> dict[str, VpcAccess]:
        """The VPCs that are let in, or on their way in or out, by id."""
        self._vpcs = {name: vpc for name, vpc in self._vpcs.items() if vpc.change.state}
        return self._vpcs

    @property
    def reachable(self) -> bool:
        """Whether clusters reach the domain.

        A Micro registry is open within the region; an Enterprise one only to VPCs whose access
        is Enabled (the vendor's page, step 1.3). The rehearsal's clients stand for all of them.
        """
        return self.spec.type == "Micro" or any(
            vpc.change.state == "Enabled" for vpc in self.vpcs.values()
        )

    def access_level(self, namespace: str) -> AccessLevel | None:
        """Return the access level of a namespace, None when there is no such namespace."""
        found = self.namespaces.get(namespace)
        return found.repository_default_access_level if found else None

    def describe(self) -> dict[str, Any]:
        """Return the registry as ListRegistries shows it: no password of either kind."""
        described = self.spec.model_dump(by_alias=True, exclude_none=True)
        if self.spec.proxy_cache:
            described["ProxyCache"]["SkipSSLVerify"] = False
        return {
            **described,
            "CreateTime": self.created,
            "ChargeType": "PostCharge",
            "Status": {"Phase": self.phase, "Conditions": [CONDITIONS[self.phase]]},
        }
