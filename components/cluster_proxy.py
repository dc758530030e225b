"""ClusterProxy: all that one cluster gets, and the order between it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.cluster import Cluster
from components.credential_addon import CredentialAddon, CredentialAddonArgs
from components.image_redirect import ImageRedirect, ImageRedirectArgs
from components.kyverno import Kyverno, KyvernoArgs
from components.labels import LABELS, NAMESPACE
from components.node_mirror import NodeMirror, NodeMirrorArgs
from components.pull_check import PullCheck, PullCheckArgs
from components.pull_credentials import PullCredentials, PullCredentialsArgs
from components.types import name_for
from components.unserved_images import UnservedImages, UnservedImagesArgs
from components.vci_mirror import VciMirror, VciMirrorArgs


@dataclass(frozen=True, kw_only=True)
class ClusterProxyArgs:
    """The parts one cluster gets; None leaves a part out."""

    cluster: Cluster
    """The cluster, with the provider that reaches it."""
    pull_checks: Sequence[PullCheckArgs] = ()
    """The proofs that the cluster's nodes pull through a proxy; all else waits for them."""
    kyverno: KyvernoArgs | None = None
    """Kyverno, unless it is there already or no policy is Kyverno's."""
    credential_addon: CredentialAddonArgs | None = None
    """VKE's add-on that gives Pods logins, in place of `pull_credentials`."""
    pull_credentials: PullCredentialsArgs | None = None
    """The login for redirected Pods of private namespaces."""
    redirect: ImageRedirectArgs | None = None
    """The policy that redirects images at admission."""
    vci_mirror: VciMirrorArgs | None = None
    """The policy that annotates Pods for VCI."""
    node_mirror: NodeMirrorArgs | None = None
    """The containerd mirror on every node."""
    unserved_images: UnservedImagesArgs | None = None
    """The policy that warns of images no proxy serves."""


class ClusterProxy(pulumi.ComponentResource):
    """What one cluster gets, in this order.

    Pull checks → Kyverno and VKE's add-on → logins → policies; the node mirror after the pull
    checks. Nothing is redirected to a proxy that does not serve this cluster. Taking away goes the
    other way round.
    """

    redirect: ImageRedirect | None
    """The redirect at admission."""
    vci_mirror: VciMirror | None
    """The annotation of Pods for VCI."""
    node_mirror: NodeMirror | None
    """The mirror on nodes."""

    def __init__(
        self, name: str, args: ClusterProxyArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        parts = [part for part, value in vars(args).items() if value and part != "cluster"]
        super().__init__(
            f"{PACKAGE}:index:ClusterProxy",
            name,
            {"parts": parts},
            pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(providers=[args.cluster.provider])
            ),
        )
        after: list[pulumi.Resource] = []
        pull_credentials = args.pull_credentials
        redirect = args.redirect and replace(args.redirect, kubeconfig=args.cluster.kubeconfig)
        if args.pull_checks or pull_credentials:
            namespace = self._namespace(name).metadata.name
            pull_credentials = pull_credentials and replace(
                pull_credentials, namespace=namespace, kubeconfig=args.cluster.kubeconfig
            )
            after += [
                PullCheck(
                    name_for(f"{name}-pull-check", each.host),
                    replace(each, namespace=namespace, kubeconfig=args.cluster.kubeconfig),
                    self._part([]),
                )
                for each in args.pull_checks
            ]
        self.node_mirror = (
            NodeMirror(
                f"{name}-node-mirror",
                replace(args.node_mirror, kubeconfig=args.cluster.kubeconfig),
                self._part(after),
            )
            if args.node_mirror
            else None
        )
        if args.unserved_images:
            UnservedImages(f"{name}-unserved-images", args.unserved_images, self._part(after))
        before = list(after)
        if args.kyverno:
            kyverno = replace(args.kyverno, kubeconfig=args.cluster.kubeconfig)
            after.append(Kyverno(f"{name}-kyverno", kyverno, self._part(before)))
        if args.credential_addon:
            after.append(
                CredentialAddon(
                    f"{name}-credential-addon", args.credential_addon, self._part(before)
                )
            )
        self.vci_mirror = (
            VciMirror(f"{name}-vci-mirror", args.vci_mirror, self._part(after))
            if args.vci_mirror
            else None
        )
        if pull_credentials:
            after.append(
                PullCredentials(f"{name}-pull-credentials", pull_credentials, self._part(after))
            )
        self.redirect = (
            ImageRedirect(
                f"{name}-redirect", replace(redirect, after=tuple(after)), self._part(after)
            )
            if redirect
            else None
        )
        self.register_outputs(
            {
                "redirect_policy": self.redirect.policy_name if self.redirect else None,
                "vci_policy": self.vci_mirror.policy_name if self.vci_mirror else None,
                "node_daemon_set": self.node_mirror.daemon_set if self.node_mirror else None,
            }
        )

    def _part(self, after: Sequence[pulumi.Resource]) -> pulumi.ResourceOptions:
        """The options of a part that comes after others."""
        return pulumi.ResourceOptions(
            parent=self,
            depends_on=list(after),
            # Parts were children of the stack until November 2026.
            aliases=[pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)],
        )

    def _namespace(self, name: str) -> kubernetes.core.v1.Namespace:
        """The namespace of the pull checks and of the logins' source."""
        return kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={
                "name": NAMESPACE,
                "labels": {**LABELS, "pod-security.kubernetes.io/enforce": "restricted"},
            },
            opts=pulumi.ResourceOptions(
                parent=self,
                delete_before_replace=True,
                # It was a child of PullCredentials until November 2026.
                aliases=[
                    pulumi.Alias(
                        name=f"{name}-pull-credentials-namespace",
                        parent=pulumi.create_urn(
                            f"{name}-pull-credentials", f"{PACKAGE}:index:PullCredentials"
                        ),
                    )
                ],
            ),
        )
