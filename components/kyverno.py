"""Kyverno: the policy engine, as a Helm release in a namespace of its own."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.api_server import ApiServer, ApiServerError
from components.inputs import NOT_RECORDED, inputs
from components.labels import LABELS

RELEASE = "kyverno"
"""The Helm release's name; the chart derives the names of everything from it."""

CHECK_IMAGE: Final = "kyverno/kyverno-cli"
"""Of Kyverno's own images the one that ends by itself: none has a shell or a program `true`."""
CHECK_ARGUMENTS: Final = ("version",)
"""What it is run with for that."""

_HOOKS = ("webhooksCleanup", "policyReportsCleanup")
"""The chart's parts whose Jobs run at an upgrade or before Kyverno goes."""


@dataclass(frozen=True, kw_only=True)
class KyvernoArgs:
    """Which Kyverno to install, and where it pulls its own images."""

    chart: str
    """A chart's name in `repository`, an `oci://` reference, or a path."""
    version: str
    """The chart's exact version."""
    repository: str | None = None
    """The Helm repository's URL; None when `chart` is a path or an OCI reference."""
    namespace: str
    """The namespace created for it."""
    image_registry: pulumi.Input[str] | None = None
    """The registry of Kyverno's own images; None leaves the chart's."""
    image_login: pulumi.Input[str] | None = None
    """A Docker config that logs in there, secret; None where no login is needed."""
    webhook_timeout_seconds: int
    """The least time the API server waits for Kyverno, for any policy; seconds, 1 to 30."""
    replicas: int
    """Replicas of the admission controller, 1 or at least 3."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Chart values merged, key by key, over this component's own."""
    kubeconfig: pulumi.Input[str] = field(default="", metadata=NOT_RECORDED)
    """The cluster's kubeconfig, secret: by it a Kyverno of somebody else's is seen."""


class Kyverno(pulumi.ComponentResource):
    """Kyverno in its own namespace, awaited until its controllers are ready.

    Kyverno's Pods never wait on a policy of Kyverno: its webhooks leave out its own namespace and
    kube-system, so it can start, and be upgraded, while it is down. Its CRDs stay when it goes, for
    with them would go every policy in the cluster, whoever created it.
    """

    namespace: pulumi.Output[str]
    """The namespace Kyverno runs in, known once the release is ready."""
    version: pulumi.Output[str]
    """The chart version installed, known once the release is ready."""

    def __init__(
        self, name: str, args: KyvernoArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:Kyverno", name, inputs(args), opts)

        preview = pulumi.runtime.is_dry_run()

        async def free(_: pulumi.ResourceHookArgs) -> None:
            kubeconfig = await pulumi.Output.from_input(args.kubeconfig).future()
            if kubeconfig is None:  # a first preview knows none of a cluster still to be created
                return
            await asyncio.to_thread(
                check_free, ApiServer(kubeconfig), args.namespace, preview=preview
            )

        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={"name": args.namespace, "labels": LABELS},
            opts=pulumi.ResourceOptions(
                parent=self,
                delete_before_replace=True,
                hooks=pulumi.ResourceHookBinding(
                    before_create=[
                        pulumi.ResourceHook(
                            f"{name}-free", free, pulumi.ResourceHookOptions(on_dry_run=True)
                        )
                    ]
                ),
            ),
        )
        secrets: list[pulumi.Input[str]] = []
        if args.image_login is not None:
            login = kubernetes.core.v1.Secret(
                f"{name}-image-login",
                metadata={
                    "name": "kyverno-image-login",
                    "namespace": namespace.metadata.name,
                    "labels": LABELS,
                },
                type="kubernetes.io/dockerconfigjson",
                string_data={".dockerconfigjson": args.image_login},
                opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
            )
            secrets.append(login.metadata.name)
        release = kubernetes.helm.v3.Release(
            f"{name}-release",
            name=RELEASE,
            namespace=namespace.metadata.name,
            chart=args.chart,
            version=args.version,
            repository_opts={"repo": args.repository} if args.repository else None,
            values=chart_values(args, secrets),
            timeout=600,
            # CRDs that a release in another namespace left; nobody else's, or `free` had refused.
            take_ownership=True,
            opts=pulumi.ResourceOptions(parent=self, delete_before_replace=True),
        )
        self.namespace = release.status.namespace
        self.version = release.status.version
        self.register_outputs({"namespace": self.namespace, "version": self.version})


