"""What the settings mean: the args of every component. Nothing is declared here."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi

from components.cluster import Cluster, ClusterArgs
from components.cluster_proxy import ClusterProxyArgs
from components.credential_addon import CredentialAddonArgs
from components.image_redirect import ImageRedirectArgs
from components.kyverno import KyvernoArgs
from components.node_mirror import NodeMirrorArgs, ProxyLogin
from components.policy import OLDEST_KUBERNETES_THAT_WARNS, minor
from components.proxy_registry import ProxyRegistry, ProxyRegistryArgs
from components.pull_check import PullCheckArgs
from components.pull_credentials import SECRET, PullCredentialsArgs
from components.types import DOCKER_HUB, PodLogin, Proxy, Way
from components.unserved_images import UnservedImagesArgs
from components.vci_mirror import VciMirrorArgs
from components.vpc_access import VpcAccessArgs, VpcArgs
from settings.model import Cluster as ClusterSettings
from settings.model import Settings
from settings.reader import secret


def proxy_registry(settings: Settings) -> ProxyRegistryArgs:
    """The proxy registry with its namespaces and login."""
    registry = settings.registry
    return ProxyRegistryArgs(
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
    )


def cluster(each: ClusterSettings) -> ClusterArgs:
    """One cluster and how it is reached."""
    return ClusterArgs(
        cluster_id=each.cluster_id,
        endpoint=each.endpoint,
        kubeconfig=secret(each.kubeconfig),
        vpc_id=each.vpc_id,
        subnet_id=each.subnet_id,
        kubernetes_version=each.kubernetes_version,
    )


def vpc_access(
    settings: Settings, registry: ProxyRegistry, clusters: Sequence[Cluster]
) -> VpcAccessArgs:
    """The VPCs of the clusters, and those named beside them."""
    extra = settings.registry.extra_vpcs
    return VpcAccessArgs(
        registry_name=registry.registry_name,
        vpcs=[
            *(VpcArgs(vpc_id=each.vpc_id, subnet_id=each.subnet_id) for each in clusters),
            *(VpcArgs(vpc_id=each.vpc_id, subnet_id=each.subnet_id) for each in extra),
        ],
    )


def cluster_proxy(
    settings: Settings, each: ClusterSettings, target: Cluster, registry: ProxyRegistry
) -> ClusterProxyArgs:
    """The parts that this cluster gets."""
    redirected = settings.redirect.enabled and Way.ADMISSION in each.ways
    annotated = Way.VCI in each.ways
    needs_kyverno = annotated or (redirected and settings.redirect.engine.needs_kyverno)
    needs_login = bool(settings.registry.private_namespaces)
    copied = needs_login and settings.login.pods is PodLogin.SECRET
    credentials = _pull_credentials(settings, registry) if copied and redirected else None
    return ClusterProxyArgs(
        cluster=target,
        pull_check=_pull_check(settings, registry) if settings.pull_check.enabled else None,
        kyverno=_kyverno(settings) if settings.kyverno.install and needs_kyverno else None,
        credential_addon=_credential_addon(settings, each, registry)
        if needs_login and settings.login.pods is PodLogin.ADDON
        else None,
        pull_credentials=credentials,
        redirect=_redirect(settings, each, registry, with_login=credentials is not None)
        if redirected
        else None,
        vci_mirror=_vci_mirror(settings, registry) if annotated else None,
        node_mirror=_node_mirror(settings, registry) if Way.NODES in each.ways else None,
        unserved_images=_unserved_images(settings, registry)
        if warns(settings, each) and (redirected or {*each.ways} - {Way.ADMISSION})
        else None,
    )


def warns(settings: Settings, each: ClusterSettings) -> bool:
    """Whether this cluster warns of images no proxy serves: where it can, unless it is set."""
    wanted, known = settings.redirect.warn_unserved, each.kubernetes_version
    if wanted is not None:
        return wanted
    return known is not None and minor(known) >= OLDEST_KUBERNETES_THAT_WARNS


def _pull_check(settings: Settings, registry: ProxyRegistry) -> PullCheckArgs:
    return PullCheckArgs(
        domain=registry.domain,
        image=settings.pull_check.image,
        username=registry.username,
        password=secret(settings.login.password),
    )


def _kyverno(settings: Settings) -> KyvernoArgs:
    kyverno = settings.kyverno
    return KyvernoArgs(
        chart=kyverno.chart,
        version=kyverno.version,
        repository=kyverno.chart_repository,
        namespace=kyverno.namespace,
        image_registry=kyverno.image_registry,
        replicas=kyverno.replicas,
        webhook_timeout_seconds=settings.redirect.timeout_seconds,
        values=kyverno.values,
    )


def _credential_addon(
    settings: Settings, each: ClusterSettings, registry: ProxyRegistry
) -> CredentialAddonArgs:
    if each.cluster_id is None:
        raise ValueError(f"cluster {each.name!r} has no clusterId; the settings' rules need one")
    addon = settings.login.addon
    return CredentialAddonArgs(
        cluster_id=each.cluster_id,
        registry_name=registry.registry_name,
        region=settings.region,
        domain=registry.domain,
        namespaces=addon.namespaces,
        service_accounts=addon.service_accounts,
        version=addon.version,
    )


def _excluded_namespaces(settings: Settings) -> list[str]:
    return [settings.kyverno.namespace, *settings.redirect.exclude.namespaces]


def _pull_credentials(settings: Settings, registry: ProxyRegistry) -> PullCredentialsArgs | None:
    password = secret(settings.login.password)
    if password is None:
        return None
    return PullCredentialsArgs(
        domain=registry.domain,
        username=registry.username,
        password=password,
        excluded_namespaces=_excluded_namespaces(settings),
        engine=settings.redirect.engine,
    )


def _proxy(settings: Settings, registry: ProxyRegistry) -> Proxy:
    return Proxy(
        host=DOCKER_HUB,
        domain=registry.domain,
        namespaces={each.name: each.access for each in settings.registry.namespaces},
    )


def _redirect(
    settings: Settings, each: ClusterSettings, registry: ProxyRegistry, *, with_login: bool
) -> ImageRedirectArgs:
    redirect = settings.redirect
    return ImageRedirectArgs(
        engine=redirect.engine,
        proxies=[_proxy(settings, registry)],
        excluded_namespaces=_excluded_namespaces(settings),
        excluded_pod_labels=redirect.exclude.pod_labels,
        failure_policy=redirect.failure_policy,
        timeout_seconds=redirect.timeout_seconds,
        every_new_pod=redirect.every_new_pod,
        pull_secret=SECRET if with_login else None,
        kubernetes_version=each.kubernetes_version,
    )


def _unserved_images(settings: Settings, registry: ProxyRegistry) -> UnservedImagesArgs:
    return UnservedImagesArgs(
        proxies=[_proxy(settings, registry)],
        excluded_namespaces=_excluded_namespaces(settings),
        excluded_pod_labels=settings.redirect.exclude.pod_labels,
    )


def _vci_mirror(settings: Settings, registry: ProxyRegistry) -> VciMirrorArgs:
    return VciMirrorArgs(
        proxies=[_proxy(settings, registry)],
        excluded_namespaces=_excluded_namespaces(settings),
        excluded_pod_labels=settings.redirect.exclude.pod_labels,
        timeout_seconds=settings.redirect.timeout_seconds,
        engine=settings.redirect.engine,
    )


def _node_mirror(settings: Settings, registry: ProxyRegistry) -> NodeMirrorArgs:
    mirror = settings.node_mirror
    password = secret(settings.login.password) if settings.registry.private_namespaces else None
    login = ProxyLogin(username=registry.username, password=password) if password else None
    return NodeMirrorArgs(
        proxies=[_proxy(settings, registry)],
        logins={DOCKER_HUB: login} if login else {},
        image=mirror.image or pulumi.Output.concat(registry.domain, "/library/busybox:latest"),
        strict=mirror.strict,
        ca_certificate=mirror.ca_certificate,
        restart_command=mirror.restart_command,
        interval_seconds=mirror.interval_seconds,
        restart_window_seconds=mirror.restart_window_seconds,
        max_unavailable=mirror.max_unavailable,
        privileged=mirror.privileged,
    )
