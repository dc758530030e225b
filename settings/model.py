"""The shape of the stack's inputs, section by section.

A new setting is a field here, with its default and a docstring, and a line in the table of both
READMEs; `make schema` then writes it into the schema of the stack files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from components.policy import minor
from components.types import (
    DOCKER_HUB,
    Access,
    Edition,
    Endpoint,
    Engine,
    FailurePolicy,
    PodLogin,
    Way,
)
from settings.errors import Problem, SettingsError, problems_of
from settings.types import (
    AddonVersion,
    Certificate,
    ChartVersion,
    ClusterId,
    ClusterName,
    HelmRepository,
    Kubeconfig,
    KubernetesName,
    KubernetesVersion,
    LoginPassword,
    Matching,
    NamespaceName,
    NodesAtATime,
    PodLabel,
    Region,
    RegistryHost,
    RegistryName,
    Replicas,
    Secret,
    SubnetId,
    UpstreamEndpoint,
    UpstreamHost,
    VpcId,
    each_once,
)

KYVERNO_IMAGES: Final = ("ghcr.io", "kyverno")
"""The registry and namespace of Kyverno's images; the chart's reg.kyverno.io leads there."""

NonEmpty = Annotated[str, Field(min_length=1)]
PullCheckImage = Annotated[
    str,
    Matching(
        r"[a-z0-9._-]+/[a-z0-9._/-]+:[A-Za-z0-9._-]+",
        "an image as '<namespace>/<name>:<tag>', without a registry",
        "name a small image that has a program 'true'",
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


class Namespace(Section):
    """A namespace of a proxy registry, of the same name as at its upstream."""

    name: NamespaceName
    """The name at the upstream; `library` for Docker Hub's official images."""
    access: Access = Access.PRIVATE
    """Who may pull from it; from a private one, nobody without a login."""


def _namespace_from_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


NamespaceOrName = Annotated[
    Namespace,
    BeforeValidator(_namespace_from_name, json_schema_input_type=NamespaceName | Namespace),
]
"""A namespace, or its name alone for a private one."""


class Vpc(Section):
    """A VPC let in beside the clusters' own, for example one of build machines."""

    vpc_id: VpcId
    """The VPC's id."""
    subnet_id: SubnetId
    """The subnet in which the registry gets an address."""


class Registry(Section):
    """A remote proxy registry of Container Registry; the section `registry` is Docker Hub's."""

    name: RegistryName
    """The registry's name, a part of its domain."""
    edition: Edition = Edition.MICRO
    """Micro is reached from the whole region, Enterprise from the VPCs that are let in."""
    namespaces: Annotated[
        list[NamespaceOrName],
        Field(min_length=1),
        each_once("namespace", lambda namespace: namespace.name),
    ]
    """The upstream's namespaces to serve."""
    project: NonEmpty = "default"
    """The Volcengine project the registry belongs to."""
    tags: dict[str, str] = {}
    """Resource tags of the registry."""
    protection: bool = True
    """Refuse to delete the registry, and with it its cache, by `pulumi destroy`."""
    allow_replacement_on: date | None = None
    """The one day (UTC) on which the registry may be replaced and its cache lost."""
    extra_vpcs: Annotated[list[Vpc], each_once("VPC", lambda vpc: vpc.vpc_id)] = []
    """VPCs to let in beside the clusters' own."""

    @property
    def private_namespaces(self) -> list[str]:
        """The namespaces nobody pulls from without a login, sorted."""
        return sorted(each.name for each in self.namespaces if each.access is Access.PRIVATE)

    def replacement_allowed(self, today: date | None = None) -> bool:
        """Whether a change that replaces the registry may do so today (UTC)."""
        return self.allow_replacement_on == (today or datetime.now(UTC).date())


class DockerHub(Section):
    """The Docker Hub account with which the proxy pulls."""

    username: NonEmpty | None = None
    """The account's name; without one only the namespace `library` can be served."""
    password: Annotated[Secret, Field(min_length=1)] | None = None
    """The account's password or access token."""


