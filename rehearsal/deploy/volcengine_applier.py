"""Volcengine resources: the requests the provider plugin makes, signed by the official SDK.

What is there already is left, and changed as far as its API lets it be changed.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any

import volcenginesdkcore
from volcenginesdkcore import UniversalApi, UniversalInfo

from rehearsal import wait
from rehearsal.deploy.resources import Applied

_VERSION = "2022-05-12"
_REGISTRY = "volcengine:cr/registry:Registry"
_NAMESPACE = "volcengine:cr/namespace:Namespace"
_VPC_ENDPOINT = "volcengine:cr/vpcEndpoint:VpcEndpoint"
_ADDON = "volcengine:vke/addon:Addon"


class VolcengineApplier:
    """Calls the API that the plugin's environment variables name."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        configuration = volcenginesdkcore.Configuration()
        configuration.ak = environment["VOLCENGINE_ACCESS_KEY"]
        configuration.sk = environment["VOLCENGINE_SECRET_KEY"]
        configuration.region = environment["VOLCENGINE_REGION"]
        configuration.host = environment["VOLCENGINE_ENDPOINT"]
        configuration.scheme = "http"
        self._api = UniversalApi(volcenginesdkcore.ApiClient(configuration))

    def _call(self, service: str, action: str, **body: Any) -> dict[str, Any]:
        info = UniversalInfo(
            method="POST",
            service=service,
            version=_VERSION,
            action=action,
            content_type="application/json",
        )
        sent = {name: value for name, value in body.items() if value is not None}
        answer: dict[str, Any] = self._api.do_call(info, sent) or {}
        return answer

    def apply(self, kind: str, inputs: Mapping[str, Any]) -> Applied:
        """Apply one resource and wait until it is ready.

        Raises:
            volcenginesdkcore.rest.ApiException: when the API refuses.
            RuntimeError: when it fails.
            NotInTimeError: when it is not ready after a minute.
        """
        apply = {
            _REGISTRY: self._registry,
            _NAMESPACE: self._namespace,
            _VPC_ENDPOINT: self._vpc_endpoint,
            _ADDON: self._addon,
        }[kind]
        return apply(inputs)

    def delete(self, kind: str, identity: str) -> None:
        """Delete a resource by its id and wait until it is gone.

        Raises:
            volcenginesdkcore.rest.ApiException: when the API refuses.
            NotInTimeError: when it is still there after a minute.
        """
        outer, _, name = identity.rpartition(":")
        if kind == _REGISTRY:
            self._call("cr", "DeleteRegistry", Name=name, DeleteImmediately=True)
            wait.until(lambda: self._find_registry(name) is None, f"registry {name!r} is gone")
        elif kind == _NAMESPACE:
            self._call("cr", "DeleteNamespace", Registry=outer, Name=name)
        elif kind == _VPC_ENDPOINT:
            self._call("cr", "UpdateVpcEndpoint", Registry=name, Vpcs=[])
            wait.until(lambda: not self._vpcs(name), f"registry {name!r} lets no VPC in")
        elif kind == _ADDON:
            self._call("vke", "DeleteAddon", ClusterId=outer, Name=name)
            wait.until(lambda: self._find_addon(outer, name) is None, f"add-on {name!r} is gone")

    def _registry(self, inputs: Mapping[str, Any]) -> Applied:
        name, cache = inputs["name"], inputs["proxyCache"]
        fields = ("Type", "Endpoint", "Username", "Password")
        sent = {field: cache.get(field.lower()) for field in fields}
        if self._find_registry(name) is None:
            self._call(
                "cr",
                "CreateRegistry",
                Name=name,
                Type=inputs["type"],
                Project=inputs["project"],
                ResourceTags=[
                    {"Key": tag["key"], "Value": tag["value"]}
                    for tag in inputs.get("resourceTags") or []
                ],
                ProxyCacheEnabled=True,
                ProxyCache={key: value for key, value in sent.items() if value is not None},
            )
        wait.until(
            lambda: _phase(self._find_registry(name)) == "Running", f"registry {name!r} runs"
        )
        if inputs.get("password"):
            sealed = base64.b64encode(inputs["password"].encode()).decode()
            self._call("cr", "SetUser", Registry=name, Password=sealed)
            wait.until(
                lambda: self._call("cr", "GetUser", Registry=name)["Status"] == "Active",
                f"the user of registry {name!r} is active",
            )
        user = self._call("cr", "GetUser", Registry=name)
        domains = self._call("cr", "ListDomains", Registry=name)["Items"]
        return Applied(
            id=name,
            outputs={
                "username": user["Username"],
                "domains": [{"domain": each["Domain"], "type": each["Type"]} for each in domains],
            },
        )

    def _find_registry(self, name: str) -> dict[str, Any] | None:
        answer = self._call(
            "cr", "ListRegistries", Filter={"Names": [name]}, PageNumber=1, PageSize=100
        )
        return next((each for each in answer["Items"] if each["Name"] == name), None)

    def _namespace(self, inputs: Mapping[str, Any]) -> Applied:
        registry, name = inputs["registry"], inputs["name"]
        access = inputs["repositoryDefaultAccessLevel"]
        found = self._call("cr", "ListNamespaces", Registry=registry, Filter={"Names": [name]})
        before = {each["Name"]: each["RepositoryDefaultAccessLevel"] for each in found["Items"]}
        if before.get(name) not in {None, access}:  # it can only be replaced
            self._call("cr", "DeleteNamespace", Registry=registry, Name=name)
        if before.get(name) != access:
            self._call(
                "cr",
                "CreateNamespace",
                Registry=registry,
                Name=name,
                Project=inputs["project"],
                RepositoryDefaultAccessLevel=access,
            )
        return Applied(id=f"{registry}:{name}")

    def _vpc_endpoint(self, inputs: Mapping[str, Any]) -> Applied:
        registry = inputs["registry"]
        vpcs = {each["VpcId"]: each["SubnetId"] for each in self._vpcs(registry)}
        vpcs |= {each["vpcId"]: each["subnetId"] for each in inputs["vpcs"]}
        wanted = [{"VpcId": vpc, "SubnetId": subnet} for vpc, subnet in vpcs.items()]
        self._call("cr", "UpdateVpcEndpoint", Registry=registry, Vpcs=wanted)
        wait.until(lambda: self._vpcs_enabled(registry), f"registry {registry!r} lets its VPCs in")
        return Applied(id=f"crVpcEndpoint:{registry}")

    def _vpcs(self, registry: str) -> list[dict[str, Any]]:
        return self._call("cr", "GetVpcEndpoint", Registry=registry)["Vpcs"] or []

    def _vpcs_enabled(self, registry: str) -> bool:
        return all(each["Status"] == "Enabled" for each in self._vpcs(registry))

    def _addon(self, inputs: Mapping[str, Any]) -> Applied:
        cluster, name = inputs["clusterId"], inputs["name"]
        if self._find_addon(cluster, name) is None:
            self._call(
                "vke",
                "CreateAddon",
                ClusterId=cluster,
                Name=name,
                Version=inputs.get("version"),
                Config=inputs.get("config"),
                DeployMode=inputs.get("deployMode"),
                DeployNodeType=inputs.get("deployNodeType"),
            )
        what = f"add-on {name!r} of cluster {cluster!r} runs"
        wait.until(lambda: _phase(self._find_addon(cluster, name)) == "Running", what)
        found = self._find_addon(cluster, name) or {}
        return Applied(id=f"{cluster}:{name}", outputs={"version": found["Version"]})

    def _find_addon(self, cluster: str, name: str) -> dict[str, Any] | None:
        wanted = {"ClusterIds": [cluster], "Names": [name]}
        return next(iter(self._call("vke", "ListAddons", Filter=wanted)["Items"]), None)

    def look_up(self, function: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one of the provider's functions, as far as the program reads the answer."""
        if function == "volcengine:vke/getClusters:getClusters":
            answer = self._call("vke", "ListClusters", Filter={"Ids": args["ids"]})
            return {"clusters": [_cluster(each) for each in answer["Items"]]}
        if function == "volcengine:vke/getKubeconfigs:getKubeconfigs":
            wanted = {"ClusterIds": args["clusterIds"], "Types": args["types"]}
            answer = self._call("vke", "ListKubeconfigs", Filter=wanted)
            return {"kubeconfigs": [_kubeconfig(each) for each in answer["Items"]]}
        raise LookupError(f"nothing here answers {function!r}")


def _phase(found: Mapping[str, Any] | None) -> str:
    """The phase of a registry or add-on. Raises RuntimeError when it has failed."""
    if found is None:
        return ""
    phase: str = found["Status"]["Phase"]
    if phase == "Failed":
        raise RuntimeError(f"{found['Name']!r} is in phase Failed")
    return phase


def _cluster(item: Mapping[str, Any]) -> dict[str, Any]:
    network = item["ClusterConfig"]
    return {
        "id": item["Id"],
        "name": item["Name"],
        "kubernetesVersion": item["KubernetesVersion"],
        "clusterConfig": {"vpcId": network["VpcId"], "subnetIds": network["SubnetIds"]},
    }


def _kubeconfig(item: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": item["Id"],
        "clusterId": item["ClusterId"],
        "type": item["Type"],
        "createTime": item["CreateTime"],
        "kubeconfig": item["Kubeconfig"],
    }
