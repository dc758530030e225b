"""The stack: config → settings → components → outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi

from components.cluster import Cluster, ClusterArgs
from components.credential_addon import CredentialAddon, CredentialAddonArgs
from components.image_redirect import ImageRedirect, ImageRedirectArgs
from components.kyverno import Kyverno, KyvernoArgs
from components.node_mirror import NodeMirror, NodeMirrorArgs
from components.proxy_registry import ProxyRegistry, ProxyRegistryArgs
from components.pull_check import PullCheck, PullCheckArgs
from components.pull_credentials import SECRET, PullCredentials, PullCredentialsArgs
from components.types import Edition, PodLogin, Way
from components.vci_mirror import VciMirror, VciMirrorArgs
from components.vpc_access import VpcAccess, VpcAccessArgs, VpcArgs
from settings import ClusterSettings, Settings, load, secret, warnings


def main() -> None:
    """Declare the stack.

    The order is a promise: registry → namespaces and VPC access → pull check → Kyverno → logins →
    policy.
    Nothing is redirected to a proxy that does not serve, and the policy is the first to be taken
    away.
    """
    settings = load()
    for note in warnings(settings):
        pulumi.log.warn(note)
    registry = declare_registry(settings)
    clusters = {each.name: declare_cluster(each) for each in settings.clusters}
    access = declare_vpc_access(settings, registry, list(clusters.values()))
    serving: list[pulumi.Resource] = [registry, *([access] if access else [])]
    redirects, mirrors, vci = {}, {}, {}
    for each in settings.clusters:
        ready = list(serving)
        if settings.pull_check.enabled:
            ready.append(
                declare_pull_check(settings, clusters[each.name], each.name, registry, serving)
            )
        kyverno = declare_kyverno(settings, each, clusters[each.name], ready)
        addon = declare_credential_addon(settings, each, registry, ready)
        made = [*ready, *(part for part in (kyverno, addon) if part is not None)]
        if redirects_in(settings, each):
            redirects[each.name] = declare_redirect(
                settings, each, clusters[each.name], registry, made
            )
        if Way.VCI in each.ways:
            vci[each.name] = declare_vci_mirror(settings, each, clusters[each.name], registry, made)
        if Way.NODES in each.ways:
            mirrors[each.name] = declare_node_mirror(
                settings, each.name, clusters[each.name], registry, ready
            )
    export(settings, registry, access, redirects, mirrors, vci)


def declare_registry(settings: Settings) -> ProxyRegistry:
    """The proxy registry with its namespaces and login."""
    registry = settings.registry
    return ProxyRegistry(
        "dockerhub",
        ProxyRegistryArgs(
            registry_name=registry.name,
            edition=registry.edition,
            namespaces={each.name: each.access for each in registry.namespaces},
            project=registry.project,
            tags=registry.tags,
            dockerhub_username=settings.dockerhub.username,
            dockerhub_password=secret(settings.dockerhub.password),
            login_password=secret(settings.login.password),
            protection=registry.protection,
            replacement_allowed=registry.replacement_allowed(),
        ),
    )


def declare_cluster(cluster: ClusterSettings) -> Cluster:
    """One cluster and its Kubernetes provider."""
    return Cluster(
        cluster.name,
        ClusterArgs(
            cluster_id=cluster.cluster_id,
            endpoint=cluster.endpoint,
            kubeconfig=secret(cluster.kubeconfig) or "",
            vpc_id=cluster.vpc_id,
            subnet_id=cluster.subnet_id,
            kubernetes_version=cluster.kubernetes_version,
        ),
    )


def declare_vpc_access(
    settings: Settings, registry: ProxyRegistry, clusters: Sequence[Cluster]
) -> VpcAccess | None:
    """The VPCs let in; None for Micro, which the whole region reaches (page)."""
    if settings.registry.edition is Edition.MICRO:
        return None
    return VpcAccess(
        "dockerhub",
        VpcAccessArgs(
            registry_name=registry.registry_name,
            vpcs=[
                *(VpcArgs(vpc_id=each.vpc_id, subnet_id=each.subnet_id) for each in clusters),
                *(
                    VpcArgs(vpc_id=each.vpc_id, subnet_id=each.subnet_id)
                    for each in settings.registry.extra_vpcs
                ),
            ],
        ),
    )


def declare_pull_check(
    settings: Settings,
    target: Cluster,
    name: str,
    registry: ProxyRegistry,
    serving: Sequence[pulumi.Resource],
) -> PullCheck:
    """The proof that this cluster's nodes can pull through the proxy."""
    return PullCheck(
        f"{name}-pull-check",
        PullCheckArgs(
            domain=registry.domain,
            image=settings.pull_check.image,
            username=registry.username,
            password=secret(settings.login.password),
        ),
        pulumi.ResourceOptions(providers=[target.provider], depends_on=serving),
    )