class Upstream(Registry):
    """A further proxy registry, of another upstream than Docker Hub."""

    host: UpstreamHost
    """The upstream, as images name it: `ghcr.io`."""
    username: NonEmpty | None = None
    """The account at the upstream to pull with; without one, anonymously."""
    password: Annotated[Secret, Field(min_length=1)] | None = None
    """The account's password or access token."""
    type: NonEmpty = "DockerRegistry"
    """The API's word for the kind of upstream."""
    endpoint: UpstreamEndpoint | None = None
    """The upstream's URL; `https://<host>` when not set."""
    pull_check_image: PullCheckImage | None = None
    """What each cluster pulls through this proxy, an image with a program `true`."""


@dataclass(frozen=True, kw_only=True)
class ProxySettings:
    """One of the stack's proxy registries: what is set of it, and where."""

    host: str
    """The registry it is a proxy of, as images name it."""
    setting: str
    """The section it is set in, as `pulumi config set --path` takes it."""
    registry: Registry
    account: DockerHub | Upstream
    """Where its `username` and `password` at the upstream are."""
    account_setting: str
    """The section of the account."""
    pull_check_setting: str
    """The setting of the image that the pull check pulls."""
    pull_check_image: str | None
    """That image."""

    @property
    def resource_name(self) -> str:
        """The name of its components to Pulumi."""
        return "dockerhub" if self.host == DOCKER_HUB else self.host

    @property
    def example(self) -> str:
        """An image it serves, without its domain."""
        if self.serves(DOCKER_HUB, "library"):
            return "library/nginx:latest"
        return f"{self.registry.namespaces[0].name}/<image>:<tag>"

    def serves(self, host: str, namespace: str) -> bool:
        """Whether this is the proxy of a registry, and has its namespace."""
        return host == self.host and namespace in {each.name for each in self.registry.namespaces}


class LoginAddon(Section):
    """VKE's add-on cr-credential-controller, with `login.pods: addon` (docs 6420/185959)."""

    version: AddonVersion | None = None
    """The add-on's version; null takes what VKE installs by default."""
    namespaces: NonEmpty = "*"
    """The Kubernetes namespaces it works in, as the add-on takes them; `*` is all."""
    service_accounts: NonEmpty = "*"
    """The service accounts it changes there, as the add-on takes them; `*` is all."""


class Login(Section):
    """The registry user's login; the API chooses the user name."""

    password: LoginPassword | None = None
    """The registry user's password; needed for private namespaces."""
    pods: PodLogin = PodLogin.SECRET
    """How Pods get the login for private namespaces."""
    addon: LoginAddon = LoginAddon()
    """The add-on, with `pods: addon`."""


class Cluster(Section):
    """A cluster that uses the proxy: a VKE cluster by id, or any cluster by kubeconfig."""

    name: ClusterName
    """A name of its own, for outputs and resource names."""
    cluster_id: ClusterId | None = None
    """A VKE cluster's id; its VPC and kubeconfig are looked up."""
    endpoint: Endpoint = Endpoint.PUBLIC
    """Which of the VKE cluster's API server addresses to use."""
    kubeconfig: Kubeconfig | None = None
    """A kubeconfig in place of `clusterId`, for a cluster that is not VKE's."""
    vpc_id: VpcId | None = None
    """The cluster's VPC, with `kubeconfig`."""
    subnet_id: SubnetId | None = None
    """A subnet of that VPC, with `kubeconfig`."""
    kubernetes_version: KubernetesVersion | None = None
    """The cluster's Kubernetes version; engine MutatingAdmissionPolicy needs it."""
    ways: Annotated[list[Way], Field(max_length=3)] = [Way.ADMISSION]
    """How the cluster uses the proxy."""


