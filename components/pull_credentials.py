"""PullCredentials: the proxies' logins, in every namespace whose Pods may need them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.api_server import ApiServer
from components.inputs import inputs
from components.labels import LABELS, NAMESPACE, NODES_NAMESPACE
from components.policy import cel, load, metadata, namespaces_left_alone
from components.pull_check import docker_config
from components.types import Engine, ProxyLogin

SECRET: Final = "dockerhub-proxy-login"  # noqa: S105 - the Secret's name
"""The name of the Secret, in its source namespace and in every copy."""
ROLE: Final = "dockerhub-pull-credentials"
"""The ClusterRole that lets Kyverno keep the copies, and that owns them."""

_AGGREGATED: Final = "rbac.kyverno.io/aggregate-to"
_CONTROLLERS: Final = ("background", "admission")
_READING: Final = ["get", "list"]
_WRITING: Final = [*_READING, "watch", "create", "update", "delete"]
_COLLECTED_SECONDS = 30.0
_INTERVAL_SECONDS = 0.2
_RULES: Final[Sequence[kubernetes.rbac.v1.PolicyRuleArgsDict]] = [
    {
        "api_groups": [""],
        "resources": ["secrets"],
        "verbs": _WRITING,
    },
    {
        "api_groups": ["rbac.authorization.k8s.io"],
        "resources": ["clusterroles"],
        "resource_names": [ROLE],
        "verbs": ["get"],
    },
    {  # where the API server checks who may say that an owner's deletion waits for what it owns
        "api_groups": ["rbac.authorization.k8s.io"],
        "resources": ["clusterroles/finalizers"],
        "resource_names": [ROLE],
        "verbs": ["update"],
    },
]


@dataclass(frozen=True, kw_only=True)
class PullCredentialsArgs:
    """The logins, and where they are not wanted."""

    logins: Sequence[tuple[pulumi.Input[str], ProxyLogin]]
    """Each with the domain of its proxy."""
    excluded_namespaces: Sequence[str] = ()
    """Kubernetes namespaces that are not redirected, beside kube-system."""
    namespace: pulumi.Input[str] = NAMESPACE
    """The namespace the Secret is copied from."""
    engine: Engine = Engine.CLUSTER_POLICY
    """The kind of the redirect policy: MutatingPolicy takes a GeneratingPolicy along."""
    kubeconfig: pulumi.Input[str] | None = None
    """The cluster's kubeconfig, to see that Kyverno has its rights; None for no look."""


