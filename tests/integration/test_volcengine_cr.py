"""The emulator's CR actions, called by the official SDK."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import volcenginesdkcr as sdk

from rehearsal import wait
from rehearsal.cloud.api.config import Delays
from tests.support.volcengine_stage import (
    MICRO_PROXY,
    NO_DELAYS,
    Refused,
    RunningEmulator,
    proxy_of,
)

pytest_plugins = ("tests.support.volcengine_fixtures",)

Start = Callable[..., RunningEmulator]
PASSWORD = base64.b64encode(b"Passw0rd").decode()
INVALID_NAME = Refused(status=400, code="InvalidParameter.Name")
INVALID_ENDPOINT = "InvalidParameter.ProxyCache.Endpoint"


def test_the_official_sdk_takes_a_registry_through_its_whole_life(api: RunningEmulator) -> None:
    cr = sdk.CRApi(api.client())
    cr.create_registry(
        sdk.CreateRegistryRequest(
            name="mirror",
            type="Enterprise",
            project="images",
            resource_tags=[sdk.ResourceTagForCreateRegistryInput(key="team", value="platform")],
        )
    )
    wait.until(lambda: api.phase("mirror") == "Running", "the registry runs")
    listed = cr.list_registries(
        sdk.ListRegistriesRequest(filter=sdk.FilterForListRegistriesInput(names=["mirror"]))
    ).items[0]
    assert (listed.name, listed.type, listed.project) == ("mirror", "Enterprise", "images")
    assert listed.status.conditions == ["Ok"]
    assert [(tag.key, tag.value) for tag in listed.resource_tags] == [("team", "platform")]

    assert cr.get_user(sdk.GetUserRequest(registry="mirror")).status == "Inactive"
    cr.set_user(sdk.SetUserRequest(registry="mirror", password=PASSWORD))
    wait.until(
        lambda: cr.get_user(sdk.GetUserRequest(registry="mirror")).status == "Active",
        "the user is active",
    )
    domains = cr.list_domains(sdk.ListDomainsRequest(registry="mirror")).items
    assert [domain.domain for domain in domains] == ["mirror-cn-beijing.cr.volces.com"]

    cr.create_namespace(sdk.CreateNamespaceRequest(registry="mirror", name="library"))
    names = cr.list_namespaces(sdk.ListNamespacesRequest(registry="mirror")).items
    assert [namespace.name for namespace in names] == ["library"]
    cr.delete_namespace(sdk.DeleteNamespaceRequest(registry="mirror", name="library"))
    assert cr.list_namespaces(sdk.ListNamespacesRequest(registry="mirror")).total_count == 0

    vpc = sdk.VpcForUpdateVpcEndpointInput(vpc_id="vpc-1", subnet_id="subnet-1")
    cr.update_vpc_endpoint(sdk.UpdateVpcEndpointRequest(registry="mirror", vpcs=[vpc]))
    wait.until(lambda: api.vpcs("mirror") == {"vpc-1": "Enabled"}, "the VPC is let in")
    access = cr.get_vpc_endpoint(sdk.GetVpcEndpointRequest(registry="mirror")).vpcs[0]
    assert (access.subnet_id, access.region) == ("subnet-1", "cn-beijing")

    cr.delete_registry(sdk.DeleteRegistryRequest(name="mirror", delete_immediately=True))
    wait.until(lambda: api.phase("mirror") is None, "the registry is gone")


def test_a_proxy_cache_is_described_without_its_password(api: RunningEmulator) -> None:
    api.make_registry("mirror", **MICRO_PROXY)
    listed = api.call("ListRegistries", Filter={"Names": ["mirror"]})
    assert listed["Items"][0]["ProxyCacheEnabled"] is True
    assert listed["Items"][0]["ProxyCache"] == {
        "Type": "DockerHub",
        "Endpoint": "https://registry-1.docker.io",
        "Username": "hub-user",
        "SkipSSLVerify": False,
    }
    everything = [listed, api.administer("GET", "registries"), api.administer("GET", "calls")]
    assert "hub-secret" not in json.dumps(everything)


def test_several_proxies_of_other_upstreams_take_any_namespace_without_credentials(
    api: RunningEmulator,
) -> None:
    for name, host in (("ghcr", "ghcr.io"), ("quay", "quay.io:443")):
        cache = proxy_of(host)
        api.make_registry(name, Type="Enterprise", ProxyCacheEnabled=True, ProxyCache=cache)
        api.call("CreateNamespace", Registry=name, Name="kyverno")


@pytest.mark.parametrize("name", ["abc", "a" * 30, "a-b", "a1-2", "a--b"])
def test_a_registry_name_of_the_grammar_is_taken(api: RunningEmulator, name: str) -> None:
    api.call("CreateRegistry", Name=name, Type="Micro")
    assert api.phase(name) is not None


@pytest.mark.parametrize(
    "name", ["ab", "a" * 31, "1abc", "-abc", "abc-", "Abc", "a_b", "a.b", "a b", "镜像仓库"]
)
def test_a_registry_name_outside_the_grammar_is_refused(api: RunningEmulator, name: str) -> None:
    assert api.refusal("CreateRegistry", Name=name) == INVALID_NAME


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"Name": None}, "MissingParameter.Name"),
        ({"Name": 7}, "InvalidParameter.Name"),
        ({"Type": "Basic"}, "InvalidParameter.Type"),
        ({"ProxyCache": None}, "MissingParameter.ProxyCache"),
        ({"ProxyCacheEnabled": "true"}, "InvalidParameter.ProxyCacheEnabled"),
        ({"ProxyCache": {}}, "MissingParameter.ProxyCache.Type"),
        ({"ProxyCache": {"Type": "Dockerhub"}}, "InvalidParameter.ProxyCache.Type"),
        ({"ProxyCache": {"Type": "DockerRegistry"}}, "MissingParameter.ProxyCache.Endpoint"),
        *(
            ({"ProxyCache": {"Type": "DockerRegistry", "Endpoint": endpoint}}, INVALID_ENDPOINT)
            for endpoint in ("ghcr.io", "http://ghcr.io", "https://ghcr.io/", "https://ghcr.io/v2")
        ),
        ({"ProxyCache": {"Type": "DockerHub", "Username": "u"}}, "InvalidParameter.ProxyCache"),
        ({"ProxyCache": {"Type": "DockerHub", "Password": "p"}}, "InvalidParameter.ProxyCache"),
        ({"ResourceTags": [{"Key": "k"}, {"Key": "k"}]}, "InvalidParameter.ResourceTags"),
    ],
    ids=str,
)
def test_a_registry_that_breaks_a_rule_is_refused(
    api: RunningEmulator, settings: dict[str, Any], code: str
) -> None:
    asked = {"Name": "abc", **MICRO_PROXY, **settings}
    sent = {key: value for key, value in asked.items() if value is not None}
    assert api.refusal("CreateRegistry", **sent) == Refused(status=400, code=code)
    assert api.call("ListRegistries")["TotalCount"] == 0


def test_a_registry_name_is_unique_in_its_region_only(api: RunningEmulator) -> None:
    api.call("CreateRegistry", Name="mirror", Type="Micro")
    assert api.refusal("CreateRegistry", Name="mirror") == Refused(
        status=409, code="AlreadyExists.Registry"
    )
    api.call("CreateRegistry", Name="mirror", region="cn-shanghai")
    assert api.phase("mirror", region="cn-shanghai") is not None


def test_the_quota_counts_enterprise_registries_of_a_region(api: RunningEmulator) -> None:
    exceeded = Refused(status=400, code="QuotaExceeded.Registry")
    api.make_registry("first", Type="Micro")
    for name in ("aaa", "bbb", "ccc"):
        api.make_registry(name, Type="Enterprise")
    assert api.refusal("CreateRegistry", Name="ddd") == exceeded
    api.call("CreateRegistry", Name="second", Type="Micro")
    api.call("CreateRegistry", Name="ddd", region="cn-shanghai")
    assert api.refusal("CreateRegistry", Name="eee", region="cn-shanghai") == exceeded

    api.call("DeleteRegistry", Name="bbb", DeleteImmediately=True)
    wait.until(lambda: api.phase("bbb") is None, "the registry is gone")
    api.call("CreateRegistry", Name="ddd")


def test_a_registry_is_creating_before_it_runs(start_emulator: Start) -> None:
    api = start_emulator(delays=NO_DELAYS.model_copy(update={"registry_creating": 0.5}))
    asked = time.monotonic()
    api.call("CreateRegistry", Name="mirror", **MICRO_PROXY)
    listed = api.call("ListRegistries", Filter={"Names": ["mirror"]})["Items"][0]
    assert listed["Status"] == {"Phase": "Creating", "Conditions": ["Progressing"]}
    for action in ("GetUser", "ListDomains"):
        assert api.refusal(action, Registry="mirror").code == "OperationDenied.RegistryStatus"
    refused = api.refusal("DeleteRegistry", Name="mirror", DeleteImmediately=True)
    assert refused.code == "OperationDenied.Status"
    wait.until(lambda: api.phase("mirror") == "Running", "the registry runs")
    assert time.monotonic() - asked >= 0.5


def test_a_registry_is_deleting_before_it_is_gone(start_emulator: Start) -> None:
    api = start_emulator(delays=NO_DELAYS.model_copy(update={"registry_deleting": 0.3}))
    api.make_registry("mirror", Type="Micro")
    api.call("DeleteRegistry", Name="mirror", DeleteImmediately=True)
    assert api.phase("mirror") == "Deleting"
    wait.until(lambda: api.phase("mirror") is None, "the registry is gone")


def test_a_user_is_inactive_while_its_password_is_being_set(start_emulator: Start) -> None:
    api = start_emulator(delays=NO_DELAYS.model_copy(update={"user_setting": 0.3}))
    api.make_registry("mirror", Type="Micro", password="Passw0rd")
    api.call("SetUser", Registry="mirror", Password=PASSWORD)
    assert api.call("GetUser", Registry="mirror")["Status"] == "Inactive"
    wait.until(
        lambda: api.call("GetUser", Registry="mirror")["Status"] == "Active", "the user is active"
    )


@pytest.mark.parametrize(
    "password",
    ["Passw0r", "Passw0rd" * 3, "passw0rd", "PASSW0RD", "Password", "Passw0rd ", "Pässw0rd1", ...],
    ids=["short", "long", "no-upper", "no-lower", "no-digit", "space", "not-ascii", "not-base64"],
)
def test_a_weak_password_is_refused(api: RunningEmulator, password: Any) -> None:
    api.make_registry("mirror", Type="Micro")
    sent = "Passw0rd!" if password is ... else base64.b64encode(password.encode()).decode()
    assert api.refusal("SetUser", Registry="mirror", Password=sent) == Refused(
        status=400, code="InvalidParameter.Password"
    )
    assert api.call("GetUser", Registry="mirror")["Status"] == "Inactive"


@pytest.mark.parametrize("name", ["ab", "a" * 90, "a.b", "a_b", "a-b", "1a", "a.b_c-d"])
def test_a_namespace_name_of_the_grammar_is_taken(api: RunningEmulator, name: str) -> None:
    api.make_registry("mirror", **MICRO_PROXY)
    api.call("CreateNamespace", Registry="mirror", Name=name)
    (found,) = api.call("ListNamespaces", Registry="mirror", Filter={"Names": [name]})["Items"]
    assert (found["Name"], found["RepositoryDefaultAccessLevel"]) == (name, "Private")


@pytest.mark.parametrize("name", ["a", "a" * 91, ".ab", "ab-", "a..b", "a._b", "A1", "a/b", "a b"])
def test_a_namespace_name_outside_the_grammar_is_refused(api: RunningEmulator, name: str) -> None:
    api.make_registry("mirror", **MICRO_PROXY)
    assert api.refusal("CreateNamespace", Registry="mirror", Name=name) == INVALID_NAME


@pytest.mark.parametrize(
    ("action", "body", "status", "code"),
    [
        ("CreateNamespace", {"Registry": "none", "Name": "library"}, 404, "NotFound.Registry"),
        (
            "CreateNamespace",
            {"Registry": "mirror", "Name": "library"},
            409,
            "AlreadyExists.Namespace",
        ),
        (
            "CreateNamespace",
            {"Registry": "mirror", "Name": "ab", "RepositoryDefaultAccessLevel": "public"},
            400,
            "InvalidParameter.RepositoryDefaultAccessLevel",
        ),
        ("DeleteNamespace", {"Registry": "mirror", "Name": "none"}, 404, "NotFound.Namespace"),
        ("GetUser", {}, 400, "MissingParameter.Registry"),
        ("GetUser", {"Registry": "none"}, 404, "NotFound.Registry"),
        ("ListDomains", {"Registry": "none"}, 404, "NotFound.Registry"),
        ("DeleteRegistry", {"Name": "none", "DeleteImmediately": True}, 404, "NotFound.Registry"),
        ("DeleteRegistry", {"Name": "mirror"}, 400, "InvalidParameter.DeleteImmediately"),
        (
            "UpdateVpcEndpoint",
            {"Registry": "mirror", "Vpcs": [{"VpcId": "vpc-1"}]},
            400,
            "OperationDenied.RegistryType",
        ),
        (
            "UpdateVpcEndpoint",
            {"Registry": "standard", "Vpcs": [{"VpcId": "vpc-1"}, {"VpcId": "vpc-1"}]},
            400,
            "InvalidParameter.Vpcs",
        ),
        (
            "UpdateVpcEndpoint",
            {"Registry": "standard", "Vpcs": [{"SubnetId": "subnet-1"}]},
            400,
            "MissingParameter.Vpcs.VpcId",
        ),
        ("ListRegistries", {"PageSize": 101}, 400, "InvalidParameter.PageSize"),
        ("ListRegistries", {"PageNumber": 0}, 400, "InvalidParameter.PageNumber"),
        ("ListRegistries", {"Filter": {"Names": ["a"] * 21}}, 400, "InvalidParameter.Filter.Names"),
        ("RenameRegistry", {}, 404, "InvalidActionOrVersion"),
    ],
    ids=str,
)
def test_a_call_that_breaks_a_rule_is_refused_in_the_apis_words(
    api: RunningEmulator, action: str, body: dict[str, Any], status: int, code: str
) -> None:
    api.make_registry("mirror", **MICRO_PROXY)
    api.make_registry("standard", Type="Enterprise")
    api.call("CreateNamespace", Registry="mirror", Name="library")
    assert api.refusal(action, **body) == Refused(status=status, code=code)


def test_an_anonymous_docker_hub_proxy_allows_only_library(api: RunningEmulator) -> None:
    api.make_registry("mirror", **{**MICRO_PROXY, "ProxyCache": {"Type": "DockerHub"}})
    assert api.refusal("CreateNamespace", Registry="mirror", Name="bitnami") == INVALID_NAME
    api.call("CreateNamespace", Registry="mirror", Name="library")


def test_a_region_that_does_not_exist_is_refused(api: RunningEmulator) -> None:
    assert api.refusal("ListRegistries", region="cn-nowhere").code == "InvalidRegion"


def test_lists_come_in_pages_and_names_match_whole(api: RunningEmulator) -> None:
    for name in ("mirror-a", "mirror-b", "mirror-c", "other"):
        api.call("CreateRegistry", Name=name, Type="Micro")
    second = api.call("ListRegistries", PageSize=3, PageNumber=2)
    assert ([item["Name"] for item in second["Items"]], second["TotalCount"]) == (["other"], 4)
    assert api.call("ListRegistries", Filter={"Names": ["mirror"]})["Items"] == []


def test_vpc_access_is_enabling_before_it_is_enabled(start_emulator: Start) -> None:
    api = start_emulator(delays=NO_DELAYS.model_copy(update={"vpc_enabling": 0.5}))
    api.make_registry("mirror", Type="Enterprise")
    asked = time.monotonic()
    api.call("UpdateVpcEndpoint", Registry="mirror", Vpcs=[{"VpcId": "vpc-1"}])
    assert api.vpcs("mirror") == {"vpc-1": "Enabling"}
    wait.until(lambda: api.vpcs("mirror") == {"vpc-1": "Enabled"}, "the VPC is let in")
    assert time.monotonic() - asked >= 0.5


def test_an_update_of_vpc_access_overwrites_and_an_empty_one_takes_all_away(
    api: RunningEmulator,
) -> None:
    api.make_registry("mirror", Type="Enterprise")
    api.call("UpdateVpcEndpoint", Registry="mirror", Vpcs=[{"VpcId": "vpc-1"}, {"VpcId": "vpc-2"}])
    wait.until(
        lambda: api.vpcs("mirror") == {"vpc-1": "Enabled", "vpc-2": "Enabled"},
        "both VPCs are let in",
    )
    api.call("UpdateVpcEndpoint", Registry="mirror", Vpcs=[{"VpcId": "vpc-2"}, {"VpcId": "vpc-3"}])
    wait.until(
        lambda: api.vpcs("mirror") == {"vpc-2": "Enabled", "vpc-3": "Enabled"},
        "the first VPC is out and the third in",
    )
    api.call("UpdateVpcEndpoint", Registry="mirror", Vpcs=[])
    wait.until(lambda: api.vpcs("mirror") == {}, "no VPC is let in")


def test_a_vpc_that_stays_is_not_enabled_anew(start_emulator: Start) -> None:
    api = start_emulator(delays=Delays(vpc_enabling=0.3, vpc_disabling=0.3, registry_creating=0))
    api.make_registry("mirror", Type="Enterprise")
    api.call("UpdateVpcEndpoint", Registry="mirror", Vpcs=[{"VpcId": "vpc-1"}])
    wait.until(lambda: api.vpcs("mirror") == {"vpc-1": "Enabled"}, "the VPC is let in")
    api.call("UpdateVpcEndpoint", Registry="mirror", Vpcs=[{"VpcId": "vpc-1"}, {"VpcId": "vpc-2"}])
    assert api.vpcs("mirror") == {"vpc-1": "Enabled", "vpc-2": "Enabling"}


def test_a_vpc_let_in_again_while_it_is_disabling_stays_in(start_emulator: Start) -> None:
    api = start_emulator(delays=NO_DELAYS.model_copy(update={"vpc_disabling": 0.4}))
    api.make_registry("mirror", Type="Enterprise")
    api.call("UpdateVpcEndpoint", Registry="mirror", Vpcs=[{"VpcId": "vpc-1"}])
    wait.until(lambda: api.vpcs("mirror") == {"vpc-1": "Enabled"}, "the VPC is let in")
    api.call("UpdateVpcEndpoint", Registry="mirror", Vpcs=[])
    assert api.vpcs("mirror") == {"vpc-1": "Disabling"}
    api.call("UpdateVpcEndpoint", Registry="mirror", Vpcs=[{"VpcId": "vpc-1"}])
    wait.until(lambda: api.vpcs("mirror") == {"vpc-1": "Enabled"}, "the VPC is let in")
    time.sleep(0.5)
    assert api.vpcs("mirror") == {"vpc-1": "Enabled"}


def test_vpc_access_has_every_field_the_provider_reads(api: RunningEmulator) -> None:
    api.make_registry("mirror", Type="Enterprise")
    api.call("UpdateVpcEndpoint", Registry="mirror", Vpcs=[{"VpcId": "vpc-1"}])
    endpoint = api.call("GetVpcEndpoint", Registry="mirror")
    assert endpoint["Registry"] == "mirror"
    vpc = endpoint["Vpcs"][0]
    assert isinstance(vpc["SubnetId"], str)
    assert vpc["SubnetId"]
    assert isinstance(vpc["AccountId"], int)
    assert vpc["VpcId"] == "vpc-1"


def test_a_call_fault_meets_the_calls_it_is_for_and_no_more(api: RunningEmulator) -> None:
    fault = {"action": "ListRegistries", "times": 2, "status": 503, "code": "ServiceUnavailable"}
    api.administer("POST", "faults", fault)
    api.call("CreateRegistry", Name="mirror", Type="Micro")
    for _ in range(2):
        assert api.refusal("ListRegistries") == Refused(status=503, code="ServiceUnavailable")
    assert api.call("ListRegistries")["TotalCount"] == 1


def test_forgotten_faults_do_not_happen(api: RunningEmulator) -> None:
    api.administer("POST", "faults", {"action": "CreateRegistry"})
    api.administer("DELETE", "faults")
    api.make_registry("mirror", Type="Micro")


def test_the_calls_so_far_are_listed_with_subject_and_outcome(api: RunningEmulator) -> None:
    api.make_registry("mirror", Type="Micro")
    api.refusal("CreateNamespace", Registry="mirror", Name="A")
    calls = api.administer("GET", "calls")
    assert calls[0] == {
        "Service": "cr",
        "Action": "CreateRegistry",
        "Subject": "mirror",
        "Status": 200,
        "Code": "",
    }
    assert calls[-1]["Subject"] == "mirror/A"
    assert (calls[-1]["Status"], calls[-1]["Code"]) == (400, "InvalidParameter.Name")
