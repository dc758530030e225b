"""The rules between settings, and what is worth a warning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from components.policy import (
    KYVERNO_VERSIONS,
    OLDEST_GENERATING_KYVERNO,
    OLDEST_KUBERNETES,
    OLDEST_KUBERNETES_THAT_WARNS,
    minor,
)
from components.types import Access, Edition, Engine, PodLogin, Way
from settings.errors import Problem, command
from settings.kubeconfig import cluster_in
from settings.model import Cluster, Kyverno, LoginAddon, Settings

STANDARD_REGISTRY_QUOTA: Mapping[str, int] = {"cn-beijing": 3, "cn-guangzhou": 1, "cn-shanghai": 1}
"""Enterprise (standard) registries per account and region (Volcengine docs 6420/113745)."""


def check_rules(settings: Settings) -> Iterator[Problem]:
    """The problems between settings that are valid each by itself."""
    for rule in RULES:
        yield from rule(settings)


def _dockerhub_account(settings: Settings) -> Iterator[Problem]:
    dockerhub = settings.dockerhub
    if dockerhub.username is not None and dockerhub.password is None:
        yield Problem(
            setting="dockerhub.password",
            found=f"nothing, with username {dockerhub.username!r}",
            allowed="username and password together, or neither (page)",
            do=command("dockerhub.password", secret=True),
        )
    if dockerhub.password is not None and dockerhub.username is None:
        yield Problem(
            setting="dockerhub.username",
            found="nothing, with a password",
            allowed="username and password together, or neither (page)",
            do=command("dockerhub.username"),
        )


def _anonymous_serves_library(settings: Settings) -> Iterator[Problem]:
    if settings.dockerhub.username is not None or settings.dockerhub.password is not None:
        return
    for index, namespace in enumerate(settings.registry.namespaces):
        if namespace.name != "library":
            yield Problem(
                setting=f"registry.namespaces[{index}]",
                found=repr(namespace.name),
                allowed="only 'library' without Docker Hub credentials (page)",
                do="set dockerhub.username and dockerhub.password, or remove the namespace",
            )


def _micro_takes_no_vpc(settings: Settings) -> Iterator[Problem]:
    registry = settings.registry
    if registry.edition is Edition.MICRO and registry.extra_vpcs:
        yield Problem(
            setting="registry.extraVpcs",
            found=f"a list of {len(registry.extra_vpcs)}",
            allowed="none with edition Micro: it is reached from the whole region (page)",
            do="remove registry.extraVpcs, or set registry.edition to Enterprise",
        )


def _enterprise_needs_a_vpc(settings: Settings) -> Iterator[Problem]:
    registry = settings.registry
    if registry.edition is Edition.MICRO or settings.clusters or registry.extra_vpcs:
        return
    quota = STANDARD_REGISTRY_QUOTA.get(settings.region)
    note = f" ({settings.region} allows {quota} per account)" if quota else ""
    yield Problem(
        setting="clusters",
        found="no cluster and no registry.extraVpcs",
        allowed=f"at least one VPC with edition Enterprise{note} (page)",
        do="add a cluster or a registry.extraVpcs entry",
    )


def _each_vpc_once(settings: Settings) -> Iterator[Problem]:
    registry = settings.registry
    if registry.edition is Edition.MICRO:
        return
    subnets: dict[str, tuple[str, str | None]] = {
        vpc.vpc_id: (f"registry.extraVpcs[{index}]", vpc.subnet_id)
        for index, vpc in enumerate(registry.extra_vpcs)
    }
    for index, cluster in enumerate(settings.clusters):
        setting = f"clusters[{index}]"
        if cluster.kubeconfig is not None and not cluster.vpc_id:
            yield Problem(
                setting=f"{setting}.vpcId",
                found="nothing, with a kubeconfig and edition Enterprise",
                allowed="the cluster's VPC, which the registry must let in (page)",
                do=command(f"{setting}.vpcId"),
            )
        if not cluster.vpc_id:
            continue
        where, subnet = subnets.setdefault(cluster.vpc_id, (setting, cluster.subnet_id))
        extra = where.startswith("registry.")
        if extra or subnet != cluster.subnet_id:
            yield Problem(
                setting=f"{setting}.vpcId",
                found=f"{cluster.vpc_id!r}, as in {where}",
                allowed="each VPC once, with one subnet (API: UpdateVpcEndpoint)",
                do=f"remove {where}: the VPC comes with the cluster"
                if extra
                else f"give both the same subnetId, or remove {where}",
            )


def _cluster_addresses(settings: Settings) -> Iterator[Problem]:
    for index, cluster in enumerate(settings.clusters):
        yield from _cluster_address(cluster, f"clusters[{index}]")


def _cluster_address(cluster: Cluster, setting: str) -> Iterator[Problem]:
    if (cluster.cluster_id is None) == (cluster.kubeconfig is None):
        both = cluster.cluster_id is not None
        yield Problem(
            setting=setting,
            found="both clusterId and kubeconfig" if both else "neither clusterId nor kubeconfig",
            allowed="exactly one of the two",
            do="give clusterId for a VKE cluster (its VPC and kubeconfig are looked up),"
            " kubeconfig for another",
        )
    if cluster.cluster_id and (cluster.vpc_id or cluster.subnet_id):
        yield Problem(
            setting=f"{setting}.vpcId",
            found="a VPC or subnet beside clusterId",
            allowed="neither: the VPC is looked up from the VKE cluster",
            do="remove vpcId and subnetId",
        )
    if (cluster.vpc_id is None) != (cluster.subnet_id is None) and not cluster.cluster_id:
        yield Problem(
            setting=f"{setting}.subnetId",
            found="only one of vpcId and subnetId",
            allowed="both or neither",
            do=command(f"{setting}.{'subnetId' if cluster.vpc_id else 'vpcId'}"),
        )


def _each_cluster_once(settings: Settings) -> Iterator[Problem]:
    names: dict[str, str] = {}
    for index, cluster in enumerate(settings.clusters):
        if cluster.cluster_id is not None:
            key, field, found = cluster.cluster_id, "clusterId", repr(cluster.cluster_id)
        elif cluster.kubeconfig is not None:
            key, field = cluster_in(cluster.kubeconfig.get_secret_value()), "kubeconfig"
            found = "a kubeconfig of the same cluster"
        else:
            continue
        earlier = names.setdefault(key, cluster.name)
        if earlier != cluster.name:
            yield Problem(
                setting=f"clusters[{index}].{field}",
                found=f"{found}, as in cluster {earlier!r}",
                allowed="each cluster once",
                do="remove one of the two",
            )


def _kyverno_repository(settings: Settings) -> Iterator[Problem]:
    kyverno = settings.kyverno
    if "/" in kyverno.chart and kyverno.repository is not None:
        yield Problem(
            setting="kyverno.repository",
            found=repr(kyverno.repository),
            allowed="nothing when kyverno.chart is a path or an OCI reference (Helm)",
            do="remove kyverno.repository",
        )


def _engines(settings: Settings, cluster: Cluster) -> Iterator[Engine]:
    """The kinds of policy a cluster gets."""
    if settings.redirect.enabled and Way.ADMISSION in cluster.ways:
        yield settings.redirect.engine
    if Way.VCI in cluster.ways and settings.redirect.engine.needs_kyverno:
        yield settings.redirect.engine


def _kyverno_version(settings: Settings) -> Iterator[Problem]:
    kyverno = settings.kyverno
    found = minor(kyverno.app_version)
    for engine in sorted({each for one in settings.clusters for each in _engines(settings, one)}):
        oldest, newest = KYVERNO_VERSIONS.get(engine, (found, None))
        if found < oldest or (newest is not None and found > newest):
            to = "and newer" if newest is None else f"to 1.{newest}"
            charts = "and newer" if newest is None else f"to 3.{newest - 10}"
            yield Problem(
                setting="kyverno.version",
                found=f"{kyverno.version!r}, which is Kyverno {kyverno.app_version}",
                allowed=f"Kyverno 1.{oldest} {to} (charts 3.{oldest - 10} {charts}) for a"
                f" {engine.value}",
                do=command("kyverno.version", Kyverno().version),
            )


def _kubernetes_version(settings: Settings) -> Iterator[Problem]:
    for index, cluster in enumerate(settings.clusters):
        known = cluster.kubernetes_version
        for engine in _engines(settings, cluster):
            if known is None and not engine.needs_kyverno:
                yield Problem(
                    setting=f"clusters[{index}].kubernetesVersion",
                    found=f"nothing, with engine {engine.value}",
                    allowed="the cluster's version: it decides the API version of the policy",
                    do=command(f"clusters[{index}].kubernetesVersion", "1.36"),
                )
            if known is not None and minor(known) < OLDEST_KUBERNETES[engine]:
                yield Problem(
                    setting=f"clusters[{index}].kubernetesVersion",
                    found=repr(known),
                    allowed=f"1.{OLDEST_KUBERNETES[engine]} or newer, for a {engine.value}",
                    do="upgrade the cluster"
                    if engine.needs_kyverno
                    else "upgrade the cluster, or set redirect.engine to ClusterPolicy",
                )


def _warns_where_it_can(settings: Settings) -> Iterator[Problem]:
    for index, cluster in enumerate(settings.clusters):
        known = cluster.kubernetes_version
        wanted = settings.redirect.warn_unserved and cluster.ways
        if wanted and known is not None and minor(known) < OLDEST_KUBERNETES_THAT_WARNS:
            yield Problem(
                setting=f"clusters[{index}].kubernetesVersion",
                found=f"{known!r}, with redirect.warnUnserved",
                allowed=f"1.{OLDEST_KUBERNETES_THAT_WARNS} or newer, for a"
                " ValidatingAdmissionPolicy",
                do="upgrade the cluster, or remove redirect.warnUnserved",
            )


def _native_engine_brings_no_login(settings: Settings) -> Iterator[Problem]:
    private, redirect = settings.registry.private_namespaces, settings.redirect
    admission = any(Way.ADMISSION in each.ways for each in settings.clusters)
    copied = settings.login.pods is PodLogin.SECRET
    if private and copied and redirect.enabled and admission and not redirect.engine.needs_kyverno:
        yield Problem(
            setting="redirect.engine",
            found=f"{redirect.engine.value!r}, with private namespaces: {', '.join(private)}",
            allowed="an engine of Kyverno's, which also brings Pods the login they need",
            do="give the namespaces access: Public, set redirect.engine to ClusterPolicy, or, where"
            " all clusters are VKE's, login.pods to addon",
        )


def _copied_logins(settings: Settings) -> Iterator[Problem]:
    """What copies logins beside a MutatingPolicy needs a newer Kyverno than the MutatingPolicy."""
    private, kyverno = settings.registry.private_namespaces, settings.kyverno
    redirect = settings.redirect
    copied = (
        redirect.enabled
        and redirect.engine is Engine.MUTATING_POLICY
        and settings.login.pods is PodLogin.SECRET
        and any(Way.ADMISSION in each.ways for each in settings.clusters)
    )
    found = minor(kyverno.app_version)
    oldest, _ = KYVERNO_VERSIONS[Engine.MUTATING_POLICY]
    if copied and private and oldest <= found < OLDEST_GENERATING_KYVERNO:
        yield Problem(
            setting="kyverno.version",
            found=f"{kyverno.version!r}, which is Kyverno {kyverno.app_version}, with private"
            f" namespaces: {', '.join(private)}",
            allowed=f"Kyverno 1.{OLDEST_GENERATING_KYVERNO} and newer (charts"
            f" 3.{OLDEST_GENERATING_KYVERNO - 10} and newer): an older GeneratingPolicy does not"
            " change a login it has copied",
            do=f"{command('kyverno.version', Kyverno().version)}, or set redirect.engine to"
            " ClusterPolicy, or, where all clusters are VKE's, login.pods to addon",
        )


def _private_needs_login(settings: Settings) -> Iterator[Problem]:
    private = settings.registry.private_namespaces
    if settings.clusters and private and settings.login.password is None:
        yield Problem(
            setting="login.password",
            found=f"nothing, with private namespaces: {', '.join(private)}",
            allowed="a password: nobody pulls from a private namespace without a login (page)",
            do=f"{command('login.password', secret=True)}, or give the namespaces access: Public",
        )


def _node_mirror_image(settings: Settings) -> Iterator[Problem]:
    served = {each.name for each in settings.registry.namespaces}
    nodes = any(Way.NODES in each.ways for each in settings.clusters)
    if nodes and settings.node_mirror.image is None and "library" not in served:
        yield Problem(
            setting="nodeMirror.image",
            found="nothing, with namespace library not served",
            allowed="an image the nodes can pull; the default is the proxy's library/busybox",
            do=command("nodeMirror.image"),
        )


def _pull_check_image(settings: Settings) -> Iterator[Problem]:
    served = sorted(each.name for each in settings.registry.namespaces)
    check = settings.pull_check
    if settings.clusters and check.enabled and check.namespace not in served:
        yield Problem(
            setting="pullCheck.image",
            found=repr(check.image),
            allowed=f"an image of a namespace served here: {', '.join(served)}",
            do=f"{command('pullCheck.image')}, or set pullCheck.enabled to false",
        )


def _addon(settings: Settings) -> Iterator[Problem]:
    login = settings.login
    if login.pods is not PodLogin.ADDON:
        if login.addon != LoginAddon():
            yield Problem(
                setting="login.addon",
                found=f"settings of the add-on, with login.pods {login.pods.value!r}",
                allowed="them only with login.pods: addon",
                do=f"remove login.addon, or {command('login.pods', PodLogin.ADDON.value)}",
            )
        return
    for index, cluster in enumerate(settings.clusters):
        if cluster.kubeconfig is not None and not cluster.cluster_id:
            yield Problem(
                setting=f"clusters[{index}].clusterId",
                found="a kubeconfig alone, with login.pods 'addon'",
                allowed="VKE clusters by id: VKE installs its add-on there (API: CreateAddon)",
                do="give clusterId instead of kubeconfig, or set login.pods to secret",
            )


def _vci(settings: Settings) -> Iterator[Problem]:
    engine, private = settings.redirect.engine, settings.registry.private_namespaces
    for index, cluster in enumerate(settings.clusters):
        if Way.VCI not in cluster.ways:
            continue
        setting = f"clusters[{index}].ways"
        if private:
            yield Problem(
                setting=setting,
                found=f"'vci', with private namespaces: {', '.join(private)}",
                allowed="'vci' where every namespace is public: VCI takes a login from the Pod's"
                " annotations only, where everyone who may see the Pod reads the password"
                " (docs 6460/1382631)",
                do="give the namespaces access: Public, or use the way admission for these Pods",
            )
        if not engine.needs_kyverno:
            yield Problem(
                setting="redirect.engine",
                found=f"{engine.value!r}, with the way 'vci' in cluster {cluster.name!r}",
                allowed="an engine of Kyverno's: the policy that annotates Pods is Kyverno's",
                do=f"set redirect.engine to ClusterPolicy, or remove vci from {setting}",
            )


RULES: Sequence[Callable[[Settings], Iterator[Problem]]] = (
    _dockerhub_account,
    _anonymous_serves_library,
    _micro_takes_no_vpc,
    _enterprise_needs_a_vpc,
    _each_vpc_once,
    _cluster_addresses,
    _each_cluster_once,
    _kyverno_repository,
    _kyverno_version,
    _kubernetes_version,
    _warns_where_it_can,
    _native_engine_brings_no_login,
    _copied_logins,
    _private_needs_login,
    _node_mirror_image,
    _pull_check_image,
    _addon,
    _vci,
)


def _native_engine_is_off(settings: Settings) -> Iterator[str]:
    """Where Kubernetes has the native engine behind a switch; a managed cluster may not turn it."""
    redirect = settings.redirect
    if not redirect.enabled or redirect.engine is not Engine.MUTATING_ADMISSION_POLICY:
        return
    for cluster in settings.clusters:
        known = cluster.kubernetes_version
        if Way.ADMISSION in cluster.ways and known is not None and minor(known) < 36:
            yield (
                f"redirect.engine MutatingAdmissionPolicy: Kubernetes {known}"
                f" of cluster {cluster.name!r} has it off unless its API server runs with the"
                " feature gate MutatingAdmissionPolicy and the runtime-config"
                " admissionregistration.k8s.io/v1beta1; without them the policy cannot be created."
            )


def _public_beside_an_account(settings: Settings) -> Iterator[str]:
    """What the Docker Hub account may read, whoever reaches the registry may pull."""
    public = sorted(
        each.name
        for each in settings.registry.namespaces
        if each.access is Access.PUBLIC and each.name != "library"
    )
    if settings.dockerhub.username is not None and public:
        yield (
            f"registry.namespaces: Public: {', '.join(public)};"
            f" and the proxy pulls with the Docker Hub account {settings.dockerhub.username!r}:"
            " whoever reaches the registry pulls without a login what that account may read there,"
            " private repositories too. Use an account that may read nothing private there, or"
            " access: Private."
        )


def _strict_nodes(settings: Settings) -> Iterator[str]:
    """Where nodes do not ask Docker Hub at all; hosts.toml knows registries, not namespaces."""
    clusters = [each.name for each in settings.clusters if Way.NODES in each.ways]
    if clusters and settings.node_mirror.strict:
        served = ", ".join(each.name for each in settings.registry.namespaces)
        yield (
            f"nodeMirror.strict is true: the nodes of {', '.join(clusters)} pull nothing else of"
            f" Docker Hub than the namespaces {served}. An image of any other namespace is not"
            " pulled at all, and without the proxy none is. Add the namespaces in use to"
            " registry.namespaces, or set nodeMirror.strict to false."
        )


def warnings(settings: Settings) -> list[str]:
    """What may go wrong although the config is valid."""
    notes: list[str] = []
    quota = STANDARD_REGISTRY_QUOTA.get(settings.region)
    if settings.registry.edition is Edition.ENTERPRISE and quota == 1:
        notes.append(
            f"registry.edition: {settings.region} allows 1 Enterprise registry per account"
            " (docs 6420/113745); a second one fails with a quota error."
            " Ask Volcengine for more, or use another region or account."
        )
    if settings.login.pods is PodLogin.ADDON and not settings.registry.private_namespaces:
        notes.append(
            "login.pods is addon, but every namespace is public and needs no login: the add-on is"
            " not installed."
        )
    notes.extend(_native_engine_is_off(settings))
    notes.extend(_public_beside_an_account(settings))
    notes.extend(_strict_nodes(settings))
    if settings.registry.replacement_allowed():
        notes.append(
            "registry.allowReplacementOn is today: every `pulumi up` until the day ends (UTC)"
            " replaces the registry, also where no setting has changed, and its cache is lost. Take"
            " the date out after one."
        )
    return notes
