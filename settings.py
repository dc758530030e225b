"""The stack's typed inputs: their shape, their rules and their error texts.

This is the only reader of `pulumi.Config`. `load()` returns a `Settings` that is right, or raises
one `SettingsError` that names every problem at once, before any resource is declared. Rules carry
their source: "page" is Volcengine's "Pull Docker Hub images in VKE", "API" the Container Registry
API, "provider" Pulumi's Volcengine provider.
"""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Annotated, Any

import pulumi
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from pydantic_core import ErrorDetails, PydanticCustomError

from components.redirect_policy import unavailable
from components.versions import has_match_conditions, reads_every_image

PROJECT = "vke-dockerhub-proxy"

STANDARD_REGISTRY_QUOTA: Mapping[str, int] = {"cn-beijing": 3, "cn-guangzhou": 1, "cn-shanghai": 1}
"""Enterprise (standard) registries per account and region (Volcengine docs 6420/113745)."""


class Edition(StrEnum):
    """The registry's edition (API: `Type`)."""

    MICRO = "Micro"
    ENTERPRISE = "Enterprise"


class Access(StrEnum):
    """Who may pull from a namespace (API: `RepositoryDefaultAccessLevel`)."""

    PRIVATE = "Private"
    PUBLIC = "Public"


class Way(StrEnum):
    """How a cluster uses the proxy; writing the proxy's domain in an image needs no way at all."""

    ADMISSION = "admission"
    NODES = "nodes"
    VCI = "vci"


class Endpoint(StrEnum):
    """Which of a VKE cluster's two API server addresses Pulumi uses (API: kubeconfig `Type`)."""

    PUBLIC = "Public"
    PRIVATE = "Private"


class Engine(StrEnum):
    """The policy engine that rewrites Pod images."""

    CLUSTER_POLICY = "ClusterPolicy"
    MUTATING_POLICY = "MutatingPolicy"
    MUTATING_ADMISSION_POLICY = "MutatingAdmissionPolicy"

    @property
    def needs_kyverno(self) -> bool:
        """Whether this engine is Kyverno's; the other is the API server's own."""
        return self is not Engine.MUTATING_ADMISSION_POLICY


class PodLogin(StrEnum):
    """How Pods that pull from a private namespace get the registry's login."""

    SECRET = "secret"  # noqa: S105 - a way, not a password
    ADDON = "addon"


class FailurePolicy(StrEnum):
    """What happens to a Pod while the policy engine does not answer."""

    IGNORE = "Ignore"
    FAIL = "Fail"


class Lookup(StrEnum):
    """Whether the policy asks the image's registry at admission, as the vendor's page does."""

    NONE = "none"
    REGISTRY = "registry"


def _rejected(allowed: str, do: str) -> PydanticCustomError:
    """A rule's refusal: what is allowed, and what to do about it."""
    return PydanticCustomError("rule", "{allowed}", {"allowed": allowed, "do": do})


