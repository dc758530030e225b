"""The shape of the stack's inputs, section by section."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic.alias_generators import to_camel

from components.types import Access, Edition, Endpoint, Engine, FailurePolicy, PodLogin, Way
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
    LabelKey,
    LoginPassword,
    Lookup,
    NamespaceName,
    RegistryHost,
    RegistryName,
    SubnetId,
    VpcId,
    matching,
)


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
    project: Annotated[str, Field(min_length=1)] = "default"
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
    password: Annotated[SecretStr, Field(min_length=1)] | None = None


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

    password: LoginPassword | None = None
    pods: PodLogin = PodLogin.SECRET
    addon: LoginAddon = LoginAddon()


class Cluster(Section):
    """A cluster that uses the proxy: a VKE cluster by id, or any cluster by kubeconfig."""

    name: ClusterName
    cluster_id: ClusterId | None = None
    endpoint: Endpoint = Endpoint.PUBLIC
    kubeconfig: Kubeconfig | None = None
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
    repository: HelmRepository | None = None
    """A Helm repository's URL; Kyverno's own when `chart` is a bare name and this is not set."""
    version: ChartVersion = "3.9.1"
    """The chart's version; chart 3.N is Kyverno 1.(N+10). With `install: false`, what is there."""
    image_registry: RegistryHost | None = None
    """Where the cluster pulls Kyverno's own images; null leaves the chart's (reg.kyverno.io)."""
    replicas: Annotated[int, Field(ge=1, strict=True)] = 3
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
    pod_labels: list[LabelKey] = []
    """Label keys whose mere presence excludes a Pod; for operators that compare images."""


class Redirect(Section):
    """The policy that rewrites Docker Hub images to the proxy at admission."""

    enabled: bool = True
    engine: Engine = Engine.CLUSTER_POLICY
    failure_policy: FailurePolicy = FailurePolicy.IGNORE
    timeout_seconds: Annotated[int, Field(ge=1, le=30, strict=True)] = 2
    lookup: Lookup = Lookup.NONE
    exclude: Exclusions = Exclusions()


class NodeMirror(Section):
    """The proxy as containerd's docker.io mirror on every node of clusters that use `nodes`."""

    image: Annotated[str, Field(min_length=1)] | None = None
    """What the DaemonSet runs, a busybox; `library/busybox:latest` of the proxy when not set."""
    strict: bool = False
    """Do not fall back to Docker Hub while the proxy fails."""
    ca_certificate: Certificate | None = None
    """The authority that signed the proxy's certificate, PEM, if nodes do not trust it already."""
    restart_command: Annotated[str, Field(min_length=1)] = "systemctl restart containerd"
    privileged: bool = False
    """Run the DaemonSet's Pods privileged, where a node's confinement asks for it."""


class PullCheck(Section):
    """Proof, from inside each cluster, that the proxy serves before Pods are redirected to it."""

    enabled: bool = True
    image: Annotated[
        str,
        matching(
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

    region: Annotated[str, Field(alias="volcengine:region")]
    registry: Registry
    dockerhub: DockerHub = DockerHub()
    login: Login = Login()
    clusters: list[Cluster] = []
    kyverno: Kyverno = Kyverno()
    redirect: Redirect = Redirect()
    pull_check: PullCheck = PullCheck()
    node_mirror: NodeMirror = NodeMirror()


SECTIONS = tuple(
    field.alias or name for name, field in Settings.model_fields.items() if name != "region"
)
