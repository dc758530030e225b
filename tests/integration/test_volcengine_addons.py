"""The emulator's add-on actions of VKE, by the official SDK and as the provider calls them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import volcenginesdkvke as sdk

from rehearsal import wait
from rehearsal.cloud.api.config import Cluster, Delays
from rehearsal.deploy.volcengine_applier import VolcengineApplier
from tests.support.volcengine_stage import (
    NO_DELAYS,
    Refused,
    RunningEmulator,
)

pytest_plugins = ("tests.support.volcengine_fixtures",)

Start = Callable[..., RunningEmulator]
NAME = "cr-credential-controller"
SLOW = NO_DELAYS.model_copy(update={"addon_changing": 0.4})


def config_for(registry: str) -> str:
    served = {"Instance": registry, "Region": "cn-beijing", "Domains": [f"{registry}.example.com"]}
    data = {"Namespace": "*", "ServiceAccount": "*", "Registries": [served]}
    return json.dumps({"CrConfigmapData": data})


CONFIG = config_for("hub")


@pytest.fixture
def vke(start_emulator: Start, clusters: list[Cluster]) -> RunningEmulator:
    return start_emulator(clusters=clusters)


def found(vke: RunningEmulator, cluster: str = "ccopen") -> list[dict[str, Any]]:
    """The add-ons of a cluster, asked for as the provider does."""
    wanted = {"ClusterIds": [cluster], "Names": [NAME]}
    items: list[dict[str, Any]] = vke.call(
        "ListAddons", service="vke", Filter=wanted, PageNumber=1, PageSize=20
    )["Items"]
    return items


def create(vke: RunningEmulator, **more: Any) -> None:
    body = {"ClusterId": "ccopen", "Name": NAME, "Config": CONFIG, **more}
    vke.call("CreateAddon", service="vke", **body)


def phase(vke: RunningEmulator) -> str | None:
    items = found(vke)
    return items[0]["Status"]["Phase"] if items else None


def test_the_official_sdk_installs_changes_and_removes_an_addon(vke: RunningEmulator) -> None:
    api = sdk.VKEApi(vke.client())
    api.create_addon(
        sdk.CreateAddonRequest(
            cluster_id="ccopen",
            name=NAME,
            config=CONFIG,
            deploy_mode="Unmanaged",
            deploy_node_type="Node",
        )
    )
    wanted = sdk.ListAddonsRequest(
        filter=sdk.FilterForListAddonsInput(cluster_ids=["ccopen"], names=[NAME])
    )
    (addon,) = api.list_addons(wanted).items
    assert (addon.name, addon.cluster_id, addon.config) == (NAME, "ccopen", CONFIG)
    assert (addon.deploy_mode, addon.deploy_node_type) == ("Unmanaged", "Node")
    assert (addon.status.phase, addon.status.conditions[0].type) == ("Running", "Ok")
    api.update_addon_config(
        sdk.UpdateAddonConfigRequest(cluster_id="ccopen", name=NAME, config=config_for("other"))
    )
    api.update_addon_version(
        sdk.UpdateAddonVersionRequest(cluster_id="ccopen", name=NAME, version="v1.4.0")
    )
    (changed,) = api.list_addons(wanted).items
    assert (changed.config, changed.version) == (config_for("other"), "v1.4.0")
    api.delete_addon(
        sdk.DeleteAddonRequest(
            cluster_id="ccopen",
            name=NAME,
            retain_resources=[],
            cascading_delete_resources=["Crd"],
        )
    )
    assert api.list_addons(wanted).items == []


def test_an_addon_is_its_clusters(vke: RunningEmulator) -> None:
    create(vke)
    assert len(found(vke)) == 1
    assert found(vke, "ccclosed") == []


def test_an_addon_without_version_and_mode_has_the_defaults(vke: RunningEmulator) -> None:
    create(vke)
    (addon,) = found(vke)
    assert addon["Version"].startswith("v1.")
    assert (addon["DeployMode"], addon["DeployNodeType"]) == ("Unmanaged", "Node")


def test_changes_take_their_time_and_refuse_others_meanwhile(
    start_emulator: Start, clusters: list[Cluster]
) -> None:
    vke = start_emulator(clusters=clusters, delays=SLOW)
    create(vke)
    assert phase(vke) == "Creating"
    update = {"ClusterId": "ccopen", "Name": NAME, "Config": config_for("other")}
    refusal = vke.refusal("UpdateAddonConfig", service="vke", **update)
    assert refusal == Refused(status=400, code="OperationDenied.AddonStatus")
    wait.until(lambda: phase(vke) == "Running", "the add-on runs")
    vke.call("UpdateAddonConfig", service="vke", **update)
    assert phase(vke) == "Updating"
    wait.until(lambda: phase(vke) == "Running", "the add-on runs")
    vke.call("DeleteAddon", service="vke", ClusterId="ccopen", Name=NAME)
    assert phase(vke) == "Deleting"
    wait.until(lambda: phase(vke) is None, "the add-on is gone")
    create(vke)
    assert phase(vke) == "Creating"


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"ClusterId": "ccnone"}, 404, "NotFound.Cluster"),
        ({"Name": "ingress"}, 404, "NotFound.Addon"),
        ({"Name": None}, 400, "MissingParameter.Name"),
        ({"Config": None}, 400, "InvalidParameter.Config"),
        ({"Config": ""}, 400, "InvalidParameter.Config"),
        ({"Config": "{}"}, 400, "InvalidParameter.Config"),
        ({"Config": "[1"}, 400, "InvalidParameter.Config"),
        ({"Config": CONFIG.replace('"hub.example.com"', "")}, 400, "InvalidParameter.Config"),
        ({"DeployMode": "Any"}, 400, "InvalidParameter.DeployMode"),
        ({"DeployNodeType": "Pod"}, 400, "InvalidParameter.DeployNodeType"),
        ({"Version": "latest"}, 400, "InvalidParameter.Version"),
    ],
    ids=str,
)
def test_what_cannot_be_installed_is_refused(
    vke: RunningEmulator, change: dict[str, Any], status: int, code: str
) -> None:
    body = {"ClusterId": "ccopen", "Name": NAME, "Config": CONFIG, **change}
    sent = {key: value for key, value in body.items() if value is not None}
    refusal = vke.refusal("CreateAddon", service="vke", **sent)
    assert refusal == Refused(status=status, code=code)
    assert found(vke) == []


def test_an_addon_that_is_there_is_not_installed_again(vke: RunningEmulator) -> None:
    create(vke)
    refusal = vke.refusal(
        "CreateAddon", service="vke", ClusterId="ccopen", Name=NAME, Config=CONFIG
    )
    assert refusal == Refused(status=409, code="AlreadyExists.Addon")


@pytest.mark.parametrize("action", ["UpdateAddonConfig", "UpdateAddonVersion", "DeleteAddon"])
def test_an_addon_that_is_not_there_cannot_be_changed(vke: RunningEmulator, action: str) -> None:
    refusal = vke.refusal(
        action, service="vke", ClusterId="ccopen", Name=NAME, Config=CONFIG, Version="v1.0.0"
    )
    assert refusal == Refused(status=404, code="NotFound.Addon")


def test_the_list_of_calls_names_the_cluster_and_the_addon(vke: RunningEmulator) -> None:
    create(vke)
    (call,) = (each for each in vke.administer("GET", "calls") if each["Action"] == "CreateAddon")
    assert (call["Subject"], call["Status"]) == (f"ccopen/{NAME}", 200)


@pytest.mark.parametrize("delays", [NO_DELAYS, SLOW], ids=["at-once", "later"])
def test_the_embedded_applier_installs_an_addon_and_waits_for_it(
    start_emulator: Start, clusters: list[Cluster], delays: Delays
) -> None:
    vke = start_emulator(clusters=clusters, delays=delays)
    applier = VolcengineApplier(vke.environment)
    inputs = {
        "clusterId": "ccopen",
        "name": NAME,
        "config": CONFIG,
        "deployMode": "Unmanaged",
        "deployNodeType": "Node",
    }
    addon = applier.apply("volcengine:vke/addon:Addon", inputs)
    assert addon.id == f"ccopen:{NAME}"
    (there,) = found(vke)
    assert (there["Status"]["Phase"], there["Version"]) == ("Running", addon.outputs["version"])