def _matching(pattern: str, allowed: str, do: str) -> AfterValidator:
    """A validator for strings that must match `pattern` as a whole."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if not compiled.fullmatch(value):
            raise _rejected(allowed, do)
        return value

    return AfterValidator(check)


RegistryName = Annotated[
    str,
    _matching(
        r"(?=.{3,30}$)[a-z]([a-z0-9-]*[a-z0-9])?",
        "3 to 30 of a-z, 0-9 and '-', starting with a letter, not ending with '-' (API)",
        "choose such a name, for example 'dockerhub-dev'",
    ),
]
NamespaceName = Annotated[
    str,
    _matching(
        r"(?=.{2,90}$)[a-z0-9]+([._-][a-z0-9]+)*",
        "2 to 90 of a-z, 0-9, '.', '_' and '-', no separator first, last or twice in a row (API),"
        " and the very name used on Docker Hub (page)",
        "write the part before the '/' of the Docker Hub image, 'library' for official images",
    ),
]
ClusterName = Annotated[
    str,
    _matching(
        r"(?=.{1,40}$)[a-z]([a-z0-9-]*[a-z0-9])?",
        "1 to 40 of a-z, 0-9 and '-', starting with a letter, not ending with '-'",
        "choose a short name; Pulumi resource names and outputs carry it",
    ),
]
VpcId = Annotated[
    str,
    _matching(r"vpc-[a-z0-9]+", "a VPC id, 'vpc-…'", "copy it from the cluster's overview page"),
]
SubnetId = Annotated[
    str,
    _matching(r"subnet-[a-z0-9]+", "a subnet id, 'subnet-…'", "copy it from the VPC's page"),
]
ClusterId = Annotated[
    str,
    _matching(
        r"c[a-z0-9]{5,40}",
        "a VKE cluster id, 'c' and 5 to 40 of a-z and 0-9",
        "copy it from the cluster's overview page",
    ),
]
KubernetesName = Annotated[
    str,
    _matching(
        r"(?=.{1,63}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?",
        "a Kubernetes namespace name: 1 to 63 of a-z, 0-9 and '-'",
        "correct the name",
    ),
]
KubernetesVersion = Annotated[
    str,
    _matching(r"v?1\.[0-9]+(\.[0-9]+)?([-+].*)?", "a version such as 1.32", "correct the version"),
]
ChartVersion = Annotated[
    str,
    _matching(
        r"v?3\.[0-9]+\.[0-9]+([-+].*)?",
        "one exact version of chart 3, such as 3.9.1",
        "pin a version: `helm search repo kyverno --versions` lists them",
    ),
]
AddonVersion = Annotated[
    str,
    _matching(
        r"v[0-9]+\.[0-9]+\.[0-9]+([-+].*)?",
        "one exact version of the add-on, such as v1.3.5",
        "copy it from the cluster's page of add-ons, or leave it out",
    ),
]
RegistryHost = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9.-]+(:[0-9]+)?(/[a-z0-9._/-]+)?",
        "a registry host with an optional path, no scheme: 'registry.example.com/mirror'",
        "remove 'https://' and any trailing '/'",
    ),
]


class Section(BaseModel):
    """A part of the stack's config: keys in camelCase, unknown ones refused, values frozen."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=False,
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=False,
    )


class DockerHubNamespace(Section):
    """A namespace of the registry, of the same name as on Docker Hub."""

    name: NamespaceName
    access: Access = Access.PRIVATE


def _namespace_from_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class Vpc(Section):
    """A VPC let in beside the clusters' own, for example one of build machines."""

    vpc_id: VpcId
    subnet_id: SubnetId


class Registry(Section):
    """The remote proxy registry: an instance of Container Registry of type DockerHub."""

    name: RegistryName
    edition: Edition = Edition.MICRO
    namespaces: Annotated[
        list[Annotated[DockerHubNamespace, BeforeValidator(_namespace_from_name)]],
        Field(min_length=1),
    ]
    project: str = "default"
    tags: dict[str, str] = {}
    protection: bool = True
    """Refuse to delete the registry, and with it its cache, by `pulumi destroy`."""
    allow_replacement_on: date | None = None
    """The one day (UTC) on which the registry may be replaced and its cache lost."""
    extra_vpcs: list[Vpc] = []

    @property
    def private_namespaces(self) -> list[str]:
        """The namespaces nobody pulls from without a login, sorted."""
        return sorted(each.name for each in self.namespaces if each.access is Access.PRIVATE)

    def replacement_allowed(self, today: date | None = None) -> bool:
        """Whether a change that replaces the registry may do so today (UTC)."""
        return self.allow_replacement_on == (today or datetime.now(UTC).date())


class DockerHub(Section):
    """The Docker Hub account with which the proxy pulls."""

    username: Annotated[str, Field(min_length=1)] | None = None
    password: SecretStr | None = None


