"""CredentialAddon: VKE's own add-on that gives Pods logins for registries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_volcengine as volcengine

from components import PACKAGE
from components.inputs import inputs

ADDON = "cr-credential-controller"
"""The add-on's name; a cluster has it once."""


@dataclass(frozen=True, kw_only=True)
class AddonRegistry:
    """A registry the add-on makes logins for."""

    name: pulumi.Input[str]
    """The registry's name."""
    domain: pulumi.Input[str]
    """The registry's domain."""


@dataclass(frozen=True, kw_only=True)
class CredentialAddonArgs:
    """The registries the add-on makes logins for, and who in the cluster gets them."""

    cluster_id: str
    """The VKE cluster's id."""
    registries: Sequence[AddonRegistry]
    """The registries, all in one region."""
    region: str
    """The region they are in."""
    namespaces: str
    """The Kubernetes namespaces the add-on works in, as it takes them; `*` is all."""
    service_accounts: str
    """The service accounts it changes there, as it takes them; `*` is all."""
    version: str | None = None
    """The add-on's version, updated in place; None takes what VKE installs by default."""


class CredentialAddon(pulumi.ComponentResource):
    """The add-on cr-credential-controller in one VKE cluster (docs 6420/185959).

    It makes temporary logins, keeps them in Secrets and names these in service accounts, whose Pods
    get them at creation. A Pod that names pull secrets of its own gets none: Kubernetes only fills
    in a service account's where the Pod has none.

    The provider takes an add-on over that is there already and gives it this config; it
    changes config and version in place, and does not see what others change in the config.
    """

    addon_name: pulumi.Output[str]
    """The add-on's name, known once it is Running."""

    def __init__(
        self, name: str, args: CredentialAddonArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:CredentialAddon", name, inputs(args), opts)
        served = [
            {"Instance": each.name, "Region": args.region, "Domains": [each.domain]}
            for each in args.registries
        ]
        addon = volcengine.vke.Addon(
            f"{name}-addon",
            cluster_id=args.cluster_id,
            name=ADDON,
            version=args.version,
            deploy_mode="Unmanaged",
            deploy_node_type="Node",
            config=pulumi.Output.json_dumps(
                {
                    "CrConfigmapData": {
                        "Namespace": args.namespaces,
                        "ServiceAccount": args.service_accounts,
                        "Registries": served,
                    }
                }
            ),
            # One name in a cluster: created before the old one is deleted, it would be the old one.
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )
        self.addon_name = addon.name
        self.register_outputs({"addon_name": self.addon_name})
