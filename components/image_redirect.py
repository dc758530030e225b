"""ImageRedirect: the policy that rewrites Docker Hub images to the proxy at admission."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.api_server import ApiServer
from components.in_force import LEAST_SECONDS, Expected, await_redirect
from components.inputs import NOT_RECORDED, inputs
from components.redirect_policy import RedirectValues, render
from components.types import Access, Engine, FailurePolicy

_WAIT_FOR = "pulumi.com/waitFor"
_READY = {
    "ClusterPolicy": "condition=Ready",
    "MutatingPolicy": "jsonpath={.status.conditionStatus.ready}=true",
}
"""What Kyverno says of a policy it has taken in; the API server says nothing of its own."""


@dataclass(frozen=True, kw_only=True)
class ImageRedirectArgs:
    """What is redirected where, by which engine, and what is left alone."""

    engine: Engine
    """What rewrites the images."""
    domain: pulumi.Input[str]
    """The proxy's domain."""
    namespaces: Mapping[str, Access]
    """Docker Hub namespaces the proxy serves, each with who may pull from it."""
    excluded_namespaces: Sequence[str] = ()
    """Kubernetes namespaces to leave alone, beside kube-system."""
    excluded_pod_labels: Sequence[str] = ()
    """Label keys of Pods to leave alone, beside those of operators that compare images."""
    failure_policy: FailurePolicy = FailurePolicy.IGNORE
    """What happens to a Pod while the engine does not answer."""
    timeout_seconds: int = 2
    """How long a Pod waits for an engine that does not answer; seconds, 1 to 30."""
    lookup: str = "none"
    """`registry` asks every image's registry at admission; ClusterPolicy only."""
    pull_secret: str | None = None
    """The Secret that redirected Pods of private namespaces are given to pull with."""
    kyverno_version: str | None = None
    """Kyverno's version, `1.N`, where the engine is Kyverno's."""
    kubernetes_version: str | None = None
    """The cluster's version, `1.N`; decides the API version of a native policy."""
    kubeconfig: pulumi.Input[str] = field(default="", metadata=NOT_RECORDED)
    """The cluster's kubeconfig, secret: by it a new policy is seen to be in force."""
    after: Sequence[pulumi.Resource] = ()
    """What the policy needs as long as it is there, Kyverno first: it is taken away before these.

    A dependency of the policy itself: when the engine is switched the component stays and only its
    policy goes, and Pulumi orders that deletion by the policy's own dependencies.
    """


class ImageRedirect(pulumi.ComponentResource):
    """The redirect policy in one cluster.

    The policy is the file in `policies/image-redirect/` with these values put in. An update ends
    when the engine has taken a new policy in and the API server redirects Pods by it, before an old
    one goes.
    """

    policy_name: pulumi.Output[str]
    """The policy's name, known once it is in force."""

    def __init__(
        self, name: str, args: ImageRedirectArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:ImageRedirect", name, inputs(args), opts)
        manifests = render(
            args.engine,
            RedirectValues(
                domain=pulumi.Output.from_input(args.domain),
                namespaces=sorted(args.namespaces),
                private_namespaces=sorted(
                    name for name, access in args.namespaces.items() if access is Access.PRIVATE
                ),
                pull_secret=args.pull_secret,
                excluded_namespaces=args.excluded_namespaces,
                excluded_pod_labels=args.excluded_pod_labels,
                failure_policy=args.failure_policy,
                timeout_seconds=args.timeout_seconds,
            ),
            kubernetes_version=args.kubernetes_version,
            kyverno_version=args.kyverno_version,
            lookup=args.lookup == "registry",
            lift=lambda value, function: value.apply(function),
        )

        async def in_force(_: pulumi.ResourceHookArgs) -> None:
            domain = await pulumi.Output.from_input(args.domain).future()
            kubeconfig = await pulumi.Output.from_input(args.kubeconfig).future()
            expected = _expected(args, domain or "")
            if expected is None:
                await asyncio.sleep(LEAST_SECONDS)
            else:
                await asyncio.to_thread(await_redirect, ApiServer(kubeconfig or ""), expected)

        applied: list[pulumi.Resource] = []
        for manifest in manifests:
            options = pulumi.ResourceOptions(
                parent=self,
                depends_on=[*args.after, *applied],
                aliases=_other_versions(manifest),
                hooks=pulumi.ResourceHookBinding(
                    after_create=[in_force] if manifest is manifests[-1] else None
                ),
            )
            applied.append(_declare(name, manifest, options))
        policy_name = str(manifests[0]["metadata"]["name"])
        self.policy_name = applied[-1].urn.apply(lambda _: policy_name)
        self.register_outputs({"policy_name": self.policy_name})


def _declare(
    name: str, manifest: Mapping[str, Any], options: pulumi.ResourceOptions
) -> kubernetes.apiextensions.CustomResource:
    """One manifest of the policy as a resource of that kind."""
    kind = manifest["kind"]
    metadata = dict(manifest["metadata"])
    if kind in _READY:
        metadata["annotations"] = {**metadata.get("annotations", {}), _WAIT_FOR: _READY[kind]}
    return kubernetes.apiextensions.CustomResource(
        f"{name}-{_role(kind)}",
        api_version=manifest["apiVersion"],
        kind=kind,
        metadata=metadata,
        spec=manifest["spec"],
        opts=options,
    )


def _expected(args: ImageRedirectArgs, domain: str) -> Expected | None:
    """A Pod that the policy must redirect; None where it looks images up or leaves `default` alone.

    Its image need not exist: at admission no registry is asked.
    """
    if args.lookup == "registry" or Expected.namespace in args.excluded_namespaces:
        return None
    path = f"{min(args.namespaces)}/dry-run:1"
    return Expected(written=f"docker.io/{path}", admitted=f"{domain}/{path}")


def _other_versions(manifest: Mapping[str, Any]) -> list[pulumi.Alias]:
    """The same kind in the other API versions a native policy may have been written in.

    Without them a policy that moves to another version would be a new resource to Pulumi, which
    would then delete the old one of the same name: the policy itself.
    """
    group, _, version = manifest["apiVersion"].partition("/")
    if group != "admissionregistration.k8s.io":
        return []
    return [
        pulumi.Alias(type_=f"kubernetes:{group}/{other}:{manifest['kind']}")
        for other in ("v1", "v1beta1")
        if other != version
    ]


def _role(kind: str) -> str:
    """The part a manifest plays, in its resource's name."""
    return "binding" if kind.endswith("Binding") else "policy"