def _login_password(value: SecretStr) -> SecretStr:
    plain = value.get_secret_value()
    classes = (r"[a-z]", r"[A-Z]", r"[0-9~!@#$%^&*()\-_=+|\[\]:,<.>/;\\]")
    if not 8 <= len(plain) <= 20 or not all(re.search(each, plain) for each in classes):
        raise _rejected(
            "8 to 20 characters with a lower-case and an upper-case letter and a digit or one of"
            " ~!@#$%^&*()-_=+\\|[]:,<.>/; (docs 6420/113750)",
            _set("login.password", secret=True),
        )
    return value


class LoginAddon(Section):
    """VKE's add-on cr-credential-controller, with `login.pods: addon` (docs 6420/185959)."""

    version: AddonVersion | None = None
    """The add-on's version; null takes what VKE installs by default."""
    namespaces: Annotated[str, Field(min_length=1)] = "*"
    """The Kubernetes namespaces it works in, as the add-on takes them; `*` is all."""
    service_accounts: Annotated[str, Field(min_length=1)] = "*"
    """The service accounts it changes there, as the add-on takes them; `*` is all."""


class Login(Section):
    """The registry user's login; the API makes up the user name."""

    password: Annotated[SecretStr, AfterValidator(_login_password)] | None = None
    pods: PodLogin = PodLogin.SECRET
    addon: LoginAddon = LoginAddon()


class Cluster(Section):
    """A cluster that uses the proxy: a VKE cluster by id, or any cluster by kubeconfig."""

    name: ClusterName
    cluster_id: ClusterId | None = None
    endpoint: Endpoint = Endpoint.PUBLIC
    kubeconfig: SecretStr | None = None
    vpc_id: VpcId | None = None
    subnet_id: SubnetId | None = None
    kubernetes_version: KubernetesVersion | None = None
    ways: Annotated[list[Way], Field(max_length=3)] = [Way.ADMISSION]


class Kyverno(Section):
    """Kyverno: installed by this stack, or already there."""

    install: bool = True
    namespace: KubernetesName = "kyverno"
    chart: Annotated[str, Field(min_length=1)] = "kyverno"
    """A chart's name in `repository`, an `oci://` reference, or a path."""
    repository: str | None = None
    """A Helm repository's URL; Kyverno's own when `chart` is a bare name and this is not set."""
    version: ChartVersion = "3.9.1"
    """The chart's version; chart 3.N is Kyverno 1.(N+10). With `install: false`, what is there."""
    image_registry: RegistryHost | None = None
    """Where the cluster pulls Kyverno's own images; null leaves the chart's (reg.kyverno.io)."""
    replicas: Annotated[int, Field(ge=1)] = 3
    values: dict[str, Any] = {}
    """Chart values, merged key by key over the ones this stack sets."""

    @property
    def app_version(self) -> str:
        """The Kyverno version in the chart: chart 3.N holds Kyverno 1.(N+10)."""
        minor = int(self.version.removeprefix("v").split(".")[1])
        return f"1.{minor + 10}"

    @property
    def chart_repository(self) -> str | None:
        """The Helm repository to look the chart up in; None for a path or an OCI reference."""
        if "/" in self.chart:
            return None
        return self.repository or "https://kyverno.github.io/kyverno/"


class Exclusions(Section):
    """Pods the redirect leaves alone, beside kube-system, Kyverno's namespace and mirror Pods."""

    namespaces: list[KubernetesName] = []
    pod_labels: list[str] = []
    """Label keys whose mere presence excludes a Pod; for operators that compare images."""


class Redirect(Section):
    """The policy that rewrites Docker Hub images to the proxy at admission."""

    enabled: bool = True
    engine: Engine = Engine.CLUSTER_POLICY
    failure_policy: FailurePolicy = FailurePolicy.IGNORE
    timeout_seconds: Annotated[int, Field(ge=1, le=30)] = 2
    lookup: Lookup = Lookup.NONE
    exclude: Exclusions = Exclusions()


