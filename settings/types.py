"""The types of single settings, with the source of each rule."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SecretStr,
    WithJsonSchema,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from components.policy import DOCKER_HUB_HOSTS
from settings.errors import command
from settings.kubeconfig import cluster_in

T = TypeVar("T")


def rejected(allowed: str, do: str) -> PydanticCustomError:
    """The error of a rule: what is allowed, and what to do."""
    return PydanticCustomError("rule", "{allowed}", {"allowed": allowed, "do": do})


@dataclass(frozen=True)
class Matching:
    """A string that matches a pattern as a whole; the pattern is also one of JavaScript's."""

    pattern: str
    allowed: str
    do: str

    def _check(self, value: str) -> str:
        if not re.fullmatch(self.pattern, value):
            raise rejected(self.allowed, self.do)
        return value

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        pattern = f"^(?:{self.pattern})$"
        return {**handler(schema), "pattern": pattern, "patternErrorMessage": self.allowed}


def each_once(what: str, key: Callable[[T], str]) -> AfterValidator:
    """A list whose items differ in `key`, which is the `what` of an item."""

    def check(items: list[T]) -> list[T]:
        counts = Counter(map(key, items))
        repeated = ", ".join(sorted(each for each, count in counts.items() if count > 1))
        if repeated:
            allowed = f"each {what} once; more than once here: {repeated}"
            raise rejected(allowed, f"remove the repeated {repeated}")
        return items

    return AfterValidator(check)


def _region(value: Any) -> Any:
    if not value:
        do = command("volcengine:region", "cn-beijing")
        raise rejected("a Volcengine region such as cn-beijing", do)
    return value


def _replicas(value: int) -> int:
    if value == 2:
        allowed = "1, or 3 and more (Kyverno docs, high availability)"
        raise rejected(allowed, command("kyverno.replicas", "3"))
    return value


Region = Annotated[str, BeforeValidator(_region)]
Replicas = Annotated[int, AfterValidator(_replicas)]
RegistryName = Annotated[
    str,
    Matching(
        r"(?=.{3,30}$)[a-z]([a-z0-9-]*[a-z0-9])?",
        "3 to 30 of a-z, 0-9 and '-', starting with a letter, not ending with '-' (API)",
        "choose such a name, for example 'dockerhub-dev'",
    ),
]
NamespaceName = Annotated[
    str,
    Matching(
        r"(?!localhost$)(?=.{2,90}$)[a-z0-9]+([_-][a-z0-9]+)*",
        "2 to 90 of a-z, 0-9, '_' and '-', no separator first, last or twice in a row (API), not"
        " 'localhost', and the very name used at the upstream (page), without a '.'",
        "write the part before the '/' of the image, without a host; 'library' for Docker Hub's"
        " official images",
    ),
]


def _not_docker_hub(value: str) -> str:
    if value in DOCKER_HUB_HOSTS:
        raise rejected(
            "another registry than Docker Hub, whose proxy the section registry is, under all of"
            " its names",
            "remove this entry, and add its namespaces to registry.namespaces",
        )
    return value


