"""The add-on actions of VKE (Version 2022-05-12), for the one add-on the rehearsal knows.

Fields, deploy modes and phases are those of the official SDK's models. The config's shape and the
refusal of an empty one (InvalidParameter.Config) are what public Terraform code for this add-on
reports; the codes of the other refusals are not documented, the nearest form is used. Nothing runs
in the cluster: the add-on has phases, and changes no service account.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rehearsal.cloud.api.config import EmulatorConfig
from rehearsal.cloud.api.errors import ApiError
from rehearsal.cloud.api.idempotency import ClientTokens
from rehearsal.cloud.api.parameters import Parameters
from rehearsal.cloud.api.state import timestamp

ADDON = "cr-credential-controller"
DEFAULT_VERSION = "v1.3.5"
DEPLOY_MODES = ("Managed", "Unmanaged")
DEPLOY_NODE_TYPES = ("Node", "VirtualNode", "EdgeNode")
_CONDITIONS = {"Running": "Ok", "Creating": "Progressing", "Updating": "Progressing"}

Result = dict[str, Any]


@dataclass(kw_only=True)
class _Addon:
    """An add-on of a cluster; what it is becoming shows until `ready_at` (monotonic seconds)."""

    cluster_id: str
    version: str
    config: str
    deploy_mode: str
    deploy_node_type: str
    ready_at: float
    change: str = "Creating"
    created: str = field(default_factory=timestamp)
    updated: str = field(default_factory=timestamp)

    @property
    def phase(self) -> str:
        """Creating, Updating or Deleting, then Running; a deleted one is gone then."""
        return self.change if time.monotonic() < self.ready_at else "Running"

    @property
    def gone(self) -> bool:
        """Whether its deletion is over."""
        return self.change == "Deleting" and time.monotonic() >= self.ready_at

    def describe(self) -> Result:
        """The add-on as ListAddons shows it."""
        return {
            "ClusterId": self.cluster_id,
            "Name": ADDON,
            "Version": self.version,
            "Config": self.config,
            "DeployMode": self.deploy_mode,
            "DeployNodeType": self.deploy_node_type,
            "CreateTime": self.created,
            "UpdateTime": self.updated,
            "CreateClientToken": "",
            "UpdateClientToken": "",
            "Status": {
                "Phase": self.phase,
                "Conditions": [{"Type": _CONDITIONS.get(self.phase, "Progressing")}],
            },
        }


class AddonApi:
    """The add-ons of the clusters in the config file, in memory."""

    def __init__(self, config: EmulatorConfig) -> None:
        self._config = config
        self._tokens = ClientTokens()
        self._addons: dict[str, _Addon] = {}

    def list_addons(self, region: str, values: Mapping[str, Any]) -> Result:
        """ListAddons, with the filters ClusterIds and Names."""
        parameters = Parameters(values)
        wanted = parameters.group("Filter")
        clusters, names = wanted.texts("ClusterIds"), wanted.texts("Names")
        found = [
            addon.describe()
            for cluster in self._cluster_ids(region)
            if (addon := self._find(cluster)) is not None
            and (not clusters or cluster in clusters)
            and (not names or ADDON in names)
        ]
        return parameters.page(found)

    def create_addon(self, region: str, values: Mapping[str, Any]) -> Result:
        """CreateAddon."""
        answer = self._tokens.answer("CreateAddon", values)
        if answer is not None:
            return answer
        parameters = Parameters(values)
        cluster = self._named(region, parameters)
        addon = _Addon(
            cluster_id=cluster,
            version=_version(parameters.text("Version", DEFAULT_VERSION)),
            config=_config(parameters),
            deploy_mode=_one_of(DEPLOY_MODES, parameters.text("DeployMode", "Unmanaged"), "Mode"),
            deploy_node_type=_one_of(
                DEPLOY_NODE_TYPES, parameters.text("DeployNodeType", "Node"), "NodeType"
            ),
            ready_at=self._ready_at(),
        )
        if self._find(cluster) is not None:
            raise ApiError.exists("Addon", ADDON)
        self._addons[cluster] = addon
        self._tokens.remember("CreateAddon", values, {})
        return {}

    def update_addon_config(self, region: str, values: Mapping[str, Any]) -> Result:
        """UpdateAddonConfig: the new config replaces the old one."""
        parameters = Parameters(values)
        addon = self._running(region, parameters)
        addon.config = _config(parameters)
        self._change(addon, "Updating")
        return {}

    def update_addon_version(self, region: str, values: Mapping[str, Any]) -> Result:
        """UpdateAddonVersion."""
        parameters = Parameters(values)
        addon = self._running(region, parameters)
        addon.version = _version(parameters.text("Version"))
        self._change(addon, "Updating")
        return {}

    def delete_addon(self, region: str, values: Mapping[str, Any]) -> Result:
        """DeleteAddon."""
        self._change(self._running(region, Parameters(values)), "Deleting")
        return {}

    def _cluster_ids(self, region: str) -> list[str]:
        return [
            each.id
            for each in self._config.clusters
            if (each.region or self._config.region) == region
        ]

    def _named(self, region: str, parameters: Parameters) -> str:
        """The cluster a call is about; its add-on's name has to be the one known."""
        cluster, name = parameters.text("ClusterId"), parameters.text("Name")
        if cluster not in self._cluster_ids(region):
            raise ApiError.not_found("Cluster", cluster)
        if name != ADDON:
            raise ApiError.not_found("Addon", name)
        return cluster

    def _find(self, cluster: str) -> _Addon | None:
        addon = self._addons.get(cluster)
        return None if addon is None or addon.gone else addon

    def _running(self, region: str, parameters: Parameters) -> _Addon:
        addon = self._find(self._named(region, parameters))
        if addon is None:
            raise ApiError.not_found("Addon", ADDON)
        if addon.phase != "Running":
            raise ApiError(
                400,
                "OperationDenied.AddonStatus",
                f"The action has been denied due to wrong status {addon.phase}.",
            )
        return addon

    def _change(self, addon: _Addon, change: str) -> None:
        addon.change, addon.ready_at, addon.updated = change, self._ready_at(), timestamp()

    def _ready_at(self) -> float:
        return time.monotonic() + self._config.delays.addon_changing


def _config(parameters: Parameters) -> str:
    """The add-on's config, JSON that names at least one registry."""
    text = parameters.text("Config", "{}")
    try:
        config = json.loads(text)
        data = config["CrConfigmapData"]
        registries = data["Registries"]
        named = all(each["Instance"] and each["Region"] and each["Domains"] for each in registries)
        complete = bool(registries and named and data["Namespace"] and data["ServiceAccount"])
    except (ValueError, KeyError, TypeError):
        complete = False
    if not complete:
        raise ApiError.invalid(
            "Config", "It must be JSON with CrConfigmapData and at least one registry in it."
        )
    return text


def _version(text: str) -> str:
    if not re.fullmatch(r"v[0-9]+\.[0-9]+\.[0-9]+([-+].*)?", text):
        raise ApiError.invalid("Version", "It must be a version of the add-on.")
    return text


def _one_of(known: tuple[str, ...], value: str, name: str) -> str:
    if value not in known:
        raise ApiError.invalid(f"Deploy{name}", f"Known are {', '.join(known)}.")
    return value
