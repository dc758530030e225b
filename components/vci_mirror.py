"""VciMirror: the proxy as the Docker Hub mirror of Pods on VCI, which have no node to configure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.inputs import inputs
from components.policy import (
    exclusions,
    load,
    match_conditions,
    namespaces_left_alone,
    set_webhook,
    space_delimited,
)
from components.types import DOCKER_HUB, Access, Proxy


@dataclass(frozen=True, kw_only=True)
class VciMirrorArgs:
    """The mirror, and the Pods that are told of it."""

    domain: pulumi.Input[str]
    """The proxy's domain."""
    namespaces: Sequence[str]
    """Docker Hub namespaces the proxy serves; all public, for no login is written into a Pod."""
    excluded_namespaces: Sequence[str] = ()
    """Kubernetes namespaces to leave alone, beside kube-system."""
    timeout_seconds: int = 2
    """How long a Pod waits for a Kyverno that does not answer; seconds, 1 to 30."""


class VciMirror(pulumi.ComponentResource):
    """A policy of Kyverno's that gives Pods the annotation VCI reads (docs 6460/1382631).

    Every new Pod with a Docker Hub image of a namespace served gets it, for where a Pod runs is
    decided after admission; nothing but VCI reads it. An annotation the Pod brings itself stays.
    A Pod never waits for it to be there: the policy's failure is ignored.
    """

    policy_name: pulumi.Output[str]
    """The policy's name, known once it is in force."""

    def __init__(
        self, name: str, args: VciMirrorArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:VciMirror", name, inputs(args), opts)
        manifest = annotating_policy(args)
        policy_name = str(manifest["metadata"]["name"])
        policy = kubernetes.apiextensions.CustomResource(
            f"{name}-policy",
            api_version=manifest["apiVersion"],
            kind=manifest["kind"],
            metadata=manifest["metadata"],
            spec=manifest["spec"],
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )
        self.policy_name = policy.urn.apply(lambda _: policy_name)
        self.register_outputs({"policy_name": self.policy_name})


def annotating_policy(args: VciMirrorArgs) -> dict[str, Any]:
    """The policy of `policies/vci-mirror/` with these values put in."""
    (manifest,) = load("vci-mirror/cluster-policy.yaml")
    manifest["metadata"]["annotations"]["pulumi.com/waitFor"] = "condition=Ready"
    served = sorted(args.namespaces)
    left_alone = namespaces_left_alone(args.excluded_namespaces)
    proxy = Proxy(
        host=DOCKER_HUB, domain=args.domain, namespaces=dict.fromkeys(served, Access.PUBLIC)
    )
    conditions = match_conditions([proxy], namespaces=left_alone)
    set_webhook(manifest["spec"], conditions, args.timeout_seconds)
    (rule,) = manifest["spec"]["rules"]
    rule["exclude"]["any"] = exclusions(left_alone)
    rule["context"][0]["variable"]["value"] = {
        "domain": args.domain,
        "served": space_delimited(served),
    }
    return manifest
