"""The add-on actions of VKE (Version 2022-05-12), for the one add-on the rehearsal knows.

Fields, deploy modes and phases are those of the official SDK's models. The config's shape and the
refusal of an empty one (InvalidParameter.Config) are what public Terraform code for this add-on
reports; the codes of the other refusals are not documented, the nearest form is used. Nothing runs
in the cluster: the add-on has phases, and changes no service account.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from rehearsal.cloud.api.config import EmulatorConfig
from rehearsal.cloud.api.cr import Action
from rehearsal.cloud.api.errors import ApiError
from rehearsal.cloud.api.parameters import Page, Parameters
from rehearsal.cloud.api.state import Change

ADDON = "cr-credential-controller"
Result = dict[str, Any]
_Text = Annotated[str, Field(min_length=1)]


class _Served(Parameters):
    instance: _Text
    region: _Text
    domains: Annotated[list[_Text], Field(min_length=1)]


class _ConfigmapData(Parameters):
    namespace: _Text
    service_account: _Text
    registries: Annotated[list[_Served], Field(min_length=1)]


class _Config(Parameters):
    cr_configmap_data: _ConfigmapData


def _names_a_registry(text: str) -> str:
    try:
        _Config.model_validate_json(text)
    except ValidationError:
        raise ValueError("it must be JSON that names a registry in CrConfigmapData") from None
    return text


Config = Annotated[str, AfterValidator(_names_a_registry)]
"""The add-on's config, JSON that names at least one registry."""
Version = Annotated[str, Field(pattern=r"^v[0-9]+\.[0-9]+\.[0-9]+([-+].*)?$")]


class _Wanted(Parameters):
    cluster_ids: Sequence[str] = ()
    names: Sequence[str] = ()


class _ListAddons(Page):
    filter: _Wanted = _Wanted()


class _OfAddon(Parameters):
    cluster_id: str
    name: str


class _CreateAddon(_OfAddon):
    config: Annotated[Config, Field(validate_default=True)] = ""
    version: Version = "v1.3.5"
    deploy_mode: Literal["Managed", "Unmanaged"] = "Unmanaged"
    deploy_node_type: Literal["Node", "VirtualNode", "EdgeNode"] = "Node"


class _UpdateAddonConfig(_OfAddon):
    config: Config


class _UpdateAddonVersion(_OfAddon):
    version: Version


@dataclass
class _Addon:
    spec: _CreateAddon
    change: Change

    def describe(self) -> Result:
        """The add-on as ListAddons shows it."""
        phase = self.change.state
        condition = "Ok" if phase == "Running" else "Progressing"
        status = {"Phase": phase, "Conditions": [{"Type": condition}]}
        return {**self.spec.model_dump(by_alias=True), "Status": status}


class AddonApi:
    """The add-ons of the clusters in the config file, in memory."""

    def __init__(self, config: EmulatorConfig) -> None:
        self._config = config
        self._addons: dict[str, _Addon] = {}

    @property
    def actions(self) -> Mapping[str, Action]:
        """The actions by name."""
        return {
            "ListAddons": (_ListAddons, self._list_addons),
            "CreateAddon": (_CreateAddon, self._create_addon),
            "UpdateAddonConfig": (_UpdateAddonConfig, self._update_addon),
            "UpdateAddonVersion": (_UpdateAddonVersion, self._update_addon),
            "DeleteAddon": (_OfAddon, self._delete_addon),
        }

    def _list_addons(self, region: str, asked: _ListAddons) -> Result:
        clusters, names = asked.filter.cluster_ids, asked.filter.names
        return asked.of(
            [
                addon.describe()
                for cluster in self._config.clusters_in(region)
                if (not clusters or cluster.id in clusters) and (not names or ADDON in names)
                if (addon := self._find(cluster.id)) is not None
            ]
        )

    def _create_addon(self, region: str, asked: _CreateAddon) -> Result:
        self._check(region, asked)
        if self._find(asked.cluster_id) is not None:
            raise ApiError.exists("Addon", ADDON)
        self._addons[asked.cluster_id] = _Addon(asked, self._becomes_running("Creating"))
        return {}

    def _update_addon(self, region: str, asked: _UpdateAddonConfig | _UpdateAddonVersion) -> Result:
        """Put the new config, or version, in place of the old one."""
        addon = self._running(region, asked)
        addon.spec = addon.spec.model_copy(update=dict(asked))
        addon.change = self._becomes_running("Updating")
        return {}

    def _delete_addon(self, region: str, asked: _OfAddon) -> Result:
        addon = self._running(region, asked)
        addon.change = Change("Deleting", "", self._config.delays.addon_changing)
        return {}

    def _check(self, region: str, asked: _OfAddon) -> None:
        """Refuse other clusters than those of the region, and other add-ons."""
        if asked.cluster_id not in [each.id for each in self._config.clusters_in(region)]:
            raise ApiError.not_found("Cluster", asked.cluster_id)
        if asked.name != ADDON:
            raise ApiError.not_found("Addon", asked.name)

    def _find(self, cluster: str) -> _Addon | None:
        addon = self._addons.get(cluster)
        return addon if addon and addon.change.state else None

    def _running(self, region: str, asked: _OfAddon) -> _Addon:
        self._check(region, asked)
        addon = self._find(asked.cluster_id)
        if addon is None:
            raise ApiError.not_found("Addon", ADDON)
        if addon.change.state != "Running":
            raise ApiError.wrong_status("AddonStatus", addon.change.state)
        return addon

    def _becomes_running(self, meanwhile: str) -> Change:
        return Change(meanwhile, "Running", self._config.delays.addon_changing)
