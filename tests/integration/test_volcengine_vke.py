"""The emulator's VKE and VPC actions: what looking a cluster up needs."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
import volcenginesdkvke as sdk

from rehearsal.cloud.api.config import Cluster
from tests.support.volcengine_stage import RunningEmulator

pytest_plugins = ("tests.support.volcengine_fixtures",)

Start = Callable[..., RunningEmulator]


@pytest.fixture
def vke(start_emulator: Start, clusters: list[Cluster]) -> RunningEmulator:
    return start_emulator(clusters=clusters)


def test_the_official_sdk_finds_a_cluster_with_its_vpc(vke: RunningEmulator) -> None:
    found = sdk.VKEApi(vke.client()).list_clusters(
        sdk.ListClustersRequest(filter=sdk.FilterForListClustersInput(ids=["ccopen"]))
    )
    cluster = found.items[0]
    assert (found.total_count, cluster.id, cluster.status.phase) == (1, "ccopen", "Running")
    assert cluster.cluster_config.vpc_id == "vpc-open"
    assert cluster.cluster_config.subnet_ids == ["subnet-open-a", "subnet-open-b"]


def test_the_official_sdk_reads_a_kubeconfig(vke: RunningEmulator, clusters: list[Cluster]) -> None:
    wanted = sdk.FilterForListKubeconfigsInput(cluster_ids=["ccopen"], types=["Public"])
    found = sdk.VKEApi(vke.client()).list_kubeconfigs(sdk.ListKubeconfigsRequest(filter=wanted))
    assert [item.cluster_id for item in found.items] == ["ccopen"]
    content = base64.b64decode(found.items[0].kubeconfig)
    assert content == clusters[0].kubeconfig_path.read_bytes()


@pytest.mark.parametrize(
    ("cluster", "types", "expected"),
    [
        pytest.param("ccopen", [], ["Public", "Private"], id="open-any"),
        pytest.param("ccopen", ["Private"], ["Private"], id="open-private"),
        pytest.param("ccclosed", [], ["Private"], id="closed-any"),
        pytest.param("ccclosed", ["Public"], [], id="closed-public"),
        pytest.param("ccnone", [], [], id="no-such-cluster"),
    ],
)
def test_only_a_cluster_with_a_public_address_has_a_public_kubeconfig(
    vke: RunningEmulator, cluster: str, types: list[str], expected: list[str]
) -> None:
    wanted: dict[str, Any] = {"ClusterIds": [cluster], "Types": types}
    found = vke.call("ListKubeconfigs", service="vke", Filter=wanted)
    assert [item["Type"] for item in found["Items"]] == expected


def test_a_kubeconfig_is_read_anew_and_absent_while_its_file_is(
    vke: RunningEmulator, clusters: list[Cluster]
) -> None:
    path = clusters[0].kubeconfig_path

    def contents() -> list[bytes]:
        wanted = {"ClusterIds": ["ccclosed"]}
        found = vke.call("ListKubeconfigs", service="vke", Filter=wanted)
        return [base64.b64decode(item["Kubeconfig"]) for item in found["Items"]]

    path.write_text("rotated")
    assert contents() == [b"rotated"]
    path.unlink()
    assert contents() == []


def test_a_public_address_is_found_by_get_with_query_parameters(vke: RunningEmulator) -> None:
    listed = vke.call("ListClusters", service="vke", Filter={"Ids": ["ccopen"]})["Items"][0]
    address = listed["ClusterConfig"]["ApiServerEndpoints"]["PublicIp"]["Ipv4"]

    def found(address: str) -> Any:
        asked = {"EipAddresses.1": address}
        return vke.call("DescribeEipAddresses", service="vpc", method="GET", **asked)

    (eip,) = found(address)["EipAddresses"]
    assert (eip["EipAddress"], eip["ISP"]) == (address, "BGP")
    assert isinstance(eip["AllocationId"], str)
    assert isinstance(eip["BillingType"], int)
    assert eip["Bandwidth"] > 0
    assert found("203.0.113.255")["EipAddresses"] == []


@pytest.mark.parametrize("cluster", ["ccopen", "ccclosed"])
def test_a_cluster_has_every_field_the_provider_takes_for_granted(
    vke: RunningEmulator, cluster: str
) -> None:
    item = vke.call("ListClusters", service="vke", Filter={"Ids": [cluster]})["Items"][0]
    config = item["ClusterConfig"]
    assert isinstance(config["ApiServerPublicAccessEnabled"], bool)
    assert isinstance(config["ApiServerEndpoints"]["PublicIp"]["Ipv4"], str)
    assert isinstance(config["ApiServerEndpoints"]["PrivateIp"]["Ipv4"], str)
    network = config["ApiServerPublicAccessConfig"]["PublicAccessNetworkConfig"]
    assert isinstance(network["BillingType"], int)
    assert isinstance(item["PodsConfig"]["FlannelConfig"], dict)
    assert isinstance(item["PodsConfig"]["VpcCniConfig"], dict)
    assert isinstance(item["IrsaConfig"]["Enabled"], bool)
    assert item["Status"]["Phase"] == "Running"


def test_clusters_are_their_regions(start_emulator: Start, clusters: list[Cluster]) -> None:
    elsewhere = clusters[1].model_copy(update={"region": "cn-shanghai"})
    api = start_emulator(clusters=[clusters[0], elsewhere])

    def ids(region: str) -> list[str]:
        found = api.call("ListClusters", service="vke", region=region)
        return [item["Id"] for item in found["Items"]]

    assert (ids("cn-beijing"), ids("cn-shanghai")) == (["ccopen"], ["ccclosed"])


def test_vpc_access_without_a_subnet_takes_one_of_the_cluster(vke: RunningEmulator) -> None:
    vke.make_registry("mirror", Type="Enterprise")
    vke.call("UpdateVpcEndpoint", Registry="mirror", Vpcs=[{"VpcId": "vpc-closed"}])
    found = vke.call("GetVpcEndpoint", Registry="mirror")["Vpcs"]
    assert [vpc["SubnetId"] for vpc in found] == ["subnet-closed-a"]
