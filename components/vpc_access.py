"""VpcAccess: the VPCs that may reach an Enterprise proxy registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
import pulumi_volcengine as volcengine

from components import PACKAGE
from components.inputs import inputs


@dataclass(frozen=True, kw_only=True)
class VpcArgs:
    """One VPC, and the subnet from which the registry takes an address in it."""

    vpc_id: pulumi.Input[str | None]
    """The VPC's id, `vpc-…`; None is passed over."""
    subnet_id: pulumi.Input[str | None]
    """The subnet's id, `subnet-…`; None lets the API choose the one with the most addresses."""


@dataclass(frozen=True, kw_only=True)
class VpcAccessArgs:
    """Who is let in where."""

    registry_name: pulumi.Input[str]
    """The Enterprise registry's name."""
    vpcs: Sequence[VpcArgs]
    """The VPCs of all clusters and others to let in; one named twice is let in once."""


class VpcAccess(pulumi.ComponentResource):
    """Lets VPCs in to an Enterprise registry (page: access control > VPC).

    One registry has one list of VPCs: the API's UpdateVpcEndpoint overwrites it, so two stacks
    that manage the same registry would undo each other. A Micro registry has no such list.
    """

    vpc_ids: pulumi.Output[list[str]]
    """The VPCs let in, sorted, known once all of them are Enabled."""

    def __init__(
        self, name: str, args: VpcAccessArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:VpcAccess", name, inputs(args), opts)
        endpoint = volcengine.cr.VpcEndpoint(
            f"{name}-endpoint",
            registry=args.registry_name,
            vpcs=pulumi.Output.all(
                *(pulumi.Output.all(vpc.vpc_id, vpc.subnet_id) for vpc in args.vpcs)
            ).apply(distinct),
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )
        self.vpc_ids = endpoint.vpcs.apply(
            lambda vpcs: sorted(str(vpc.vpc_id) for vpc in vpcs or [])
        )
        self.register_outputs({"vpc_ids": self.vpc_ids})


def distinct(
    vpcs: Sequence[tuple[str | None, str | None]],
) -> list[volcengine.cr.VpcEndpointVpcArgs]:
    """Each VPC once, by id, with the first subnet named for it."""
    subnets: dict[str, str | None] = {}
    for vpc_id, subnet_id in vpcs:
        if vpc_id is not None:
            subnets.setdefault(vpc_id, subnet_id)
    return [
        volcengine.cr.VpcEndpointVpcArgs(vpc_id=vpc_id, subnet_id=subnet_id)
        for vpc_id, subnet_id in sorted(subnets.items())
    ]
