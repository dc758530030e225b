"""ImageRedirect: the policy that has Pods pull images from the proxies of their registries."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.api_server import ApiServer
from components.in_force import LEAST_SECONDS, Expected, await_redirect
from components.inputs import NOT_RECORDED, inputs
from components.policy import Redirect, metadata, redirect


@dataclass(frozen=True, kw_only=True)
class ImageRedirectArgs(Redirect):
    """What is redirected where, by which engine, and what is left alone."""

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

        async def in_force(_: pulumi.ResourceHookArgs) -> None:
            domain = await pulumi.Output.from_input(args.proxies[0].domain).future()
            kubeconfig = await pulumi.Output.from_input(args.kubeconfig).future()
            expected = _expected(args, domain or "")
            if expected is None:
                await asyncio.sleep(LEAST_SECONDS)
            else:
                await asyncio.to_thread(await_redirect, ApiServer(kubeconfig or ""), expected)

        applied: list[pulumi.Resource] = []
        manifests = _manifests(args, [""] * len(args.proxies))
        domains = pulumi.Output.all(*(each.domain for each in args.proxies))
        for at, manifest in enumerate(manifests):  # by any domain: of the same kinds and names
            applied.append(
                kubernetes.apiextensions.CustomResource(
                    f"{name}-{_role(manifest['kind'])}",
                    api_version=manifest["apiVersion"],
                    kind=manifest["kind"],
                    metadata=metadata(manifest),
                    spec=domains.apply(partial(_spec, args, at)),
                    opts=pulumi.ResourceOptions(
                        parent=self,
                        depends_on=[*args.after, *applied],
                        aliases=_other_versions(manifest),
                        hooks=pulumi.ResourceHookBinding(
                            after_create=[in_force] if manifest is manifests[-1] else None
                        ),
                    ),
                )
            )
        policy_name = str(manifests[0]["metadata"]["name"])
        self.policy_name = applied[-1].urn.apply(lambda _: policy_name)
        self.register_outputs({"policy_name": self.policy_name})


def _manifests(args: ImageRedirectArgs, domains: Sequence[str]) -> list[dict[str, Any]]:
    """The policy with each proxy's domain."""
    proxies = zip(args.proxies, domains, strict=True)
    return redirect(
        replace(args, proxies=[replace(proxy, domain=domain) for proxy, domain in proxies])
    )


def _spec(args: ImageRedirectArgs, at: int, domains: Sequence[str]) -> Any:
    """What is said in one of the manifests, once the domains are known."""
    return _manifests(args, domains)[at]["spec"]


def _expected(args: ImageRedirectArgs, domain: str) -> Expected | None:
    """A Pod that the policy must redirect; None where it leaves `default` alone.

    Its image need not exist: at admission no registry is asked.
    """
    if Expected.namespace in args.excluded_namespaces:
        return None
    proxy = args.proxies[0]
    path = f"{min(proxy.namespaces)}/dry-run:1"
    return Expected(written=f"{proxy.host}/{path}", admitted=f"{domain}/{path}")


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
