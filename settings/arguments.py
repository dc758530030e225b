"""What the settings mean: the args of every component. Nothing is declared here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi

from components.cluster import Cluster, ClusterArgs
from components.cluster_proxy import ClusterProxyArgs
from components.credential_addon import AddonRegistry, CredentialAddonArgs
from components.image_redirect import ImageRedirectArgs
from components.kyverno import CHECK_ARGUMENTS, CHECK_IMAGE, KyvernoArgs
from components.node_mirror import NodeMirrorArgs
from components.policy import OLDEST_KUBERNETES_THAT_WARNS, minor
from components.proxy_registry import ProxyRegistry, ProxyRegistryArgs, Upstream
from components.pull_check import PullCheckArgs, docker_config
from components.pull_credentials import SECRET, PullCredentialsArgs
from components.types import DOCKER_HUB, PodLogin, Proxy, ProxyLogin, Way
from components.unserved_images import UnservedImagesArgs
from components.vci_mirror import VciMirrorArgs
from components.vpc_access import VpcAccessArgs, VpcArgs
from settings.model import KYVERNO_IMAGES, DockerHub, ProxySettings, Settings
from settings.model import Cluster as ClusterSettings
from settings.reader import secret

Registries = Mapping[str, ProxyRegistry]
"""The proxy registries, by the host each is a proxy of."""


def proxy_registry(settings: Settings, proxy: ProxySettings) -> ProxyRegistryArgs:
    """A proxy registry with its upstream, namespaces and login."""
    registry, account = proxy.registry, proxy.account
    kind = (
        {}
        if isinstance(account, DockerHub)
        else {"type": account.type, "endpoint": account.endpoint or f"https://{account.host}"}
    )
    return ProxyRegistryArgs(
        registry_name=registry.name,
        edition=registry.edition,
        namespaces={each.name: each.access for each in registry.namespaces},
        project=registry.project,
        tags=registry.tags,
        upstream=Upstream(
            host=proxy.host,
            username=account.username,
            password=secret(account.password),
            **kind,
        ),
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
    proxy: ProxySettings, registry: ProxyRegistry, clusters: Sequence[Cluster]
) -> VpcAccessArgs:
    """The VPCs of the clusters, and those named beside them."""
    extra = proxy.registry.extra_vpcs
    return VpcAccessArgs(
        registry_name=registry.registry_name,
        vpcs=[
            *(VpcArgs(vpc_id=each.vpc_id, subnet_id=each.subnet_id) for each in clusters),
            *(VpcArgs(vpc_id=each.vpc_id, subnet_id=each.subnet_id) for each in extra),
        ],
    )


def cluster_proxy(
    settings: Settings, each: ClusterSettings, target: Cluster, registries: Registries
) -> ClusterProxyArgs:
    """The parts that this cluster gets."""
    redirected = settings.redirect.enabled and Way.ADMISSION in each.ways
    annotated = Way.VCI in each.ways
    needs_kyverno = annotated or (redirected and settings.redirect.engine.needs_kyverno)
    logins = _logins(settings, registries)
    copied = logins and settings.login.pods is PodLogin.SECRET and redirected
    return ClusterProxyArgs(
        cluster=target,
        pull_checks=_pull_checks(settings, registries) if settings.pull_check.enabled else (),
        kyverno=_kyverno(settings, registries)
        if settings.kyverno.install and needs_kyverno
        else None,
        credential_addon=_credential_addon(settings, each, registries)
        if settings.private_namespaces and settings.login.pods is PodLogin.ADDON
        else None,
        pull_credentials=_pull_credentials(settings, registries) if copied else None,
        redirect=_redirect(settings, each, registries, SECRET if copied else None)
        if redirected
        else None,
        vci_mirror=_vci_mirror(settings, registries) if annotated else None,
        node_mirror=_node_mirror(settings, registries) if Way.NODES in each.ways else None,
        unserved_images=_unserved_images(settings, registries)
        if warns(settings, each) and (redirected or {*each.ways} - {Way.ADMISSION})
        else None,
    )


def warns(settings: Settings, each: ClusterSettings) -> bool:
    """Whether this cluster warns of images no proxy serves: where it can, unless it is set."""
    wanted, known = settings.redirect.warn_unserved, each.kubernetes_version
    if wanted is not None:
        return wanted
    return known is not None and minor(known) >= OLDEST_KUBERNETES_THAT_WARNS


def _login(settings: Settings, registry: ProxyRegistry) -> ProxyLogin | None:
    password = secret(settings.login.password)
    return ProxyLogin(username=registry.username, password=password) if password else None


def _logins(settings: Settings, registries: Registries) -> dict[str, ProxyLogin]:
    """The logins of the proxies with private namespaces, by host."""
    return {
        each.host: login
        for each in settings.proxies
        if each.registry.private_namespaces
        and (login := _login(settings, registries[each.host])) is not None
    }


def _pull_checks(settings: Settings, registries: Registries) -> list[PullCheckArgs]:
    """A check for each proxy of which an image is known, as Kyverno's own are."""
    checks: list[PullCheckArgs] = []
    for each in settings.proxies:
        own = each == settings.kyverno_proxy and each.pull_check_image is None
        image = f"{CHECK_IMAGE}:{settings.kyverno.image_tag}" if own else each.pull_check_image
        if image is not None:
            checks.append(
                PullCheckArgs(
                    host=each.host,
                    domain=registries[each.host].domain,
                    image=image,
                    arguments=CHECK_ARGUMENTS if own else None,
                    login=_login(settings, registries[each.host]),
                )
            )
    return checks


