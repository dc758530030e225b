"""The stack: config → settings → components → outputs."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Mapping

import pulumi

from components.cluster import Cluster
from components.cluster_proxy import ClusterProxy
from components.proxy_registry import ProxyRegistry
from components.types import DOCKER_HUB, Edition
from components.vpc_access import VpcAccess
from settings import Settings, arguments, load, warnings
from settings.interrupts import quiet


def main() -> None:
    """Declare the stack.

    The order is a promise: registries → namespaces and VPC access → what each cluster gets, the
    policy last. Nothing is redirected to a proxy that does not serve, and the policy is the first
    to be taken away.
    """
    settings = load()
    for note in warnings(settings):
        pulumi.log.warn(note)
    registries = {
        each.host: ProxyRegistry(each.resource_name, arguments.proxy_registry(settings, each))
        for each in settings.proxies
    }
    clusters = {
        each.name: Cluster(each.name, arguments.cluster(each)) for each in settings.clusters
    }
    access = {
        each.host: VpcAccess(
            each.resource_name,
            arguments.vpc_access(each, registries[each.host], list(clusters.values())),
        )
        for each in settings.proxies
        if each.registry.edition is Edition.ENTERPRISE  # the region reaches a Micro one (page)
    }
    serving = pulumi.ResourceOptions(depends_on=[*registries.values(), *access.values()])
    proxies = {
        each.name: ClusterProxy(
            each.name,
            arguments.cluster_proxy(settings, each, clusters[each.name], registries),
            serving,
        )
        for each in settings.clusters
    }
    export(settings, registries, access, proxies)


def export(
    settings: Settings,
    registries: Mapping[str, ProxyRegistry],
    access: Mapping[str, VpcAccess],
    proxies: Mapping[str, ClusterProxy],
) -> None:
    """The stack's outputs: the same for every stack, empty where it has nothing of the kind."""
    hub = registries[DOCKER_HUB]
    images = {
        each.host: pulumi.Output.concat(registries[each.host].domain, "/", each.example)
        for each in settings.proxies
    }
    mirrors = {name: each.node_mirror for name, each in proxies.items() if each.node_mirror}
    pulumi.export("domain", hub.domain)
    pulumi.export("image", images[DOCKER_HUB])
    pulumi.export("namespaces", hub.served)
    pulumi.export("vpcs", access[DOCKER_HUB].vpc_ids if DOCKER_HUB in access else [])
    pulumi.export("username", hub.username)
    pulumi.export("domains", {host: each.domain for host, each in registries.items()})
    pulumi.export("images", images)
    pulumi.export("usernames", {host: each.username for host, each in registries.items()})
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


sys.excepthook = quiet
atexit.register(gc.freeze)  # the last collection of garbage took a fourth of a preview's CPU time
main()