class Kyverno(Section):
    """Kyverno: installed by this stack, or already there."""

    install: bool = True
    """Install it; false uses the Kyverno that is there."""
    namespace: KubernetesName = "kyverno"
    """The Kubernetes namespace it is in."""
    chart: NonEmpty = "kyverno"
    """A chart's name in `repository`, an `oci://` reference, or a path."""
    repository: HelmRepository | None = None
    """A Helm repository's URL; Kyverno's own when `chart` is a bare name and this is not set."""
    version: ChartVersion = "3.9.1"
    """The chart's version; chart 3.N is Kyverno 1.(N+10). With `install: false`, what is there."""
    image_registry: RegistryHost | None = None
    """Where the cluster pulls Kyverno's own images; null: through the proxy of ghcr.io if it serves
    `kyverno` (charts from 3.8 on), else from where the chart says (reg.kyverno.io)."""
    replicas: Annotated[Replicas, Field(ge=1, strict=True)] = 3
    """Admission controllers: 1, or 3 and more."""
    values: dict[str, Any] = {}
    """Chart values, merged key by key over the ones this stack sets."""

    @property
    def app_version(self) -> str:
        """The Kyverno version in the chart: chart 3.N holds Kyverno 1.(N+10)."""
        minor = int(self.version.removeprefix("v").split(".")[1])
        return f"1.{minor + 10}"

    @property
    def has_own_images_only(self) -> bool:
        """Whether all of the chart's images are in `KYVERNO_IMAGES`: from chart 3.8 on."""
        return minor(self.app_version) >= 18

    @property
    def image_tag(self) -> str:
        """The tag of the images in the chart."""
        return f"v{self.app_version}.{self.version.removeprefix('v').split('.', 2)[2]}"

    @property
    def chart_repository(self) -> str | None:
        """The Helm repository to look the chart up in; None for a path or an OCI reference."""
        if "/" in self.chart:
            return None
        return self.repository or "https://kyverno.github.io/kyverno/"


class Exclusions(Section):
    """Pods the redirect leaves alone, beside kube-system, Kyverno's namespace and mirror Pods."""

    namespaces: list[KubernetesName] = []
    """Kubernetes namespaces whose Pods are left alone."""
    pod_labels: list[PodLabel] = []
    """Labels, `key` or `key=value`, of Pods left alone; for operators that compare images."""


class Redirect(Section):
    """The policy that rewrites images to the proxies at admission."""

    enabled: bool = True
    """Whether clusters that use `admission` get the policy."""
    engine: Engine = Engine.CLUSTER_POLICY
    """The kind of the policy: Kyverno's, or Kubernetes' own MutatingAdmissionPolicy."""
    failure_policy: FailurePolicy = FailurePolicy.IGNORE
    """What happens to a Pod while the engine does not answer."""
    timeout_seconds: Annotated[int, Field(ge=1, le=30, strict=True)] = 2
    """How long a Pod waits for an engine that does not answer."""
    every_new_pod: Annotated[bool, Field(strict=True)] = False
    """Call Kyverno for every new Pod, so that it is called again for what injectors add later."""
    warn_unserved: Annotated[bool, Field(strict=True)] | None = None
    """Warn whoever writes an image no proxy serves; null: where Kubernetes is known to be 1.30."""
    exclude: Exclusions = Exclusions()
    """Pods the redirect leaves alone."""


