"""Volcengine resources: the requests the provider plugin makes, signed by the official SDK."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Mapping
from typing import Any

import volcenginesdkcore
from volcenginesdkcore import UniversalApi, UniversalInfo

from rehearsal import wait
from rehearsal.deploy.made import Made

_VERSION = "2022-05-12"


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

    def _call(self, service: str, action: str, body: Mapping[str, Any]) -> dict[str, Any]:
        info = UniversalInfo(
            method="POST",
            service=service,
            version=_VERSION,
            action=action,
            content_type="application/json",
        )
        answer: dict[str, Any] = self._api.do_call(info, dict(body)) or {}
        return answer

    def apply(self, kind: str, inputs: Mapping[str, Any]) -> Made:
        """Make one resource and wait until it is ready.

        Raises:
            volcenginesdkcore.rest.ApiException: when the API refuses.
            NotInTimeError: when it is not ready after a minute.
        """
        make = {
            "volcengine:cr/registry:Registry": self._registry,
            "volcengine:cr/namespace:Namespace": self._namespace,
            "volcengine:cr/vpcEndpoint:VpcEndpoint": self._vpc_endpoint,
            "volcengine:vke/addon:Addon": self._addon,
        }[kind]
        return make(inputs)

    def _registry(self, inputs: Mapping[str, Any]) -> Made:
        name, cache = inputs["name"], inputs["proxyCache"]
        given = {
            "Type": cache["type"],
            "Username": cache.get("username"),
            "Password": cache.get("password"),
        }
        self._call(
            "cr",
            "CreateRegistry",
            {
                "ClientToken": str(uuid.uuid4()),
                "Name": name,
                "Type": inputs["type"],
                "Project": inputs["project"],
                "ResourceTags": [
                    {"Key": tag["key"], "Value": tag["value"]}
                    for tag in inputs.get("resourceTags") or []
                ],
                "ProxyCacheEnabled": True,
                "ProxyCache": {key: value for key, value in given.items() if value is not None},
            },
        )
        wait.until(lambda: self._phase(name) == "Running", f"registry {name!r} runs")
        if inputs.get("password"):
            sealed = base64.b64encode(inputs["password"].encode()).decode()
            self._call("cr", "SetUser", {"Registry": name, "Password": sealed})
            wait.until(
                lambda: self._call("cr", "GetUser", {"Registry": name})["Status"] == "Active",
                f"the user of registry {name!r} is active",
            )
        user = self._call("cr", "GetUser", {"Registry": name})
        domains = self._call("cr", "ListDomains", {"Registry": name})["Items"]
        return Made(
            id=name,
            outputs={
                "username": user["Username"],
                "domains": [{"domain": each["Domain"], "type": each["Type"]} for each in domains],
            },
        )

    def _phase(self, name: str) -> str:
        found = self._call(
            "cr", "ListRegistries", {"Filter": {"Names": [name]}, "PageNumber": 1, "PageSize": 100}
        )
        phase: str = found["Items"][0]["Status"]["Phase"]
        if phase == "Failed":
            raise RuntimeError(f"registry {name!r} is in phase Failed")
        return phase

    def _namespace(self, inputs: Mapping[str, Any]) -> Made:
        self._call(
            "cr",
            "CreateNamespace",
            {
                "ClientToken": str(uuid.uuid4()),
                "Registry": inputs["registry"],
                "Name": inputs["name"],
                "Project": inputs["project"],
                "RepositoryDefaultAccessLevel": inputs["repositoryDefaultAccessLevel"],
            },
        )
        return Made(id=f"{inputs['registry']}:{inputs['name']}")

    def _vpc_endpoint(self, inputs: Mapping[str, Any]) -> Made:
        registry = inputs["registry"]
        linked = self._call("cr", "GetVpcEndpoint", {"Registry": registry})["Vpcs"] or []
        vpcs = {each["VpcId"]: each["SubnetId"] for each in linked}
        vpcs |= {each["vpcId"]: each["subnetId"] for each in inputs["vpcs"]}
        wanted = [{"VpcId": vpc, "SubnetId": subnet} for vpc, subnet in vpcs.items()]
        self._call("cr", "UpdateVpcEndpoint", {"Registry": registry, "Vpcs": wanted})
        wait.until(lambda: self._vpcs_enabled(registry), f"registry {registry!r} lets its VPCs in")
        return Made(id=f"crVpcEndpoint:{registry}")

    def _vpcs_enabled(self, registry: str) -> bool:
        linked = self._call("cr", "GetVpcEndpoint", {"Registry": registry})["Vpcs"]
        failed = [each["VpcId"] for each in linked if each["Status"] == "Failed"]
        if failed:
            raise RuntimeError(f"VPCs {failed} are in status Failed")
        return all(each["Status"] == "Enabled" for each in linked)

    def _addon(self, inputs: Mapping[str, Any]) -> Made:
        cluster, name = inputs["clusterId"], inputs["name"]
        given = {
            "ClusterId": cluster,
            "Name": name,
            "Version": inputs.get("version"),
            "Config": inputs.get("config"),
            "DeployMode": inputs.get("deployMode"),
            "DeployNodeType": inputs.get("deployNodeType"),
        }
        sent = {key: value for key, value in given.items() if value is not None}
        self._call("vke", "CreateAddon", sent)
        wait.until(
            lambda: self._addon_as_it_is(cluster, name)["Status"]["Phase"] == "Running",
            f"add-on {name!r} of cluster {cluster!r} runs",
        )
        found = self._addon_as_it_is(cluster, name)
        return Made(id=f"{cluster}:{name}", outputs={"version": found["Version"]})

    def _addon_as_it_is(self, cluster: str, name: str) -> dict[str, Any]:
        wanted = {"ClusterIds": [cluster], "Names": [name]}
        found: dict[str, Any] = self._call("vke", "ListAddons", {"Filter": wanted})["Items"][0]
        if found["Status"]["Phase"] == "Failed":
            raise RuntimeError(f"add-on {name!r} of cluster {cluster!r} is in phase Failed")
        return found

    def look_up(self, function: str, args: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one of the provider's functions, as far as the program reads the answer."""
        if function == "volcengine:vke/getClusters:getClusters":
            answer = self._call("vke", "ListClusters", {"Filter": {"Ids": args["ids"]}})
            return {"clusters": [_cluster(each) for each in answer["Items"]]}
        if function == "volcengine:vke/getKubeconfigs:getKubeconfigs":
            wanted = {"ClusterIds": args["clusterIds"], "Types": args["types"]}
            answer = self._call("vke", "ListKubeconfigs", {"Filter": wanted})
            return {"kubeconfigs": [_kubeconfig(each) for each in answer["Items"]]}
        raise LookupError(f"nothing here answers {function!r}")


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
