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
from components.types import DOCKER_HUB, Access, Edition, Engine, PodLogin, Way, display_name
from settings.errors import Problem, command
from settings.kubeconfig import cluster_in
from settings.model import (
    KYVERNO_IMAGES,
    Cluster,
    Kyverno,
    LoginAddon,
    ProxySettings,
    Settings,
)
from settings.types import NO_LIBRARY

STANDARD_REGISTRY_QUOTA: Mapping[str, int] = {"cn-beijing": 3, "cn-guangzhou": 1, "cn-shanghai": 1}
"""Enterprise (standard) registries per account and region (Volcengine docs 6420/113745)."""


def check_rules(settings: Settings) -> Iterator[Problem]:
    """The problems between settings that are valid each by itself."""
    for rule in RULES:
        yield from rule(settings)


def _accounts(settings: Settings) -> Iterator[Problem]:
    for each in settings.proxies:
        username, password = each.account.username, each.account.password
        if username is not None and password is None:
            yield Problem(
                setting=f"{each.account_setting}.password",
                found=f"nothing, with username {username!r}",
                allowed="username and password together, or neither (page)",
                do=command(f"{each.account_setting}.password", secret=True),
            )
        if password is not None and username is None:
            yield Problem(
                setting=f"{each.account_setting}.username",
                found="nothing, with a password",
                allowed="username and password together, or neither (page)",
                do=command(f"{each.account_setting}.username"),
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


def _library_is_docker_hubs(settings: Settings) -> Iterator[Problem]:
    for each in settings.proxies:
        for index, namespace in enumerate(each.registry.namespaces):
            if each.host != DOCKER_HUB and namespace.name == "library":
                yield Problem(
                    setting=f"{each.setting}.namespaces[{index}]",
                    found=f"'library', of {each.host}",
                    allowed=NO_LIBRARY,
                    do="remove it; such images are left alone",
                )


def _each_registry_once(settings: Settings) -> Iterator[Problem]:
    names: dict[str, str] = {}
    for each in settings.proxies:
        earlier = names.setdefault(each.registry.name, each.setting)
        if earlier != each.setting:
            yield Problem(
                setting=f"{each.setting}.name",
                found=f"{each.registry.name!r}, as in {earlier}.name",
                allowed="a name of its own: a registry is a proxy of one upstream (API)",
                do=command(f"{each.setting}.name"),
            )


def _enterprise(settings: Settings) -> list[ProxySettings]:
    return [each for each in settings.proxies if each.registry.edition is Edition.ENTERPRISE]


def _quota(settings: Settings) -> Iterator[Problem]:
    quota = STANDARD_REGISTRY_QUOTA.get(settings.region)
    enterprise = _enterprise(settings)
    if quota is not None and len(enterprise) > quota:
        yield Problem(
            setting=f"{enterprise[quota].setting}.edition",
            found=f"'Enterprise', which makes {len(enterprise)} of them in {settings.region}",
            allowed=f"{_registries(quota)} per account in {settings.region} (docs 6420/113745)",
            do="set edition to Micro, or use another region; where Volcengine allows the account"
            " more, say so in STANDARD_REGISTRY_QUOTA of settings/rules.py",
        )


def _registries(count: int) -> str:
    return f"{count} Enterprise registr{'y' if count == 1 else 'ies'}"


def _micro_takes_no_vpc(settings: Settings) -> Iterator[Problem]:
    for each in settings.proxies:
        vpcs = each.registry.extra_vpcs
        if each.registry.edition is Edition.MICRO and vpcs:
            yield Problem(
                setting=f"{each.setting}.extraVpcs",
                found=f"a list of {len(vpcs)}",
                allowed="none with edition Micro: it is reached from the whole region (page)",
                do=f"remove {each.setting}.extraVpcs, or set {each.setting}.edition to Enterprise",
            )


def _enterprise_needs_a_vpc(settings: Settings) -> Iterator[Problem]:
    quota = STANDARD_REGISTRY_QUOTA.get(settings.region)
    note = f" ({settings.region} allows {quota} per account)" if quota else ""
    for each in _enterprise(settings):
        if not settings.clusters and not each.registry.extra_vpcs:
            yield Problem(
                setting="clusters",
                found=f"no cluster and no {each.setting}.extraVpcs",
                allowed=f"at least one VPC with edition Enterprise{note} (page)",
                do=f"add a cluster or a {each.setting}.extraVpcs entry",
            )


def _each_vpc_once(settings: Settings) -> Iterator[Problem]:
    enterprise = _enterprise(settings)
    if not enterprise:
        return
    subnets: dict[str, tuple[str, str | None]] = {}
    allowed = "each VPC once, with one subnet (API: UpdateVpcEndpoint)"
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
        if subnet != cluster.subnet_id:
            yield Problem(
                setting=f"{setting}.vpcId",
                found=f"{cluster.vpc_id!r}, as in {where}",
                allowed=allowed,
                do=f"give both the same subnetId, or remove {where}",
            )
    for each in enterprise:
        for index, vpc in enumerate(each.registry.extra_vpcs):
            if vpc.vpc_id in subnets:
                extra = f"{each.setting}.extraVpcs[{index}]"
                yield Problem(
                    setting=f"{subnets[vpc.vpc_id][0]}.vpcId",
                    found=f"{vpc.vpc_id!r}, as in {extra}",
                    allowed=allowed,
                    do=f"remove {extra}: the VPC comes with the cluster",
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
    private, redirect = settings.private_namespaces, settings.redirect
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
    private, kyverno = settings.private_namespaces, settings.kyverno
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
    private = settings.private_namespaces
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
    if not settings.clusters or not settings.pull_check.enabled:
        return
    for each in settings.proxies:
        image = each.pull_check_image
        if image is not None and not each.serves(each.host, image.partition("/")[0]):
            served = ", ".join(sorted(one.name for one in each.registry.namespaces))
            yield Problem(
                setting=each.pull_check_setting,
                found=repr(image),
                allowed=f"an image of a namespace served here: {served}",
                do=f"{command(each.pull_check_setting)}, or set pullCheck.enabled to false",
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
    engine, private = settings.redirect.engine, settings.private_namespaces
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
    _accounts,
    _anonymous_serves_library,
    _library_is_docker_hubs,
    _each_registry_once,
    _quota,
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
    """What the account at the upstream may read, whoever reaches the registry may pull."""
    for each in settings.proxies:
        public = sorted(
            one.name
            for one in each.registry.namespaces
            if one.access is Access.PUBLIC and one.name != "library"
        )
        if each.account.username is not None and public:
            yield (
                f"{each.setting}.namespaces: Public: {', '.join(public)}; and the proxy pulls with"
                f" the {display_name(each.host)} account {each.account.username!r}:"
                " whoever reaches the registry pulls without a login what that account may read"
                " there, private repositories too. Use an account that may read nothing private"
                " there, or access: Private."
            )


def _strict_nodes(settings: Settings) -> Iterator[str]:
    """Where nodes do not ask registries at all; hosts.toml knows registries, not namespaces."""
    clusters = [each.name for each in settings.clusters if Way.NODES in each.ways]
    if not clusters or not settings.node_mirror.strict:
        return
    for each in settings.proxies:
        served = ", ".join(one.name for one in each.registry.namespaces)
        nameless = "" if each.host == DOCKER_HUB else ", or of none,"
        yield (
            f"nodeMirror.strict is true: the nodes of {', '.join(clusters)} pull nothing else of"
            f" {display_name(each.host)} than the namespaces {served}. An image of any other"
            f" namespace{nameless} is not pulled at all, and without the proxy none is. Add the"
            f" namespaces in use to {each.setting}.namespaces, or set nodeMirror.strict to false."
        )


def _quota_taken(settings: Settings) -> Iterator[str]:
    quota = STANDARD_REGISTRY_QUOTA.get(settings.region)
    if quota is not None and len(_enterprise(settings)) == quota:
        settings_of_them = ", ".join(f"{each.setting}.edition" for each in _enterprise(settings))
        yield (
            f"{settings_of_them}: {settings.region} allows {_registries(quota)} per account"
            " (docs 6420/113745), which is what this stack makes; one more in the account fails"
            " with a quota error. Ask Volcengine for more, or use another region or account."
        )


def _unchecked(settings: Settings) -> Iterator[str]:
    """Proxies that nobody pulls through before images are redirected to them."""
    if not settings.clusters or not settings.pull_check.enabled:
        return
    for each in settings.proxies:
        if each.pull_check_image is None and each != settings.kyverno_proxy:
            yield (
                f"{each.pull_check_setting} is not set: nothing is pulled through the proxy of"
                f" {each.host} before its images are redirected there. Name a small image with a"
                " program `true` that it serves."
            )


def _kyverno_beside_its_proxy(settings: Settings) -> Iterator[str]:
    kyverno = settings.kyverno
    proxied = any(each.serves(*KYVERNO_IMAGES) for each in settings.proxies)
    own = kyverno.image_registry is not None or kyverno.has_own_images_only
    if proxied and kyverno.install and not own:
        yield (
            f"kyverno.version {kyverno.version}: charts before 3.8 take images from other"
            f" registries than {KYVERNO_IMAGES[0]} too, so Kyverno's are pulled from where the"
            " chart says and not through the proxy:"
            f" {command('kyverno.version', Kyverno().version)}"
        )


def _replaced_today(settings: Settings) -> Iterator[str]:
    for each in settings.proxies:
        if each.registry.replacement_allowed():
            yield (
                f"{each.setting}.allowReplacementOn is today: every `pulumi up` until the day ends"
                " (UTC) replaces the registry, also where no setting has changed, and its cache is"
                " lost. Take the date out after one."
            )


def _addon_for_nothing(settings: Settings) -> Iterator[str]:
    if settings.login.pods is PodLogin.ADDON and not settings.private_namespaces:
        yield (
            "login.pods is addon, but every namespace is public and needs no login: the add-on is"
            " not installed."
        )


WARNINGS: Sequence[Callable[[Settings], Iterator[str]]] = (
    _quota_taken,
    _addon_for_nothing,
    _native_engine_is_off,
    _public_beside_an_account,
    _strict_nodes,
    _unchecked,
    _kyverno_beside_its_proxy,
    _replaced_today,
)


def warnings(settings: Settings) -> list[str]:
    """What may go wrong although the config is valid."""
    return [note for warning in WARNINGS for note in warning(settings)]