class PullCredentials(pulumi.ComponentResource):
    """A Secret with all logins, which Kyverno keeps copied to every namespace, new ones included.

    The redirect policy adds the Secret's name to redirected Pods of private namespaces; service
    accounts are left as they are. A changed password is one changed Secret here, and the policy
    that copies it changes with it, for Kyverno to look again. The copies are owned by the role
    that lets Kyverno handle Secrets (Kyverno refuses a generating policy whose rights are limited
    to one name): whoever deletes the role deletes them, and waits for it. No person or Pod gets
    any right.
    """

    secret_name: pulumi.Output[str]
    """The Secret's name, known once the policy that copies it is in force."""

    def __init__(
        self, name: str, args: PullCredentialsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:PullCredentials", name, inputs(args), opts)
        options = pulumi.ResourceOptions(parent=self, delete_before_replace=True)
        login = kubernetes.core.v1.Secret(
            f"{name}-login",
            metadata={"name": SECRET, "namespace": args.namespace, "labels": LABELS},
            type="kubernetes.io/dockerconfigjson",
            string_data={".dockerconfigjson": docker_config(args.logins)},
            opts=options,
        )

        def role_options(label: str, verbs: Sequence[str]) -> pulumi.ResourceOptions:
            async def collected(_: pulumi.ResourceHookArgs) -> None:
                kubeconfig = await pulumi.Output.from_input(args.kubeconfig).future()
                if kubeconfig:
                    await asyncio.to_thread(await_collected, ApiServer(kubeconfig), label, verbs)

            return pulumi.ResourceOptions.merge(
                options,
                pulumi.ResourceOptions(hooks=pulumi.ResourceHookBinding(after_create=[collected])),
            )

        background, admission = (f"{_AGGREGATED}-{each}-controller" for each in _CONTROLLERS)
        role = kubernetes.rbac.v1.ClusterRole(
            f"{name}-role",
            metadata={
                "name": ROLE,
                "labels": {**LABELS, background: "true"},
            },
            rules=_RULES,
            opts=role_options(background, _WRITING),
        )
        roles = [role]
        if args.engine is not Engine.MUTATING_POLICY:
            # Kyverno takes in a synchronizing ClusterPolicy only if its admission controller may
            # read what the policy makes.
            roles.append(
                kubernetes.rbac.v1.ClusterRole(
                    f"{name}-admission-role",
                    metadata={
                        "name": f"{ROLE}-admission",
                        "labels": {**LABELS, admission: "true"},
                    },
                    rules=[{"api_groups": [""], "resources": ["secrets"], "verbs": _READING}],
                    opts=role_options(admission, _READING),
                )
            )
        revision = pulumi.Output.format(
            "{0} {1}", login.metadata.resource_version, role.metadata.uid
        )
        manifest = copying_policy(args.engine, args.excluded_namespaces, revision)
        policy = kubernetes.apiextensions.CustomResource(
            f"{name}-policy",
            api_version=manifest["apiVersion"],
            kind=manifest["kind"],
            metadata=metadata(manifest),
            spec=manifest["spec"],
            opts=pulumi.ResourceOptions(parent=self, depends_on=[login, *roles]),
        )
        self.secret_name = policy.urn.apply(lambda _: SECRET)
        self.register_outputs({"secret_name": self.secret_name})


def await_collected(
    api: ApiServer, label: str, verbs: Sequence[str], *, seconds: float = _COLLECTED_SECONDS
) -> None:
    """Hold until the roles that collect others' rights by this label may do this with Secrets.

    The cluster adds them a moment after there is a role with the label (Kubernetes, aggregated
    ClusterRoles); until then Kyverno denies the policy. After `seconds` it is left to Kyverno to
    say so.

    Raises:
        ApiServerError: when the API server does not answer, or refuses.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        roles = api.get("/apis/rbac.authorization.k8s.io/v1/clusterroles")["items"]
        if all(_may(each, verbs) for each in roles if _collects(each, label)):
            return
        time.sleep(_INTERVAL_SECONDS)


def _collects(role: Mapping[str, Any], label: str) -> bool:
    selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
    return any((each.get("matchLabels") or {}).get(label) == "true" for each in selectors)


def _may(role: Mapping[str, Any], verbs: Sequence[str]) -> bool:
    """Whether one of a role's rules lets its owner do all this with Secrets."""
    return any(
        "secrets" in (each.get("resources") or []) and set(verbs) <= set(each["verbs"])
        for each in role.get("rules") or []
    )


def copying_policy(
    engine: Engine, excluded_namespaces: Sequence[str], revision: pulumi.Input[str]
) -> dict[str, Any]:
    """The policy of `policies/pull-credentials/` with these values put in.

    `revision` is another text whenever the Secret or the role is another one.
    """
    excluded = namespaces_left_alone([NAMESPACE, NODES_NAMESPACE, *excluded_namespaces])
    if engine is Engine.MUTATING_POLICY:
        (manifest,) = load("pull-credentials/generating-policy.yaml")
        spec = manifest["spec"]
        spec["matchConditions"][0]["expression"] = f"!(object.metadata.name in {_cel(excluded)})"
        spec["variables"][0]["expression"] = _cel(revision)
    else:
        (manifest,) = load("pull-credentials/cluster-policy.yaml")
        (rule,) = manifest["spec"]["rules"]
        rule["generate"]["foreach"][0]["context"][0]["variable"]["value"] = {
            "excluded": excluded,
            "revision": revision,
        }
    return manifest


def _cel(value: Any) -> Any:
    """A value as a literal in CEL, now or once it is known."""
    return value.apply(cel) if isinstance(value, pulumi.Output) else cel(value)