class NodeMirror(Section):
    """The proxy as containerd's docker.io mirror on every node of clusters that use `nodes`."""

    image: Annotated[str, Field(min_length=1)] | None = None
    """What the DaemonSet runs, a busybox; `library/busybox:latest` of the proxy when not set."""
    strict: bool = False
    """Do not fall back to Docker Hub while the proxy fails."""
    ca_certificate: str | None = None
    """The authority that signed the proxy's certificate, PEM, if nodes do not trust it already."""
    restart_command: Annotated[str, Field(min_length=1)] = "systemctl restart containerd"
    privileged: bool = False
    """Run the DaemonSet's Pods privileged, where a node's confinement asks for it."""


class PullCheck(Section):
    """Proof, from inside each cluster, that the proxy serves before Pods are redirected to it."""

    enabled: bool = True
    image: Annotated[
        str,
        _matching(
            r"[a-z0-9._-]+/[a-z0-9._/-]+:[A-Za-z0-9._-]+",
            "an image as '<namespace>/<name>:<tag>', without a registry",
            "name a small image that has a program 'true'",
        ),
    ] = "library/busybox:latest"

    @property
    def namespace(self) -> str:
        """The Docker Hub namespace of the image."""
        return self.image.partition("/")[0]


class Settings(Section):
    """Everything a stack says."""

    region: str
    registry: Registry
    dockerhub: DockerHub = DockerHub()
    login: Login = Login()
    clusters: list[Cluster] = []
    kyverno: Kyverno = Kyverno()
    redirect: Redirect = Redirect()
    pull_check: PullCheck = PullCheck()
    node_mirror: NodeMirror = NodeMirror()


def secret(value: SecretStr | None) -> pulumi.Output[str] | None:
    """A secret of the config as Pulumi takes it; None when it is not set."""
    return None if value is None else pulumi.Output.secret(value.get_secret_value())


SECTIONS = tuple(
    field.alias or name for name, field in Settings.model_fields.items() if name != "region"
)
_SECRET_FIELDS = {"password", "kubeconfig"}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One setting that cannot stand: where, what was found, what is allowed, what to do."""

    setting: str
    found: str
    allowed: str
    do: str

    def __str__(self) -> str:
        return (
            f"{self.setting}\n    found:   {self.found}\n"
            f"    allowed: {self.allowed}\n    do:      {self.do}"
        )


class SettingsError(pulumi.RunError):
    """The stack's config cannot stand; `problems` holds every reason."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        count = "1 setting" if len(problems) == 1 else f"{len(problems)} settings"
        listing = "\n  ".join(str(problem) for problem in problems)
        super().__init__(f"{count} to correct; nothing was touched\n  {listing}")


def load() -> Settings:
    """Read the current stack's config.

    Raises:
        SettingsError: with every problem found.
    """
    config = pulumi.Config(PROJECT)
    raw: dict[str, Any] = {}
    problems: list[Problem] = []
    for section in SECTIONS:
        text = config.get(section)
        if text is None:
            continue
        try:
            raw[section] = json.loads(text)
        except json.JSONDecodeError:
            problems.append(
                Problem(
                    setting=section,
                    found="text, not a structure",
                    allowed="a mapping or list in YAML",
                    do=f"write `{PROJECT}:{section}:` and its keys below it in the stack file",
                )
            )
            continue
        if not pulumi.runtime.is_config_secret(f"{PROJECT}:{section}"):
            problems += _plain_secrets(section, raw[section])
    region = pulumi.Config("volcengine").get("region")
    return parse(raw, region=region, found=problems)


def parse(raw: Mapping[str, Any], *, region: str | None, found: Iterable[Problem] = ()) -> Settings:
    """Turn plain config into `Settings`; `found` are problems known already.

    Raises:
        SettingsError: with every problem found, those in `found` first.
    """
    problems = list(found)
    if not region:
        problems.append(
            Problem(
                setting="volcengine:region",
                found="nothing",
                allowed="a Volcengine region such as cn-beijing",
                do="pulumi config set volcengine:region cn-beijing",
            )
        )
    document = {**raw, "region": region or "unset"}
    settings, refused = _validate(document)
    problems += refused
    if settings is not None:
        problems += _across(settings)
    if problems or settings is None:
        raise SettingsError(list(dict.fromkeys(problems)))
    return settings


