"""Cluster: a Kubernetes cluster this stack works in, and the one provider that reaches it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_kubernetes as kubernetes
import pulumi_volcengine as volcengine
from pulumi_volcengine.vke import GetKubeconfigsResult
from pulumi_volcengine.vke.outputs import GetClustersClusterResult, GetKubeconfigsKubeconfigResult

from components import PACKAGE
from components.inputs import inputs
from components.types import Endpoint


@dataclass(frozen=True, kw_only=True)
class ClusterArgs:
    """Where a cluster is: a VKE cluster's id, or a kubeconfig and what the API does not know."""

    cluster_id: str | None = None
    """The VKE cluster's id; its VPC, version and kubeconfig are looked up."""
    endpoint: Endpoint = Endpoint.PUBLIC
    """Which of the VKE cluster's kubeconfigs to use."""
    kubeconfig: pulumi.Input[str] | None = None
    """A kubeconfig in YAML, secret, in place of `cluster_id`; None with `cluster_id`."""
    vpc_id: pulumi.Input[str | None] = None
    """The cluster's VPC, with `kubeconfig` only."""
    subnet_id: pulumi.Input[str | None] = None
    """The subnet of that VPC, with `kubeconfig` only."""
    kubernetes_version: pulumi.Input[str | None] = None
    """The cluster's version, with `kubeconfig` only."""


class Cluster(pulumi.ComponentResource):
    """A cluster and its Kubernetes provider.

    A change of the kubeconfig (a renewed certificate, another address) updates the provider; only
    another cluster replaces it, and with it what is in the cluster.
    """

    vpc_id: pulumi.Output[str | None]
    """The VPC the cluster is in; None when not known."""
    subnet_id: pulumi.Output[str | None]
    """A subnet of that VPC; None when not known."""
    kubernetes_version: pulumi.Output[str | None]
    """The cluster's Kubernetes version; None when not known."""
    kubeconfig: pulumi.Output[str]
    """The kubeconfig the cluster is reached by; secret."""
    provider: kubernetes.Provider
    """The provider of every resource in this cluster."""

    def __init__(
        self, name: str, args: ClusterArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:Cluster", name, inputs(args), opts)
        if args.cluster_id:
            found = _look_up(self, args.cluster_id)
            self.vpc_id = found.apply(lambda cluster: cluster.cluster_config.vpc_id)
            self.subnet_id = found.apply(lambda cluster: cluster.cluster_config.subnet_ids[0])
            self.kubernetes_version = found.apply(lambda cluster: cluster.kubernetes_version)
            self.kubeconfig = _look_up_kubeconfig(self, args.cluster_id, args.endpoint)
        else:
            self.vpc_id = pulumi.Output.from_input(args.vpc_id)
            self.subnet_id = pulumi.Output.from_input(args.subnet_id)
            self.kubernetes_version = pulumi.Output.from_input(args.kubernetes_version)
            self.kubeconfig = pulumi.Output.secret(args.kubeconfig or "")
        self.provider = kubernetes.Provider(
            f"{name}-provider",
            kubeconfig=self.kubeconfig,
            cluster_identifier=args.cluster_id or name,
            # What the stack creates is its own: it wins over a patch by hand.
            enable_patch_force=True,
            enable_secret_mutable=True,  # else a changed Secret is deleted and created again
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs(
            {
                "vpc_id": self.vpc_id,
                "subnet_id": self.subnet_id,
                "kubernetes_version": self.kubernetes_version,
            }
        )


def _look_up(parent: Cluster, cluster_id: str) -> pulumi.Output[GetClustersClusterResult]:
    """The VKE cluster of this id, without the kubeconfigs the answer carries in plaintext."""
    answer = volcengine.vke.get_clusters_output(
        ids=[cluster_id], opts=pulumi.InvokeOptions(parent=parent)
    )
    return answer.apply(lambda result: _only(result.clusters, cluster_id))


def _only(
    clusters: Sequence[GetClustersClusterResult], cluster_id: str
) -> GetClustersClusterResult:
    """The one cluster looked for.

    Raises:
        pulumi.RunError: when the account and region have no such cluster.
    """
    if not clusters:
        raise pulumi.RunError(
            f"clusters: VKE has no cluster {cluster_id!r} in this account and region\n"
            "  do: correct clusterId or volcengine:region, or ask for the permission"
            " vke:ListClusters; if the cluster was deleted, take it out of clusters and see"
            " docs/operations.md, 'A cluster that is gone'"
        )
    return clusters[0]


def _look_up_kubeconfig(parent: Cluster, cluster_id: str, endpoint: Endpoint) -> pulumi.Output[str]:
    """The cluster's newest kubeconfig for this endpoint: secret from the moment it arrives."""
    answer: pulumi.Output[GetKubeconfigsResult] = pulumi.Output.secret(
        volcengine.vke.get_kubeconfigs_output(
            cluster_ids=[cluster_id], types=[endpoint], opts=pulumi.InvokeOptions(parent=parent)
        )
    )
    return answer.apply(lambda result: _newest(result.kubeconfigs, cluster_id, endpoint))


def _newest(
    kubeconfigs: Sequence[GetKubeconfigsKubeconfigResult], cluster_id: str, endpoint: Endpoint
) -> str:
    """The newest of a cluster's kubeconfigs, as YAML.

    Raises:
        pulumi.RunError: when there is none for this endpoint.
    """
    fitting = [each for each in kubeconfigs if each.type == endpoint]
    if not fitting:
        other = Endpoint.PRIVATE if endpoint is Endpoint.PUBLIC else Endpoint.PUBLIC
        raise pulumi.RunError(
            f"clusters: VKE cluster {cluster_id!r} has no {endpoint} kubeconfig\n"
            f"  do: create one on the cluster's page, or set endpoint: {other}"
        )
    newest = max(fitting, key=lambda each: (each.create_time, each.id))
    return base64.b64decode(newest.kubeconfig).decode()