NO_LIBRARY: Final = (
    "another namespace: only Docker Hub's images without one are in 'library'; elsewhere, as with"
    " registry.k8s.io/pause, they are in none, and a proxy registry has no name for them"
)
"""Why `library` is no namespace of any other upstream."""
UpstreamHost = Annotated[
    str,
    Matching(
        r"(?=.{4,50}$)[a-z0-9]+(-+[a-z0-9]+)*(\.[a-z0-9]+(-+[a-z0-9]+)*)+",
        "a registry's host as images name it, up to 50 characters: lower case, with a '.', and no"
        " scheme, port or path: 'ghcr.io'",
        "write the part before the first '/' of the image",
    ),
    AfterValidator(_not_docker_hub),
]
UpstreamEndpoint = Annotated[
    str,
    Matching(
        r"https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?",
        "the URL of a registry, 'https://<host>', a port allowed",
        "leave it out for https://<host>",
    ),
]
ClusterName = Annotated[
    str,
    Matching(
        r"(?=.{1,40}$)[a-z]([a-z0-9-]*[a-z0-9])?",
        "1 to 40 of a-z, 0-9 and '-', starting with a letter, not ending with '-'",
        "choose a short name; Pulumi resource names and outputs carry it",
    ),
]
VpcId = Annotated[
    str,
    Matching(r"vpc-[a-z0-9]+", "a VPC id, 'vpc-…'", "copy it from the cluster's overview page"),
]
SubnetId = Annotated[
    str,
    Matching(r"subnet-[a-z0-9]+", "a subnet id, 'subnet-…'", "copy it from the VPC's page"),
]
ClusterId = Annotated[
    str,
    Matching(
        r"c[a-z0-9]{5,40}",
        "a VKE cluster id, 'c' and 5 to 40 of a-z and 0-9",
        "copy it from the cluster's overview page",
    ),
]
KubernetesName = Annotated[
    str,
    Matching(
        r"(?=.{1,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?",
        "a Kubernetes namespace name: 1 to 63 of a-z, 0-9 and '-'",
        "correct the name",
    ),
]
KubernetesVersion = Annotated[
    str,
    Matching(r"v?1\.[0-9]+(\.[0-9]+)?([-+].*)?", "a version such as 1.32", "correct the version"),
]
ChartVersion = Annotated[
    str,
    Matching(
        r"v?3\.[0-9]+\.[0-9]+([-+].*)?",
        "one exact version of chart 3, such as 3.9.1",
        "pin a version: `helm search repo kyverno --versions` lists them",
    ),
]
AddonVersion = Annotated[
    str,
    Matching(
        r"v[0-9]+\.[0-9]+\.[0-9]+([-+].*)?",
        "one exact version of the add-on, such as v1.3.5",
        "copy it from the cluster's page of add-ons, or leave it out",
    ),
]
RegistryHost = Annotated[
    str,
    Matching(
        r"(?=localhost|[^/]*[.:])[A-Za-z0-9]+([.-]+[A-Za-z0-9]+)*(:[0-9]{1,5})?"
        r"(/[a-z0-9]+([._-]+[a-z0-9]+)*)*",
        "a registry host, with a '.' or a port, and an optional path, no scheme:"
        " 'registry.example.com/mirror'",
        "remove 'https://' and any trailing '/'",
    ),
]
HelmRepository = Annotated[
    str,
    Matching(
        r"https?://[^\s/]+\S*",
        "the URL of a Helm repository, 'https://…'",
        "copy it from `helm repo list`; write an 'oci://' reference as kyverno.chart",
    ),
]
PodLabel = Annotated[
    str,
    Matching(
        r"(?=(.{1,253}/)?[^/]{1,63}(=|$))([a-z0-9]+([.-][a-z0-9]+)*/)?"
        r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?(=([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?)?",
        "a label's key (Kubernetes), such as 'cnpg.io/cluster', or key and value,"
        " 'application=spilo'",
        "write the key alone where it is enough that a Pod has it",
    ),
]
Certificate = Annotated[
    str,
    Matching(
        r"\s*-----BEGIN CERTIFICATE-----\n[\s\S]+-----END CERTIFICATE-----\s*",
        "certificates in PEM, '-----BEGIN CERTIFICATE-----' and so on",
        "write the text of the file, not its path",
    ),
]


_ENCRYPTED = {
    "title": "encrypted value",
    "type": "object",
    "properties": {"secure": {"type": "string"}},
    "required": ["secure"],
    "additionalProperties": False,
    "description": "written by `pulumi config set --secret --path`",
}
Secret = Annotated[SecretStr, WithJsonSchema(_ENCRYPTED)]
"""A secret; in a stack file it is encrypted."""


def _login_password(value: SecretStr) -> SecretStr:
    password = value.get_secret_value()
    classes = (r"[a-z]", r"[A-Z]", r"[0-9~!@#$%^&*()\-_=+|\[\]:,<.>/;\\]")
    if not 8 <= len(password) <= 20 or not all(re.search(each, password) for each in classes):
        raise rejected(
            "8 to 20 characters with a lower-case and an upper-case letter and a digit or one of"
            " ~!@#$%^&*()-_=+\\|[]:,<.>/; (docs 6420/113750)",
            command("login.password", secret=True),
        )
    return value


def _nodes_at_a_time(value: int | str) -> int | str:
    """Refuse what Kubernetes does not take as `maxUnavailable`."""
    if isinstance(value, bool) or not re.fullmatch(
        r"[1-9]\d*" if isinstance(value, int) else r"([1-9]\d?|100)%", str(value)
    ):
        raise rejected("a number from 1 on, or a percentage such as 10%", "write 1, or 10%")
    return value


NodesAtATime = Annotated[int | str, AfterValidator(_nodes_at_a_time)]


LoginPassword = Annotated[Secret, AfterValidator(_login_password)]


def _kubeconfig(value: SecretStr) -> SecretStr:
    """Refuse a kubeconfig that leads to no cluster; see `cluster_in`."""
    try:
        cluster_in(value.get_secret_value())
    except ValueError as error:
        raise rejected(
            "the text of a kubeconfig whose current-context leads to a cluster with a server;"
            f" {error}",
            "pipe the text of the file, not its path, into `pulumi config set --secret --path` for"
            " this setting",
        ) from None
    return value


Kubeconfig = Annotated[Secret, AfterValidator(_kubeconfig)]
