"""The actions of VKE (Version 2022-05-12) and of VPC (2020-04-01) that looking a cluster up needs.

The provider's `get_clusters` reads ListClusters, for each cluster that is up ListKubeconfigs
(Private, and Public if it has a public address) and then DescribeEipAddresses of that address; it
takes the presence of the nested objects for granted, so all of them are always there.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from rehearsal.cloud.api.config import Cluster, EmulatorConfig
from rehearsal.cloud.api.cr import Action
from rehearsal.cloud.api.parameters import Page, Parameters

SERVICE = "vke"
VERSION = "2022-05-12"
VPC_SERVICE = "vpc"
VPC_VERSION = "2020-04-01"
_POST_PAID_BY_TRAFFIC = 3


class _Ids(Parameters):
    ids: Sequence[str] = ()


class _ListClusters(Page):
    filter: _Ids = _Ids()


class _Kubeconfigs(Parameters):
    cluster_ids: Sequence[str] = ()
    types: Sequence[Literal["Public", "Private"]] = ()


class _ListKubeconfigs(Page):
    filter: _Kubeconfigs = _Kubeconfigs()


class _DescribeEipAddresses(Parameters):
    eip_addresses: Sequence[str] = ()


class VkeApi:
    """The clusters of the config file, read-only."""

    def __init__(self, config: EmulatorConfig) -> None:
        self._config = config

    @property
    def actions(self) -> Mapping[str, Action]:
        """The actions of VKE by name."""
        return {
            "ListClusters": (_ListClusters, self._list_clusters),
            "ListKubeconfigs": (_ListKubeconfigs, self._list_kubeconfigs),
        }

    @property
    def vpc_actions(self) -> Mapping[str, Action]:
        """The actions of VPC by name."""
        return {"DescribeEipAddresses": (_DescribeEipAddresses, self._describe_eip_addresses)}

    def _list_clusters(self, region: str, asked: _ListClusters) -> dict[str, Any]:
        ids = asked.filter.ids
        clusters = self._config.clusters_in(region)
        return asked.of([_describe(each) for each in clusters if not ids or each.id in ids])

    def _list_kubeconfigs(self, region: str, asked: _ListKubeconfigs) -> dict[str, Any]:
        ids, types = asked.filter.cluster_ids, asked.filter.types
        return asked.of(
            [
                _kubeconfig(cluster, kind)
                for cluster in self._config.clusters_in(region)
                if (not ids or cluster.id in ids) and cluster.kubeconfig_path.exists()
                for kind in (("Public", "Private") if cluster.public else ("Private",))
                if not types or kind in types
            ]
        )

    def _describe_eip_addresses(self, region: str, asked: _DescribeEipAddresses) -> dict[str, Any]:
        wanted = asked.eip_addresses
        found = [
            {
                "AllocationId": f"eip-{cluster.id}",
                "EipAddress": _public_address(cluster),
                "Bandwidth": 10,
                "BillingType": _POST_PAID_BY_TRAFFIC,
                "ISP": "BGP",
            }
            for cluster in self._config.clusters_in(region)
            if cluster.public and (not wanted or _public_address(cluster) in wanted)
        ]
        return {"EipAddresses": found, "TotalCount": len(found)}


def _public_address(cluster: Cluster) -> str:
    """The public address of a cluster: one of those kept for documentation (RFC 5737), which lead
    nowhere. The kubeconfig says where the API server really is.
    """
    return f"203.0.113.{hashlib.sha256(cluster.id.encode()).digest()[0] % 254 + 1}"


def _kubeconfig(cluster: Cluster, kind: str) -> dict[str, Any]:
    return {
        "Id": f"kubeconfig-{kind}-{cluster.id}",
        "ClusterId": cluster.id,
        "Type": kind,
        "Kubeconfig": base64.b64encode(cluster.kubeconfig_path.read_bytes()).decode(),
        "CreateTime": "2026-01-01T00:00:00Z",
        "ExpireTime": "2036-01-01T00:00:00Z",
    }


def _describe(cluster: Cluster) -> dict[str, Any]:
    # The provider reads BillingType as a number, for clusters without a public address too.
    public = {"Bandwidth": 10, "BillingType": _POST_PAID_BY_TRAFFIC, "Isp": "BGP"}
    return {
        "Id": cluster.id,
        "Name": cluster.name,
        "KubernetesVersion": cluster.kubernetes_version,
        "ProjectName": "default",
        "Status": {"Phase": "Running", "Conditions": [{"Type": "Ok"}]},
        "ClusterConfig": {
            "VpcId": cluster.vpc_id,
            "SubnetIds": cluster.subnet_ids,
            "SecurityGroupIds": [],
            "ApiServerPublicAccessEnabled": cluster.public,
            "ApiServerPublicAccessConfig": {"PublicAccessNetworkConfig": public},
            "ApiServerEndpoints": {
                "PrivateIp": {"Ipv4": "192.168.0.10"},
                "PublicIp": {"Ipv4": _public_address(cluster) if cluster.public else ""},
            },
        },
        "PodsConfig": {
            "PodNetworkMode": "VpcCniShared",
            "VpcCniConfig": {"VpcId": cluster.vpc_id, "SubnetIds": cluster.subnet_ids},
            "FlannelConfig": {"PodCidrs": [], "MaxPodsPerNode": 0},
        },
        "ServicesConfig": {"ServiceCidrsv4": ["172.16.0.0/20"]},
        "NodeStatistics": {"TotalCount": 0},
        "LoggingConfig": {"LogProjectId": "", "LogSetups": []},
        "IrsaConfig": {"Enabled": False},
        "Tags": [],
    }