def redirects_in(settings: Settings, cluster: ClusterSettings) -> bool:
    """Whether Pods of this cluster are redirected at admission."""
    return settings.redirect.enabled and Way.ADMISSION in cluster.ways


def declare_kyverno(
    settings: Settings,
    cluster: ClusterSettings,
    target: Cluster,
    serving: Sequence[pulumi.Resource],
) -> Kyverno | None:
    """Kyverno in one cluster; None where no policy is Kyverno's, or it is there already."""
    redirect, kyverno = settings.redirect, settings.kyverno
    needed = redirects_in(settings, cluster) and redirect.engine.needs_kyverno
    if not kyverno.install or not (needed or Way.VCI in cluster.ways):
        return None
    return Kyverno(
        f"{cluster.name}-kyverno",
        KyvernoArgs(
            chart=kyverno.chart,
            version=kyverno.version,
            repository=kyverno.chart_repository,
            namespace=kyverno.namespace,
            image_registry=kyverno.image_registry,
            replicas=kyverno.replicas,
            webhook_timeout_seconds=redirect.timeout_seconds,
            values=kyverno.values,
        ),
        pulumi.ResourceOptions(providers=[target.provider], depends_on=serving),
    )


def declare_credential_addon(
    settings: Settings,
    cluster: ClusterSettings,
    registry: ProxyRegistry,
    serving: Sequence[pulumi.Resource],
) -> CredentialAddon | None:
    """VKE's add-on that gives Pods logins; None unless it is asked for and a login is needed."""
    login, cluster_id = settings.login, cluster.cluster_id
    if login.pods is not PodLogin.ADDON or not settings.registry.private_namespaces:
        return None
    if cluster_id is None:
        raise ValueError(f"cluster {cluster.name!r} has no clusterId; the settings' rules need one")
    return CredentialAddon(
        f"{cluster.name}-credential-addon",
        CredentialAddonArgs(
            cluster_id=cluster_id,
            registry_name=registry.registry_name,
            region=settings.region,
            domain=registry.domain,
            namespaces=login.addon.namespaces,
            service_accounts=login.addon.service_accounts,
            version=login.addon.version,
        ),
        pulumi.ResourceOptions(depends_on=serving),
    )


def declare_vci_mirror(
    settings: Settings,
    cluster: ClusterSettings,
    target: Cluster,
    registry: ProxyRegistry,
    ready: Sequence[pulumi.Resource],
) -> VciMirror:
    """The annotation for Pods that run on VCI, in one cluster."""
    return VciMirror(
        f"{cluster.name}-vci-mirror",
        VciMirrorArgs(
            domain=registry.domain,
            namespaces=[each.name for each in settings.registry.namespaces],
            excluded_namespaces=[
                settings.kyverno.namespace,
                *settings.redirect.exclude.namespaces,
            ],
            timeout_seconds=settings.redirect.timeout_seconds,
            kyverno_version=settings.kyverno.app_version,
            kubernetes_version=cluster.kubernetes_version,
        ),
        pulumi.ResourceOptions(providers=[target.provider], depends_on=ready),
    )


