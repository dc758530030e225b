"""The stack: config → settings → components → outputs."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import pulumi

from components.cluster import Cluster
from components.cluster_proxy import ClusterProxy
from components.proxy_registry import ProxyRegistry
from components.types import Edition
from components.vpc_access import VpcAccess
from settings import Settings, arguments, load, warnings
from settings.interrupts import quiet


def main() -> None:
    """Declare the stack.

    The order is a promise: registry → namespaces and VPC access → what each cluster gets, the
    policy last. Nothing is redirected to a proxy that does not serve, and the policy is the first
    to be taken away.
    """
    settings = load()
    for note in warnings(settings):
        pulumi.log.warn(note)
    registry = ProxyRegistry("dockerhub", arguments.proxy_registry(settings))
    clusters = {
        each.name: Cluster(each.name, arguments.cluster(each)) for each in settings.clusters
    }
    access = (
        VpcAccess("dockerhub", arguments.vpc_access(settings, registry, list(clusters.values())))
        if settings.registry.edition is Edition.ENTERPRISE
        else None  # the whole region reaches a Micro registry (page)
    )
    serving = pulumi.ResourceOptions(depends_on=[registry, *([access] if access else [])])
    proxies = {
        each.name: ClusterProxy(
            each.name,
            arguments.cluster_proxy(settings, each, clusters[each.name], registry),
            serving,
        )
        for each in settings.clusters
    }
    export(settings, registry, access, proxies)


def export(
    settings: Settings,
    registry: ProxyRegistry,
    access: VpcAccess | None,
    proxies: Mapping[str, ClusterProxy],
) -> None:
    """The stack's outputs: the same for every stack, empty where it has nothing of the kind."""
    names = [each.name for each in settings.registry.namespaces]
    example = "library/nginx:latest" if "library" in names else f"{names[0]}/<image>:<tag>"
    mirrors = {name: each.node_mirror for name, each in proxies.items() if each.node_mirror}
    pulumi.export("domain", registry.domain)
    pulumi.export("image", pulumi.Output.concat(registry.domain, "/", example))
    pulumi.export("namespaces", registry.served)
    pulumi.export("vpcs", access.vpc_ids if access else [])
    pulumi.export(
        "policies",
        {name: each.redirect.policy_name for name, each in proxies.items() if each.redirect},
    )
    pulumi.export(
        "vciMirrors",
        {name: each.vci_mirror.policy_name for name, each in proxies.items() if each.vci_mirror},
    )
    pulumi.export("nodeMirrors", {name: each.daemon_set for name, each in mirrors.items()})
    pulumi.export(
        "registryProxyConfigs",
        {name: each.registry_proxy_configs for name, each in mirrors.items()},
    )
    pulumi.export(
        "nodePoolScripts",
        pulumi.Output.secret({name: each.node_pool_script for name, each in mirrors.items()}),
    )
    pulumi.export("username", registry.username)


sys.excepthook = quiet
main()