class NodeMirror(Section):
    """The proxies as containerd's mirrors on every node of clusters that use `nodes`."""

    image: NonEmpty | None = None
    """What the DaemonSet runs, a busybox; Docker Hub's `library/busybox:latest`, through its proxy,
    when not set."""
    strict: bool = False
    """Never ask the registries themselves, not even for namespaces that no proxy serves."""
    ca_certificate: Certificate | None = None
    """The authority that signed the proxies' certificates, PEM, if nodes do not trust it."""
    restart_command: NonEmpty = "systemctl restart containerd"
    """What restarts containerd, where its config.toml has to change."""
    interval_seconds: Annotated[int, Field(ge=5, le=3600, strict=True)] = 30
    """Time between two looks of a Pod at its node and the proxies."""
    restart_window_seconds: Annotated[int, Field(ge=0, le=3600, strict=True)] = 300
    """The time over which nodes that have to restart containerd at once spread it."""
    max_unavailable: NodesAtATime = 1
    """How many nodes get an updated Pod at a time: a number, or a percentage such as `10%`."""
    privileged: bool = False
    """Run the DaemonSet's Pods privileged, where a node's confinement asks for it."""


class PullCheck(Section):
    """Proof, from inside each cluster, that a proxy serves before Pods are redirected to it."""

    enabled: bool = True
    """Whether it runs."""
    image: PullCheckImage = "library/busybox:latest"
    """What each cluster pulls through Docker Hub's proxy."""


class Settings(Section):
    """Everything a stack says."""

    region: Annotated[Region, Field(alias="volcengine:region")]
    """The Volcengine region, such as cn-beijing."""
    registry: Registry
    dockerhub: DockerHub = DockerHub()
    upstreams: Annotated[list[Upstream], each_once("host", lambda upstream: upstream.host)] = []
    """Further proxy registries, of other upstreams than Docker Hub."""
    login: Login = Login()
    clusters: Annotated[list[Cluster], each_once("cluster name", lambda cluster: cluster.name)] = []
    """The clusters that use the proxy."""
    kyverno: Kyverno = Kyverno()
    redirect: Redirect = Redirect()
    pull_check: PullCheck = PullCheck()
    node_mirror: NodeMirror = NodeMirror()

    @property
    def proxies(self) -> list[ProxySettings]:
        """All proxy registries: Docker Hub's, then the others by host, in whatever order written.

        So nothing that is made of them changes with the order.
        """
        upstreams = [
            ProxySettings(
                host=each.host,
                setting=f"upstreams[{index}]",
                registry=each,
                account=each,
                account_setting=f"upstreams[{index}]",
                pull_check_setting=f"upstreams[{index}].pullCheckImage",
                pull_check_image=each.pull_check_image,
            )
            for index, each in enumerate(self.upstreams)
        ]
        hub = ProxySettings(
            host=DOCKER_HUB,
            setting="registry",
            registry=self.registry,
            account=self.dockerhub,
            account_setting="dockerhub",
            pull_check_setting="pullCheck.image",
            pull_check_image=self.pull_check.image,
        )
        return [hub, *sorted(upstreams, key=lambda each: each.host)]

    @property
    def private_namespaces(self) -> list[str]:
        """The namespaces of all proxies nobody pulls from without a login, as images name them."""
        return [
            name if each.host == DOCKER_HUB else f"{each.host}/{name}"
            for each in self.proxies
            for name in each.registry.private_namespaces
        ]

    @property
    def kyverno_proxy(self) -> ProxySettings | None:
        """The proxy that Kyverno's own images come from, unless the settings say from where."""
        if self.kyverno.image_registry is not None or not self.kyverno.has_own_images_only:
            return None
        return next((each for each in self.proxies if each.serves(*KYVERNO_IMAGES)), None)


SECTIONS = tuple(
    field.alias or name for name, field in Settings.model_fields.items() if name != "region"
)


def validate(
    sections: Mapping[str, Any], *, region: str | None, found: Sequence[Problem] = ()
) -> Settings:
    """Settings that are valid each by itself; the rules between them are not checked.

    Raises:
        SettingsError: with every problem found, those in `found` first.
    """
    problems = {each.setting: each for each in found}
    try:
        settings = Settings.model_validate({**sections, "volcengine:region": region})
    except ValidationError as error:
        for each in problems_of(error, Settings):
            problems.setdefault(each.setting, each)
    if problems:
        raise SettingsError(list(problems.values()))
    return settings
