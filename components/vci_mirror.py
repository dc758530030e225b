"""VciMirror: the proxies as mirrors for Pods on VCI, which have no node to configure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.inputs import inputs
from components.policy import (
    cel,
    exclusions,
    load,
    match_conditions,
    metadata,
    namespaces_left_alone,
    set_webhook,
)
from components.types import Engine, Proxy

ANNOTATION: Final = "vci.volcengine.com/registry-mirror-config"
"""The Pod annotation in which VCI reads its mirrors, as JSON (docs 6460/1382631)."""


@dataclass(frozen=True, kw_only=True)
class VciMirrorArgs:
    """The mirrors, and the Pods that get them."""

    proxies: Sequence[Proxy]
    """The proxies; all namespaces public, for no login is written into a Pod."""
    excluded_namespaces: Sequence[str] = ()
    """Kubernetes namespaces to leave alone, beside kube-system."""
    excluded_pod_labels: Sequence[str] = ()
    """Labels, `key` or `key=value`, of Pods to leave alone. Operators that compare images are none
    of them: an annotation changes no image."""
    timeout_seconds: int
    """How long a Pod waits for a Kyverno that does not answer; seconds, 1 to 30."""
    engine: Engine
    """The kind of the policy; one of Kyverno's."""


class VciMirror(pulumi.ComponentResource):
    """A policy of Kyverno's that gives Pods the annotation VCI reads.

    Every new Pod with an image of a namespace served gets it, for where a Pod runs is decided after
    admission; nothing but VCI reads it. An annotation the Pod brings itself stays. A Pod never
    waits for it to be there: the policy's failure is ignored.
    """

    policy_name: pulumi.Output[str]
    """The policy's name, known once it is in force."""

    def __init__(
        self, name: str, args: VciMirrorArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:VciMirror", name, inputs(args), opts)
        manifest = annotating_policy(args, [""] * len(args.proxies))  # of the same kind and name
        policy_name = str(manifest["metadata"]["name"])
        domains = pulumi.Output.all(*(each.domain for each in args.proxies))
        policy = kubernetes.apiextensions.CustomResource(
            f"{name}-policy",
            api_version=manifest["apiVersion"],
            kind=manifest["kind"],
            metadata=metadata(manifest),
            spec=domains.apply(partial(_spec, args)),
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.policy_name = policy.urn.apply(lambda _: policy_name)
        self.register_outputs({"policy_name": self.policy_name})


def annotating_policy(args: VciMirrorArgs, domains: Sequence[str]) -> dict[str, Any]:
    """The policy of `policies/vci-mirror/` with these values, and each proxy's domain, put in."""
    namespaces = namespaces_left_alone(args.excluded_namespaces)
    conditions = match_conditions(
        args.proxies, namespaces=namespaces, labels=args.excluded_pod_labels
    )
    text = json.dumps({"mirrors": _mirrors(args.proxies, domains)})
    if args.engine is Engine.MUTATING_POLICY:
        (manifest,) = load("vci-mirror/mutating-policy.yaml")
        spec = manifest["spec"]
        spec["matchConditions"] = conditions
        spec["webhookConfiguration"]["timeoutSeconds"] = args.timeout_seconds
        spec["variables"][0]["expression"] = cel(text)
        return manifest
    (manifest,) = load("vci-mirror/cluster-policy.yaml")
    set_webhook(manifest["spec"], conditions, args.timeout_seconds)
    (rule,) = manifest["spec"]["rules"]
    rule["exclude"]["any"] = exclusions(namespaces, args.excluded_pod_labels)
    patch = rule["mutate"]["patchStrategicMerge"]
    patch["metadata"]["annotations"] = {f"+({ANNOTATION})": text}
    return manifest


def _spec(args: VciMirrorArgs, domains: Sequence[str]) -> Any:
    """What the policy says, once the domains are known."""
    return annotating_policy(args, domains)["spec"]


def _mirrors(proxies: Sequence[Proxy], domains: Sequence[str]) -> Mapping[str, list[str]]:
    """Each registry's mirror, as VCI reads it."""
    return {proxy.host: [domain] for proxy, domain in zip(proxies, domains, strict=True)}
