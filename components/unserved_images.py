"""UnservedImages: the policy that warns whoever writes an image that no proxy serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.inputs import inputs
from components.policy import metadata, unserved_images
from components.types import Proxy


@dataclass(frozen=True, kw_only=True)
class UnservedImagesArgs:
    """What is served, and what is left alone."""

    proxies: Sequence[Proxy]
    """The proxies; of each only its registry and its namespaces count."""
    excluded_namespaces: Sequence[str] = ()
    """Kubernetes namespaces left alone beside those of Kubernetes and Kyverno."""
    excluded_pod_labels: Sequence[str] = ()
    """Labels, `key` or `key=value`, of Pods left alone beside those of known operators."""


class UnservedImages(pulumi.ComponentResource):
    """The warning in one cluster: `policies/unserved-images/` with these values put in."""

    policy_name: pulumi.Output[str]
    """The policy's name."""

    def __init__(
        self, name: str, args: UnservedImagesArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:UnservedImages", name, inputs(args), opts)
        policy, binding = unserved_images(
            args.proxies,
            excluded_namespaces=args.excluded_namespaces,
            excluded_pod_labels=args.excluded_pod_labels,
        )
        applied = [
            kubernetes.apiextensions.CustomResource(
                f"{name}-{role}",
                api_version=manifest["apiVersion"],
                kind=manifest["kind"],
                metadata=metadata(manifest),
                spec=manifest["spec"],
                opts=pulumi.ResourceOptions(parent=self),
            )
            for role, manifest in (("policy", policy), ("binding", binding))
        ]
        policy_name = str(policy["metadata"]["name"])
        self.policy_name = applied[0].urn.apply(lambda _: policy_name)
        self.register_outputs({"policy_name": self.policy_name})
