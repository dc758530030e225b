"""The words that components and settings share; each list is here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import pulumi


class Edition(StrEnum):
    """A registry's edition (API: `Type`)."""

    MICRO = "Micro"
    ENTERPRISE = "Enterprise"


class Access(StrEnum):
    """Who may pull from a registry's namespace (API: `RepositoryDefaultAccessLevel`)."""

    PRIVATE = "Private"
    PUBLIC = "Public"


class Endpoint(StrEnum):
    """Which of a VKE cluster's two API server addresses is used (API: kubeconfig `Type`)."""

    PUBLIC = "Public"
    PRIVATE = "Private"


class Way(StrEnum):
    """How a cluster uses the proxy; an image that names the proxy's domain needs no way at all."""

    ADMISSION = "admission"
    NODES = "nodes"
    VCI = "vci"


class Engine(StrEnum):
    """What rewrites the images of Pods: the kind of the redirect policy. The first is the default.

    The kinds are Kyverno's, but for MutatingAdmissionPolicy, which is Kubernetes' own.
    """

    CLUSTER_POLICY = "ClusterPolicy"
    MUTATING_POLICY = "MutatingPolicy"
    MUTATING_ADMISSION_POLICY = "MutatingAdmissionPolicy"

    @property
    def needs_kyverno(self) -> bool:
        """Whether Kyverno runs the policy; otherwise the API server does."""
        return self is not Engine.MUTATING_ADMISSION_POLICY


class FailurePolicy(StrEnum):
    """What happens to a Pod while the engine does not answer: admitted as written, or denied."""

    IGNORE = "Ignore"
    FAIL = "Fail"


class PodLogin(StrEnum):
    """How Pods that pull from a private namespace get the registry's login.

    From a Secret this stack keeps in every namespace, or from VKE's cr-credential-controller.
    """

    SECRET = "secret"  # noqa: S105 - a way, not a password
    ADDON = "addon"


DOCKER_HUB = "docker.io"
"""The registry of images that name none."""


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A proxy registry, as what pulls through it needs to know it."""

    host: str
    """The registry it is a proxy of, as images name it: `docker.io`, `ghcr.io`."""
    domain: pulumi.Input[str]
    """Where it is: its host name, with a port if it has one."""
    namespaces: Mapping[str, Access]
    """The namespaces of that registry it serves, each with who may pull from it."""


@dataclass(frozen=True, kw_only=True)
class ProxyLogin:
    """A login to a proxy."""

    username: pulumi.Input[str]
    """The registry user's name."""
    password: pulumi.Input[str]
    """The registry user's password; secret."""


def name_for(name: str, host: str) -> str:
    """The name of something that there is once for each proxy: Docker Hub's is the plain one.

    So those of the others come and go without a change of any name.
    """
    return name if host == DOCKER_HUB else f"{name}-{host}"


def display_name(host: str) -> str:
    """A registry, as messages call it."""
    return "Docker Hub" if host == DOCKER_HUB else host


def settings_of(host: str) -> tuple[str, str]:
    """Where the settings of a registry's proxy are, and those of the account it pulls with."""
    if host == DOCKER_HUB:
        return "registry", "dockerhub"
    return f"upstreams[{host}]", f"upstreams[{host}]"
