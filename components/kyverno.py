"""Kyverno: the policy engine, as a Helm release in a namespace of its own."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.inputs import inputs

RELEASE = "kyverno"
"""The Helm release's name; the chart derives the names of everything from it."""


@dataclass(frozen=True, kw_only=True)
class KyvernoArgs:
    """Which Kyverno to install, and where it pulls its own images."""

    chart: str
    """A chart's name in `repository`, an `oci://` reference, or a path."""
    version: str
    """The chart's exact version."""
    repository: str | None = None
    """The Helm repository's URL; None when `chart` is a path or an OCI reference."""
    namespace: str = "kyverno"
    """The namespace made for it."""
    image_registry: str | None = None
    """The registry of Kyverno's own images; None leaves the chart's."""
    webhook_timeout_seconds: int = 2
    """The least time the API server waits for Kyverno, for any policy; seconds, 1 to 30."""
    replicas: int = 3
    """Replicas of the admission controller, 1 or at least 3."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Chart values merged, key by key, over this component's own."""


class Kyverno(pulumi.ComponentResource):
    """Kyverno in its own namespace, awaited until its controllers are ready.

    Kyverno's Pods never wait on a policy of Kyverno: its webhooks leave out its own namespace and
    kube-system, so it can start, and be upgraded, while it is down.
    """

    namespace: pulumi.Output[str]
    """The namespace Kyverno runs in, known once the release is ready."""
    version: pulumi.Output[str]
    """The chart version installed, known once the release is ready."""

    def __init__(
        self, name: str, args: KyvernoArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:Kyverno", name, inputs(args), opts)
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": args.namespace},
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )
        release = kubernetes.helm.v3.Release(
            f"{name}-release",
            name=RELEASE,
            namespace=namespace.metadata.name,
            chart=args.chart,
            version=args.version,
            repository_opts={"repo": args.repository} if args.repository else None,
            values=chart_values(args),
            timeout=600,
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )
        self.namespace = release.status.namespace
        self.version = release.status.version
        self.register_outputs({"namespace": self.namespace, "version": self.version})


def chart_values(args: KyvernoArgs) -> dict[str, Any]:
    """The values of the Kyverno chart.

    The defaults make it highly available: several admission controllers, two of each other
    controller; the chart spreads them over nodes and gives them a disruption budget.
    """
    several = args.replicas > 1
    left_out = {
        "namespaceSelector": {
            "matchExpressions": [
                {
                    "key": "kubernetes.io/metadata.name",
                    "operator": "NotIn",
                    "values": sorted({"kube-system", args.namespace}),
                }
            ]
        }
    }
    values: dict[str, Any] = {
        "admissionController": {
            "replicas": args.replicas,
            "container": {"extraArgs": {"webhookTimeout": args.webhook_timeout_seconds}},
        },
        "backgroundController": {"replicas": 2 if several else 1},
        "cleanupController": {"replicas": 2 if several else 1},
        "reportsController": {"replicas": 2 if several else 1},
        "config": {"webhooks": left_out},
    }
    if args.image_registry:
        values["global"] = {"image": {"registry": args.image_registry}}
    return merged(values, args.values)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on it: mappings key by key, all else replaced."""
    result = deepcopy(dict(base))
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, dict) and isinstance(value, Mapping):
            result[key] = merged(below, value)
        else:
            result[key] = deepcopy(value)
    return result