def chart_values(
    args: KyvernoArgs, pull_secrets: Sequence[pulumi.Input[str]] = ()
) -> dict[str, Any]:
    """The values of the Kyverno chart; `pull_secrets` are names of Secrets for its images.

    The defaults make it highly available: several admission controllers, two of each other
    controller; the chart spreads them over nodes and gives them a disruption budget.
    """
    several = args.replicas > 1
    left_out = {
        "namespaceSelector": {
            "matchExpressions": [
                {
                    "key": "kubernetes.io/metadata.name",
                    "operator": "NotIn",
                    "values": sorted({"kube-system", args.namespace}),
                }
            ]
        }
    }
    minor = int(args.version.removeprefix("v").split(".")[1])
    values: dict[str, Any] = {
        "admissionController": {
            "replicas": args.replicas,
            "container": {"extraArgs": {"webhookTimeout": args.webhook_timeout_seconds}},
        },
        "backgroundController": {"replicas": 2 if several else 1},
        "cleanupController": {"replicas": 2 if several else 1},
        "reportsController": {"replicas": 2 if several else 1},
        "config": {"webhooks": left_out},
    }
    for crds in ("crds", "kyverno-api"):  # in two charts from 3.7 on
        values[crds] = {"annotations": {"helm.sh/resource-policy": "keep"}}
    if minor < 5:  # its hooks' image was moved there, its Pods' were not
        for hook in _HOOKS:
            values[hook] = {"image": {"repository": "bitnamilegacy/kubectl"}}
    if args.image_registry:
        registry = {"image": {"registry": args.image_registry}}
        for part in ("global", "test", *_HOOKS):  # hooks have registries of their own
            values[part] = merged(values.get(part, {}), registry)
    if pull_secrets:
        secrets = [{"name": each} for each in pull_secrets]
        values["global"] = merged(values.get("global", {}), {"imagePullSecrets": secrets})
    return merged(values, args.values)


def check_free(api: ApiServer, namespace: str, *, preview: bool = False) -> None:
    """See that Kyverno can be installed without touching what is somebody else's.

    A preview finds this stack's own where `namespace` changes: the update takes it away first.

    Raises:
        pulumi.RunError: when the namespace or another Kyverno is there already; says what to do.
        ApiServerError: when the API server does not answer, or refuses.
    """
    component = "app.kubernetes.io/component=admission-controller"
    found = api.get("/apis/apps/v1/deployments", labelSelector=component)
    running = [
        each["metadata"]
        for each in found["items"]
        for container in each["spec"]["template"]["spec"]["containers"]
        if re.search(r"/kyverno(:|@|$)", container["image"])
    ]
    do = (
        "  do: set kyverno.install to false and kyverno.namespace and kyverno.version to what is"
        " there, then run `pulumi up` again"
    )
    others = [each for each in running if not (preview and _is_own(api, each["namespace"]))]
    if others:
        where = f"{others[0]['namespace']}/{others[0]['name']}"
        raise pulumi.RunError(
            f"this cluster has a Kyverno already ({where}); nothing of it was changed\n{do}"
        )
    try:
        own = _is_own(api, namespace)
    except ApiServerError as error:
        if error.status == 404:
            return
        raise
    if preview and own:
        return
    raise pulumi.RunError(
        f"this cluster has a namespace {namespace!r} already; nothing in it was changed\n"
        f"{do}; or set kyverno.namespace to a new name, or delete the namespace if nobody needs it"
    )


def _is_own(api: ApiServer, namespace: str) -> bool:
    labels = api.get(f"/api/v1/namespaces/{namespace}")["metadata"].get("labels") or {}
    return labels.items() >= LABELS.items()


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `over` laid on it: mappings key by key, all else replaced."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            result[key] = merged(below, value)
        else:
            result[key] = value
    return result