def declare_redirect(
    settings: Settings,
    cluster: ClusterSettings,
    target: Cluster,
    registry: ProxyRegistry,
    serving: Sequence[pulumi.Resource],
) -> ImageRedirect:
    """The redirect policy in one cluster, after the login its Pods may need."""
    redirect, kyverno = settings.redirect, settings.kyverno
    ready = list(serving)
    credentials = declare_pull_credentials(settings, cluster.name, target, registry, serving)
    if credentials is not None:
        ready.append(credentials)
    return ImageRedirect(
        f"{cluster.name}-redirect",
        ImageRedirectArgs(
            engine=redirect.engine,
            domain=registry.domain,
            namespaces={each.name: each.access for each in settings.registry.namespaces},
            excluded_namespaces=[kyverno.namespace, *redirect.exclude.namespaces],
            excluded_pod_labels=redirect.exclude.pod_labels,
            failure_policy=redirect.failure_policy,
            timeout_seconds=redirect.timeout_seconds,
            lookup=redirect.lookup,
            pull_secret=SECRET if credentials else None,
            kyverno_version=kyverno.app_version,
            kubernetes_version=cluster.kubernetes_version,
        ),
        pulumi.ResourceOptions(providers=[target.provider], depends_on=ready),
    )


def declare_node_mirror(
    settings: Settings,
    name: str,
    target: Cluster,
    registry: ProxyRegistry,
    ready: Sequence[pulumi.Resource],
) -> NodeMirror:
    """The containerd mirror on every node of one cluster."""
    mirror = settings.node_mirror
    login = settings.login.password if settings.registry.private_namespaces else None
    return NodeMirror(
        f"{name}-node-mirror",
        NodeMirrorArgs(
            domain=registry.domain,
            image=mirror.image or pulumi.Output.concat(registry.domain, "/library/busybox:latest"),
            username=registry.username if login else None,
            password=secret(login),
            strict=mirror.strict,
            ca_certificate=mirror.ca_certificate,
            restart_command=mirror.restart_command,
            privileged=mirror.privileged,
        ),
        pulumi.ResourceOptions(providers=[target.provider], depends_on=ready),
    )


def declare_pull_credentials(
    settings: Settings,
    name: str,
    target: Cluster,
    registry: ProxyRegistry,
    ready: Sequence[pulumi.Resource],
) -> PullCredentials | None:
    """The login for redirected Pods; None where all is public, or VKE's add-on brings logins."""
    password = secret(settings.login.password)
    copied = settings.login.pods is PodLogin.SECRET
    if password is None or not copied or not settings.registry.private_namespaces:
        return None
    return PullCredentials(
        f"{name}-pull-credentials",
        PullCredentialsArgs(
            domain=registry.domain,
            username=registry.username,
            password=password,
            excluded_namespaces=[
                settings.kyverno.namespace,
                *settings.redirect.exclude.namespaces,
            ],
            kyverno_version=settings.kyverno.app_version,
        ),
        pulumi.ResourceOptions(providers=[target.provider], depends_on=ready),
    )


def export(
    settings: Settings,
    registry: ProxyRegistry,
    access: VpcAccess | None,
    redirects: Mapping[str, ImageRedirect],
    mirrors: Mapping[str, NodeMirror],
    vci: Mapping[str, VciMirror],
) -> None:
    """The stack's outputs."""
    names = [each.name for each in settings.registry.namespaces]
    example = "library/nginx:latest" if "library" in names else f"{names[0]}/<image>:<tag>"
    pulumi.export("domain", registry.domain)
    pulumi.export("image", pulumi.Output.concat(registry.domain, "/", example))
    pulumi.export("namespaces", registry.namespaces)
    pulumi.export("vpcs", access.vpc_ids if access else [])
    pulumi.export("policies", {name: each.policy_name for name, each in redirects.items()})
    if vci:
        pulumi.export("vciMirrors", {name: each.policy_name for name, each in vci.items()})
    pulumi.export("nodeMirrors", {name: each.daemon_set for name, each in mirrors.items()})
    if mirrors:
        scripts = {name: each.node_pool_script for name, each in mirrors.items()}
        pulumi.export("nodePoolScripts", pulumi.Output.secret(scripts))
    pulumi.export(
        "login",
        pulumi.Output.secret({"username": registry.username, "password": registry.password}),
    )


main()