def _kyverno(settings: Settings, registries: Registries) -> KyvernoArgs:
    kyverno, proxy = settings.kyverno, settings.kyverno_proxy
    domain = registries[proxy.host].domain if proxy else None
    private = proxy and KYVERNO_IMAGES[1] in proxy.registry.private_namespaces
    login = _login(settings, registries[proxy.host]) if proxy and private else None
    return KyvernoArgs(
        chart=kyverno.chart,
        version=kyverno.version,
        repository=kyverno.chart_repository,
        namespace=kyverno.namespace,
        image_registry=domain or kyverno.image_registry,
        image_login=docker_config([(domain, login)]) if domain and login else None,
        replicas=kyverno.replicas,
        webhook_timeout_seconds=settings.redirect.timeout_seconds,
        values=kyverno.values,
    )


def _credential_addon(
    settings: Settings, each: ClusterSettings, registries: Registries
) -> CredentialAddonArgs:
    if each.cluster_id is None:
        raise ValueError(f"cluster {each.name!r} has no clusterId; the settings' rules need one")
    addon = settings.login.addon
    return CredentialAddonArgs(
        cluster_id=each.cluster_id,
        registries=[
            AddonRegistry(name=registries[host].registry_name, domain=registries[host].domain)
            for host in _logins(settings, registries)
        ],
        region=settings.region,
        namespaces=addon.namespaces,
        service_accounts=addon.service_accounts,
        version=addon.version,
    )


def _excluded_namespaces(settings: Settings) -> list[str]:
    return [settings.kyverno.namespace, *settings.redirect.exclude.namespaces]


def _proxies(settings: Settings, registries: Registries) -> list[Proxy]:
    return [
        Proxy(
            host=each.host,
            domain=registries[each.host].domain,
            namespaces={one.name: one.access for one in each.registry.namespaces},
        )
        for each in settings.proxies
    ]


def _pull_credentials(settings: Settings, registries: Registries) -> PullCredentialsArgs:
    return PullCredentialsArgs(
        logins=[
            (registries[host].domain, login)
            for host, login in _logins(settings, registries).items()
        ],
        excluded_namespaces=_excluded_namespaces(settings),
        engine=settings.redirect.engine,
    )


def _redirect(
    settings: Settings, each: ClusterSettings, registries: Registries, pull_secret: str | None
) -> ImageRedirectArgs:
    redirect = settings.redirect
    return ImageRedirectArgs(
        engine=redirect.engine,
        proxies=_proxies(settings, registries),
        excluded_namespaces=_excluded_namespaces(settings),
        excluded_pod_labels=redirect.exclude.pod_labels,
        failure_policy=redirect.failure_policy,
        timeout_seconds=redirect.timeout_seconds,
        every_new_pod=redirect.every_new_pod,
        pull_secret=pull_secret,
        kubernetes_version=each.kubernetes_version,
    )


def _unserved_images(settings: Settings, registries: Registries) -> UnservedImagesArgs:
    return UnservedImagesArgs(
        proxies=_proxies(settings, registries),
        excluded_namespaces=_excluded_namespaces(settings),
        excluded_pod_labels=settings.redirect.exclude.pod_labels,
    )


def _vci_mirror(settings: Settings, registries: Registries) -> VciMirrorArgs:
    return VciMirrorArgs(
        proxies=_proxies(settings, registries),
        excluded_namespaces=_excluded_namespaces(settings),
        excluded_pod_labels=settings.redirect.exclude.pod_labels,
        timeout_seconds=settings.redirect.timeout_seconds,
        engine=settings.redirect.engine,
    )


def _node_mirror(settings: Settings, registries: Registries) -> NodeMirrorArgs:
    mirror, hub = settings.node_mirror, registries[DOCKER_HUB]
    return NodeMirrorArgs(
        proxies=_proxies(settings, registries),
        logins=_logins(settings, registries),
        image=mirror.image or pulumi.Output.concat(hub.domain, "/library/busybox:latest"),
        strict=mirror.strict,
        ca_certificate=mirror.ca_certificate,
        restart_command=mirror.restart_command,
        interval_seconds=mirror.interval_seconds,
        restart_window_seconds=mirror.restart_window_seconds,
        max_unavailable=mirror.max_unavailable,
        privileged=mirror.privileged,
    )
