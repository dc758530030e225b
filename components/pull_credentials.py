"""PullCredentials: the proxy's login, in every namespace whose Pods may need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.inputs import inputs
from components.labels import NAMESPACE, NODES_NAMESPACE
from components.policy_parts import load, with_excluded_namespaces
from components.pull_check import docker_config
from components.versions import version

SECRET = "dockerhub-proxy-login"  # noqa: S105 - the Secret's name
"""The name of the Secret, in its source namespace and in every copy."""


@dataclass(frozen=True, kw_only=True)
class PullCredentialsArgs:
    """The login, and where it is not wanted."""

    domain: pulumi.Input[str]
    """The proxy's domain."""
    username: pulumi.Input[str]
    """The registry user's name."""
    password: pulumi.Input[str]
    """The registry user's password; secret."""
    excluded_namespaces: Sequence[str] = ()
    """Kubernetes namespaces that are not redirected, beside kube-system."""
    namespace: pulumi.Input[str] = NAMESPACE
    """The namespace the Secret is copied from."""
    kyverno_version: str = "1.19"
    """Kyverno's version, `1.N`."""


class PullCredentials(pulumi.ComponentResource):
    """A Secret that Kyverno keeps copied to every namespace, new ones included.

    The redirect policy adds the Secret's name to redirected Pods of private namespaces; service
    accounts are left as they are. A changed password is one changed Secret here, and Kyverno
    brings it to every copy. Kyverno's controllers are allowed to handle Secrets for it; Kyverno
    refuses a generating policy whose rights are limited to one name. No person or Pod is given
    any right.
    """

    secret_name: pulumi.Output[str]
    """The Secret's name, known once the policy that copies it is in force."""

    def __init__(
        self, name: str, args: PullCredentialsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:PullCredentials", name, inputs(args), opts)
        options = pulumi.ResourceOptions(parent=self, delete_before_replace=True)
        login = kubernetes.core.v1.Secret(
            f"{name}-login",
            metadata={"name": SECRET, "namespace": args.namespace},
            type="kubernetes.io/dockerconfigjson",
            string_data={
                ".dockerconfigjson": docker_config(args.domain, args.username, args.password)
            },
            opts=options,
        )
        role = kubernetes.rbac.v1.ClusterRole(
            f"{name}-role",
            metadata={
                "name": "dockerhub-pull-credentials",
                "labels": {
                    "rbac.kyverno.io/aggregate-to-background-controller": "true",
                    "rbac.kyverno.io/aggregate-to-admission-controller": "true",
                },
            },
            rules=[
                {
                    "api_groups": [""],
                    "resources": ["secrets"],
                    "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"],
                }
            ],
            opts=options,
        )
        manifest = copying_policy(args)
        policy = kubernetes.apiextensions.CustomResource(
            f"{name}-policy",
            api_version=manifest["apiVersion"],
            kind=manifest["kind"],
            metadata=manifest["metadata"],
            spec=manifest["spec"],
            opts=pulumi.ResourceOptions(
                parent=self, delete_before_replace=True, depends_on=[login, role]
            ),
        )
        self.secret_name = policy.urn.apply(lambda _: SECRET)
        self.register_outputs({"secret_name": self.secret_name})


def copying_policy(args: PullCredentialsArgs) -> dict[str, Any]:
    """The policy of `policies/pull-credentials/` with these values put in."""
    (manifest,) = load("pull-credentials/cluster-policy.yaml")
    manifest["metadata"]["annotations"]["pulumi.com/waitFor"] = "condition=Ready"
    (rule,) = manifest["spec"]["rules"]
    rule["exclude"]["any"][0]["resources"]["names"] = with_excluded_namespaces(
        [NAMESPACE, NODES_NAMESPACE, *args.excluded_namespaces]
    )
    if version(args.kyverno_version) < (
        1,
        13,
    ):  # the rule's own field is from 1.13
        manifest["spec"]["generateExisting"] = rule["generate"].pop("generateExisting")
    return manifest
