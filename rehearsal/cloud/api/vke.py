"""The actions of VKE (Version 2022-05-12) and of VPC (2020-04-01) that looking a cluster up needs.

The provider's `get_clusters` reads ListClusters, for each cluster that is up ListKubeconfigs
(Private, and Public if it has a public address) and then DescribeEipAddresses of that address; it
takes the presence of the nested objects for granted, so all of them are always there.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from rehearsal.cloud.api.config import Cluster, EmulatorConfig
from rehearsal.cloud.api.errors import ApiError
from rehearsal.cloud.api.parameters import Parameters

SERVICE = "vke"
VERSION = "2022-05-12"
VPC_SERVICE = "vpc"
VPC_VERSION = "2020-04-01"
_CREATED = "2026-01-01T00:00:00Z"
_POST_PAID_BY_TRAFFIC = 3


class VkeApi:
    """The clusters of the config file, read-only."""

    def __init__(self, config: EmulatorConfig) -> None:
        self._config = config

    def list_clusters(self, region: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """ListClusters, with the filter Ids."""
        parameters = Parameters(values)
        ids = parameters.group("Filter").texts("Ids")
        found = [
            _describe(cluster, self._config.account_id)
            for cluster in self._clusters(region)
            if not ids or cluster.id in ids
        ]
        return parameters.page(found)

    def list_kubeconfigs(self, region: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """ListKubeconfigs, with the filters ClusterIds and Types."""
        parameters = Parameters(values)
        wanted = parameters.group("Filter")
        cluster_ids = wanted.texts("ClusterIds")
        types = wanted.texts("Types")
        for kind in types:
            if kind not in ("Public", "Private", "TargetCluster"):
                raise ApiError.invalid("Filter.Types", "Known are Public and Private.")
        found = [
            item
            for cluster in self._clusters(region)
            if not cluster_ids or cluster.id in cluster_ids
            for kind in (("Public", "Private") if cluster.public else ("Private",))
            if not types or kind in types
            for item in self._kubeconfig(cluster, kind)
        ]
        return parameters.page(found)

    def describe_eip_addresses(self, region: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """DescribeEipAddresses of VPC, with the filter EipAddresses."""
        parameters = Parameters(values)
        addresses = parameters.texts("EipAddresses")
        found = [
            {
                "AllocationId": _id("eip", cluster),
                "EipAddress": public_address(cluster),
                "Status": "Attached",
                "Name": f"{cluster.name}-apiserver",
                "Bandwidth": 10,
                "BillingType": _POST_PAID_BY_TRAFFIC,
                "ISP": "BGP",
                "InstanceId": _id("clb", cluster),
                "InstanceType": "ClbInstance",
                "ProjectName": "default",
            }
            for cluster in self._clusters(region)
            if cluster.public and (not addresses or public_address(cluster) in addresses)
        ]
        return {
            "EipAddresses": found,
            "PageNumber": 1,
            "PageSize": max(10, len(found)),
            "TotalCount": len(found),
        }

    def _clusters(self, region: str) -> list[Cluster]:
        return [
            cluster
            for cluster in self._config.clusters
            if (cluster.region or self._config.region) == region
        ]

    def _kubeconfig(self, cluster: Cluster, kind: str) -> list[dict[str, Any]]:
        try:
            content = cluster.kubeconfig_path.read_bytes()
        except FileNotFoundError:
            return []
        return [
            {
                "Id": _id(f"kc{kind[:3].lower()}", cluster),
                "ClusterId": cluster.id,
                "Type": kind,
                "Kubeconfig": base64.b64encode(content).decode(),
                "UserId": self._config.account_id,
                "RoleId": 0,
                "CreateTime": _CREATED,
                "ExpireTime": "2036-01-01T00:00:00Z",
            }
        ]


def public_address(cluster: Cluster) -> str:
    """The public address of a cluster: one of those kept for documentation
    (RFC 5737), which lead nowhere. The kubeconfig says where the API server really is.
    """
    return f"203.0.113.{hashlib.sha256(cluster.id.encode()).digest()[0] % 254 + 1}"


def _id(kind: str, cluster: Cluster) -> str:
    return f"{kind}-{hashlib.sha256(cluster.id.encode()).hexdigest()[:18]}"


def _describe(cluster: Cluster, account_id: int) -> dict[str, Any]:
    address = hashlib.sha256(cluster.vpc_id.encode()).digest()
    return {
        "Id": cluster.id,
        "Name": cluster.name,
        "Description": "",
        "CreateTime": _CREATED,
        "UpdateTime": _CREATED,
        "CreateClientToken": "",
        "UpdateClientToken": "",
        "DeleteProtectionEnabled": False,
        "KubernetesVersion": cluster.kubernetes_version,
        "ProjectName": "default",
        "Type": "Standard",
        "Status": {"Phase": cluster.phase, "Conditions": [{"Type": "Ok"}]},
        "ClusterConfig": {
            "VpcId": cluster.vpc_id,
            "SubnetIds": cluster.subnet_ids,
            "SecurityGroupIds": [_id("sg", cluster)],
            "ApiServerPublicAccessEnabled": cluster.public,
            "ApiServerPublicAccessConfig": {
                # The provider reads BillingType as a number, for clusters without a public
                # address too.
                "PublicAccessNetworkConfig": {
                    "Bandwidth": 10 if cluster.public else 0,
                    "BillingType": _POST_PAID_BY_TRAFFIC,
                    "Isp": "BGP",
                },
                "AccessSourceIpsv4": [],
            },
            "ResourcePublicAccessDefaultEnabled": False,
            "IpFamily": "Ipv4",
            "ApiServerEndpoints": {
                "PrivateIp": {"Ipv4": f"192.168.{address[0]}.{address[1] % 254 + 1}"},
                "PublicIp": {"Ipv4": public_address(cluster) if cluster.public else ""},
            },
        },
        "PodsConfig": {
            "PodNetworkMode": "VpcCniShared",
            "VpcCniConfig": {"VpcId": cluster.vpc_id, "SubnetIds": cluster.subnet_ids},
            "FlannelConfig": {"PodCidrs": [], "MaxPodsPerNode": 0},
        },
        "ServicesConfig": {"ServiceCidrsv4": ["172.16.0.0/20"]},
        "NodeStatistics": {
            "TotalCount": 0,
            "CreatingCount": 0,
            "RunningCount": 0,
            "StoppedCount": 0,
            "UpdatingCount": 0,
            "DeletingCount": 0,
            "FailedCount": 0,
        },
        "LoggingConfig": {"LogProjectId": "", "LogSetups": []},
        "IrsaConfig": {
            "Enabled": False,
            "Issuer": "",
            "Audience": "",
            "OidcTrn": "",
            "OpenIdConfigUrl": "",
            "JwksUrl": "",
        },
        "Tags": [
            {"Key": "sys:account", "Value": str(account_id), "Type": "System"},
        ],
    }