def _validate(document: Mapping[str, Any]) -> tuple[Settings | None, list[Problem]]:
    """The settings and what was refused of them.

    What was refused is left out in further tries, so that the rules across settings are checked
    in the same run; None when nothing is left that stands.
    """
    problems: list[Problem] = []
    remainder: dict[str, Any] = deepcopy(dict(document))
    for attempt in range(3):
        try:
            return Settings.model_validate(remainder), problems
        except ValidationError as error:
            details = error.errors(include_url=False)
        if attempt == 0:
            problems = [_problem(detail) for detail in details]
        for path in sorted((each["loc"] for each in details), key=_position, reverse=True):
            _leave_out(remainder, path if attempt == 0 else _item(path))
    return None, problems


def _position(path: tuple[int | str, ...]) -> list[str]:
    """A sort key that puts later items of a list after earlier ones."""
    return [f"{part:>9}" for part in path]


def _item(path: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The path of the list item `path` leads into, or `path` itself."""
    last = max((index for index, part in enumerate(path) if isinstance(part, int)), default=None)
    return path if last is None else path[: last + 1]


def _leave_out(node: Any, path: tuple[int | str, ...]) -> None:
    """Remove what `path` leads to, if it is there."""
    *parents, last = path
    for key in parents:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(node, dict):
        node.pop(last, None)
    elif isinstance(node, list) and isinstance(last, int) and last < len(node):
        del node[last]


def _problem(detail: ErrorDetails) -> Problem:
    """Say a refusal of the model in the words a user needs."""
    path = detail["loc"]
    setting = _written(path)
    kind, context = detail["type"], detail.get("ctx", {})
    hidden = any(part in _SECRET_FIELDS for part in path)
    found = "a secret (not shown)" if hidden else _shown(detail["input"])
    if kind == "extra_forbidden":
        known = [field.alias or name for name, field in _model_at(path[:-1]).model_fields.items()]
        near = difflib.get_close_matches(str(path[-1]), known, n=1)
        do = f"did you mean '{near[0]}'?" if near else "remove it"
        return Problem(
            setting=setting, found="an unknown key", allowed=", ".join(sorted(known)), do=do
        )
    if kind == "missing":
        return Problem(
            setting=setting, found="nothing", allowed="a value is required", do=_set(setting)
        )
    if kind == "rule":
        return Problem(setting=setting, found=found, allowed=context["allowed"], do=context["do"])
    allowed = str(context.get("expected", detail["msg"]))
    return Problem(setting=setting, found=found, allowed=allowed, do=_set(setting))


def _model_at(path: tuple[int | str, ...]) -> type[BaseModel]:
    """The model whose keys stand at `path`."""
    models: dict[str, type[BaseModel]] = {
        "registry": Registry,
        "namespaces": DockerHubNamespace,
        "extraVpcs": Vpc,
        "dockerhub": DockerHub,
        "login": Login,
        "addon": LoginAddon,
        "clusters": Cluster,
        "kyverno": Kyverno,
        "redirect": Redirect,
        "exclude": Exclusions,
        "pullCheck": PullCheck,
        "nodeMirror": NodeMirror,
    }
    names = [part for part in path if isinstance(part, str)]
    return models[names[-1]] if names else Settings


def _written(path: tuple[int | str, ...]) -> str:
    """A setting's path as `pulumi config set --path` takes it."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _shown(value: Any) -> str:
    """A value for an error message; structures are named, not printed: they may hold secrets."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list):
        return "an empty list" if not value else f"a list of {len(value)}"
    return "nothing" if value is None else repr(value)


def _set(setting: str, value: str = "<value>", *, secret: bool = False) -> str:
    """The command that sets a setting."""
    flag = "--secret " if secret else ""
    return f"pulumi config set {flag}--path '{PROJECT}:{setting}'" + ("" if secret else f" {value}")


def _plain_secrets(section: str, value: Any, path: tuple[int | str, ...] = ()) -> list[Problem]:
    """Secrets that stand in the stack file in plain."""
    problems: list[Problem] = []
    items: Iterable[tuple[int | str, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, child in items:
        here = (*path, key)
        if key in _SECRET_FIELDS and child:
            setting = _written((section, *here))
            problems.append(
                Problem(
                    setting=setting,
                    found="a secret in plain text (not shown)",
                    allowed="an encrypted value",
                    do=f"change this secret, it was in a file; then {_set(setting, secret=True)}",
                )
            )
        else:
            problems += _plain_secrets(section, child, here)
    return problems


def _across(settings: Settings) -> Iterator[Problem]:
    """The rules that hold between settings."""
    registry = settings.registry
    yield from _once(
        "registry.namespaces", "namespace", (each.name for each in registry.namespaces)
    )
    yield from _once("registry.extraVpcs", "VPC", (each.vpc_id for each in registry.extra_vpcs))
    yield from _once("clusters", "cluster name", (each.name for each in settings.clusters))
    yield from _credential_rules(settings)
    yield from _network_rules(settings)
    for index, cluster in enumerate(settings.clusters):
        yield from _cluster_rules(settings, cluster, f"clusters[{index}]")
    yield from _kyverno_rules(settings)
    if settings.redirect.enabled:
        yield from _engine_rules(settings)
    if settings.clusters:
        yield from _pull_rules(settings)
    yield from _addon_rules(settings)
    yield from _vci_rules(settings)


def _once(setting: str, what: str, values: Iterable[str]) -> Iterator[Problem]:
    """Each value of a list once."""
    found = Counter(values)
    twice = ", ".join(sorted(value for value, count in found.items() if count > 1))
    if twice:
        yield Problem(
            setting=setting,
            found=f"a list of {found.total()}",
            allowed=f"each {what} once; more than once here: {twice}",
            do=f"remove {twice} where it stands again",
        )


def _credential_rules(settings: Settings) -> Iterator[Problem]:
    dockerhub = settings.dockerhub
    if dockerhub.username and not dockerhub.password:
        yield Problem(
            setting="dockerhub.password",
            found=f"nothing, with username {dockerhub.username!r}",
            allowed="username and password together, or neither (page)",
            do=_set("dockerhub.password", secret=True),
        )
    if dockerhub.password and not dockerhub.username:
        yield Problem(
            setting="dockerhub.username",
            found="nothing, with a password",
            allowed="username and password together, or neither (page)",
            do=_set("dockerhub.username"),
        )
    if not dockerhub.username and not dockerhub.password:
        for index, namespace in enumerate(settings.registry.namespaces):
            if namespace.name != "library":
                yield Problem(
                    setting=f"registry.namespaces[{index}]",
                    found=repr(namespace.name),
                    allowed="only 'library' without Docker Hub credentials (page)",
                    do="set dockerhub.username and dockerhub.password, or remove the namespace",
                )


def _network_rules(settings: Settings) -> Iterator[Problem]:
    registry, clusters = settings.registry, settings.clusters
    if registry.edition is Edition.MICRO:
        if registry.extra_vpcs:
            yield Problem(
                setting="registry.extraVpcs",
                found=f"a list of {len(registry.extra_vpcs)}",
                allowed="none with edition Micro: it is reached from the whole region (page)",
                do="remove registry.extraVpcs, or set registry.edition to Enterprise",
            )
        return
    if not clusters and not registry.extra_vpcs:
        quota = STANDARD_REGISTRY_QUOTA.get(settings.region)
        note = f" ({settings.region} allows {quota} per account)" if quota else ""
        yield Problem(
            setting="clusters",
            found="no cluster and no registry.extraVpcs",
            allowed=f"at least one VPC with edition Enterprise{note} (page)",
            do="add a cluster or a registry.extraVpcs entry",
        )
    subnets: dict[str, tuple[str, str | None]] = {
        vpc.vpc_id: (f"registry.extraVpcs[{index}]", vpc.subnet_id)
        for index, vpc in enumerate(registry.extra_vpcs)
    }
    for index, cluster in enumerate(clusters):
        setting = f"clusters[{index}]"
        if cluster.kubeconfig and not cluster.vpc_id:
            yield Problem(
                setting=f"{setting}.vpcId",
                found="nothing, with a kubeconfig and edition Enterprise",
                allowed="the cluster's VPC, which the registry must let in (page)",
                do=_set(f"{setting}.vpcId"),
            )
        if not cluster.vpc_id:
            continue
        where, subnet = subnets.setdefault(cluster.vpc_id, (setting, cluster.subnet_id))
        if where.startswith("registry.") or subnet != cluster.subnet_id:
            yield Problem(
                setting=f"{setting}.vpcId",
                found=f"{cluster.vpc_id!r}, as in {where}",
                allowed="each VPC once, with one subnet (API: UpdateVpcEndpoint)",
                do=f"give both the same subnetId, or remove {where}",
            )


def _cluster_rules(settings: Settings, cluster: Cluster, setting: str) -> Iterator[Problem]:
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
            do=_set(f"{setting}.{'subnetId' if cluster.vpc_id else 'vpcId'}"),
        )
    earlier = [other for other in settings.clusters if other.cluster_id == cluster.cluster_id]
    if cluster.cluster_id and earlier[0] is not cluster:
        yield Problem(
            setting=f"{setting}.clusterId",
            found=f"{cluster.cluster_id!r}, as in cluster {earlier[0].name!r}",
            allowed="each cluster once",
            do="remove one of the two",
        )


def _kyverno_rules(settings: Settings) -> Iterator[Problem]:
    kyverno = settings.kyverno
    if kyverno.replicas == 2:
        yield Problem(
            setting="kyverno.replicas",
            found="2",
            allowed="1, or 3 and more (Kyverno docs, high availability)",
            do=_set("kyverno.replicas", "3"),
        )
    if "/" in kyverno.chart and kyverno.repository is not None:
        yield Problem(
            setting="kyverno.repository",
            found=repr(kyverno.repository),
            allowed="nothing when kyverno.chart is a path or an OCI reference (Helm)",
            do="remove kyverno.repository",
        )


def _engine_rules(settings: Settings) -> Iterator[Problem]:
    engine, kyverno = settings.redirect.engine, settings.kyverno.app_version
    if settings.redirect.lookup is Lookup.REGISTRY and engine is not Engine.CLUSTER_POLICY:
        yield Problem(
            setting="redirect.lookup",
            found=f"'registry', with engine {engine}",
            allowed="'registry' with engine ClusterPolicy only",
            do="set redirect.lookup to none, or redirect.engine to ClusterPolicy",
        )
    for index, cluster in enumerate(settings.clusters):
        if Way.ADMISSION not in cluster.ways:
            continue
        version = cluster.kubernetes_version
        if not engine.needs_kyverno and version is None:
            yield Problem(
                setting=f"clusters[{index}].kubernetesVersion",
                found=f"nothing, with engine {engine}",
                allowed="the cluster's version: it decides the API version of the policy",
                do=_set(f"clusters[{index}].kubernetesVersion", "1.36"),
            )
        reason = unavailable(engine, kubernetes_version=version, kyverno_version=kyverno)
        if reason:
            allowed, _, do = reason.partition(". ")
            yield Problem(
                setting="redirect.engine",
                found=f"{engine.value!r}, for cluster {cluster.name!r}",
                allowed=allowed,
                do=do,
            )


def _pull_rules(settings: Settings) -> Iterator[Problem]:
    served = sorted(each.name for each in settings.registry.namespaces)
    private = settings.registry.private_namespaces
    redirect = settings.redirect
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
    if private and settings.login.password is None:
        yield Problem(
            setting="login.password",
            found=f"nothing, with private namespaces: {', '.join(private)}",
            allowed="a password: nobody pulls from a private namespace without a login (page)",
            do=f"{_set('login.password', secret=True)}, or give the namespaces access: Public",
        )
    nodes = any(Way.NODES in each.ways for each in settings.clusters)
    if nodes and settings.node_mirror.image is None and "library" not in served:
        yield Problem(
            setting="nodeMirror.image",
            found="nothing, with namespace library not served",
            allowed="an image the nodes can pull; the default is the proxy's library/busybox",
            do=_set("nodeMirror.image"),
        )
    check = settings.pull_check
    if check.enabled and check.namespace not in served:
        yield Problem(
            setting="pullCheck.image",
            found=repr(check.image),
            allowed=f"an image of a namespace served here: {', '.join(served)}",
            do=f"{_set('pullCheck.image')}, or set pullCheck.enabled to false",
        )


def _addon_rules(settings: Settings) -> Iterator[Problem]:
    login = settings.login
    if login.pods is not PodLogin.ADDON:
        if login.addon != LoginAddon():
            yield Problem(
                setting="login.addon",
                found=f"settings of the add-on, with login.pods {login.pods.value!r}",
                allowed="them only with login.pods: addon",
                do=f"remove login.addon, or {_set('login.pods', PodLogin.ADDON.value)}",
            )
        return
    for index, cluster in enumerate(settings.clusters):
        if cluster.kubeconfig and not cluster.cluster_id:
            yield Problem(
                setting=f"clusters[{index}].clusterId",
                found="a kubeconfig alone, with login.pods 'addon'",
                allowed="VKE clusters by id: VKE installs its add-on there (API: CreateAddon)",
                do="give clusterId instead of kubeconfig, or set login.pods to secret",
            )


def _vci_rules(settings: Settings) -> Iterator[Problem]:
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
        reason = unavailable(
            Engine.CLUSTER_POLICY,
            kubernetes_version=cluster.kubernetes_version,
            kyverno_version=settings.kyverno.app_version,
        )
        said_already = settings.redirect.enabled and engine is Engine.CLUSTER_POLICY
        if reason and not (said_already and Way.ADMISSION in cluster.ways):
            yield Problem(
                setting="kyverno.version",
                found=f"{settings.kyverno.version!r}, with the way 'vci'",
                allowed=reason.partition(". ")[0],
                do="set kyverno.version to 3.9.1",
            )


def _unreadable_images(settings: Settings) -> Iterator[str]:
    """Where Kyverno denies Pods with an image reference it cannot read; see `reads_every_image`."""
    kyverno = settings.kyverno.app_version
    used = settings.redirect.enabled and settings.redirect.engine is Engine.CLUSTER_POLICY
    if not reads_every_image(kyverno):
        return
    for cluster in settings.clusters:
        asked = Way.VCI in cluster.ways or (used and Way.ADMISSION in cluster.ways)
        if asked and not has_match_conditions(kyverno, cluster.kubernetes_version):
            yield (
                f"kyverno.version {settings.kyverno.version} is Kyverno {kyverno}: in cluster"
                f" {cluster.name!r} it denies every Pod with an invalid image reference, whatever"
                " redirect.failurePolicy says. Set it to 3.3.0 or newer."
            )


def warnings(settings: Settings) -> list[str]:
    """What may go wrong though the config stands."""
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
    notes.extend(_unreadable_images(settings))
    if settings.registry.replacement_allowed():
        notes.append(
            "registry.allowReplacementOn is today: every `pulumi up` until the day ends (UTC)"
            " replaces the registry, also where no setting has changed, and its cache is lost. Take"
            " the date out after one."
        )
    return notes
