"""What may stand in single settings, with the source of each rule."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, SecretStr
from pydantic_core import PydanticCustomError

from settings.errors import command
from settings.kubeconfig import cluster_in


class Lookup(StrEnum):
    """Whether the policy asks the image's registry at admission, as the vendor's page does."""

    NONE = "none"
    REGISTRY = "registry"


def _rejected(allowed: str, do: str) -> PydanticCustomError:
    """A rule's refusal: what is allowed, and what to do about it."""
    return PydanticCustomError("rule", "{allowed}", {"allowed": allowed, "do": do})


def matching(pattern: str, allowed: str, do: str) -> AfterValidator:
    """A validator for strings that must match `pattern` as a whole."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise _rejected(allowed, do)
        return value

    return AfterValidator(check)


RegistryName = Annotated[
    str,
    matching(
        r"(?=.{3,30}$)[a-z]([a-z0-9-]*[a-z0-9])?",
        "3 to 30 of a-z, 0-9 and '-', starting with a letter, not ending with '-' (API)",
        "choose such a name, for example 'dockerhub-dev'",
    ),
]
NamespaceName = Annotated[
    str,
    matching(
        r"(?=.{2,90}$)[a-z0-9]+([._-][a-z0-9]+)*",
        "2 to 90 of a-z, 0-9, '.', '_' and '-', no separator first, last or twice in a row (API),"
        " and the very name used on Docker Hub (page)",
        "write the part before the '/' of the Docker Hub image, 'library' for official images",
    ),
]
ClusterName = Annotated[
    str,
    matching(
        r"(?=.{1,40}$)[a-z]([a-z0-9-]*[a-z0-9])?",
        "1 to 40 of a-z, 0-9 and '-', starting with a letter, not ending with '-'",
        "choose a short name; Pulumi resource names and outputs carry it",
    ),
]
VpcId = Annotated[
    str,
    matching(r"vpc-[a-z0-9]+", "a VPC id, 'vpc-…'", "copy it from the cluster's overview page"),
]
SubnetId = Annotated[
    str,
    matching(r"subnet-[a-z0-9]+", "a subnet id, 'subnet-…'", "copy it from the VPC's page"),
]
ClusterId = Annotated[
    str,
    matching(
        r"c[a-z0-9]{5,40}",
        "a VKE cluster id, 'c' and 5 to 40 of a-z and 0-9",
        "copy it from the cluster's overview page",
    ),
]
KubernetesName = Annotated[
    str,
    matching(
        r"(?=.{1,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?",
        "a Kubernetes namespace name: 1 to 63 of a-z, 0-9 and '-'",
        "correct the name",
    ),
]
KubernetesVersion = Annotated[
    str,
    matching(r"v?1\.[0-9]+(\.[0-9]+)?([-+].*)?", "a version such as 1.32", "correct the version"),
]
ChartVersion = Annotated[
    str,
    matching(
        r"v?3\.[0-9]+\.[0-9]+([-+].*)?",
        "one exact version of chart 3, such as 3.9.1",
        "pin a version: `helm search repo kyverno --versions` lists them",
    ),
]
AddonVersion = Annotated[
    str,
    matching(
        r"v[0-9]+\.[0-9]+\.[0-9]+([-+].*)?",
        "one exact version of the add-on, such as v1.3.5",
        "copy it from the cluster's page of add-ons, or leave it out",
    ),
]
RegistryHost = Annotated[
    str,
    matching(
        r"(?=localhost|[^/]*[.:])[A-Za-z0-9]+([.-]+[A-Za-z0-9]+)*(:[0-9]{1,5})?"
        r"(/[a-z0-9]+([._-]+[a-z0-9]+)*)*",
        "a registry host, with a '.' or a port, and an optional path, no scheme:"
        " 'registry.example.com/mirror'",
        "remove 'https://' and any trailing '/'",
    ),
]
HelmRepository = Annotated[
    str,
    matching(
        r"https?://[^\s/]+\S*",
        "the URL of a Helm repository, 'https://…'",
        "copy it from `helm repo list`; write an 'oci://' reference as kyverno.chart",
    ),
]
LabelKey = Annotated[
    str,
    matching(
        r"(?=(.{1,253}/)?[^/]{1,63}$)([a-z0-9]+([.-][a-z0-9]+)*/)?[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?",
        "the key of a label (Kubernetes), such as 'cnpg.io/cluster'",
        "write the key alone, no '=' and no value: that a Pod has it is what counts",
    ),
]
Certificate = Annotated[
    str,
    matching(
        r"(?s)\s*-----BEGIN CERTIFICATE-----\n.+-----END CERTIFICATE-----\s*",
        "certificates in PEM, '-----BEGIN CERTIFICATE-----' and so on",
        "write the text of the file, not its path",
    ),
]


def _login_password(value: SecretStr) -> SecretStr:
    plain = value.get_secret_value()
    classes = (r"[a-z]", r"[A-Z]", r"[0-9~!@#$%^&*()\-_=+|\[\]:,<.>/;\\]")
    if not 8 <= len(plain) <= 20 or not all(re.search(each, plain) for each in classes):
        raise _rejected(
            "8 to 20 characters with a lower-case and an upper-case letter and a digit or one of"
            " ~!@#$%^&*()-_=+\\|[]:,<.>/; (docs 6420/113750)",
            command("login.password", secret=True),
        )
    return value


LoginPassword = Annotated[SecretStr, AfterValidator(_login_password)]


def _kubeconfig(value: SecretStr) -> SecretStr:
    """Refuse a kubeconfig that leads to no cluster; see `cluster_in`."""
    try:
        cluster_in(value.get_secret_value())
    except ValueError as error:
        raise _rejected(
            "the text of a kubeconfig whose current-context leads to a cluster with a server;"
            f" {error}",
            "pipe the text of the file, not its path, into `pulumi config set --secret --path` for"
            " this setting",
        ) from None
    return value


Kubeconfig = Annotated[SecretStr, AfterValidator(_kubeconfig)]
