"""The redirect policies of `policies/image-redirect/`, given a stack's values. No Pulumi here."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from components.policy_parts import (
    EXCLUDED_POD_LABELS,
    POLICIES,
    add_match_conditions,
    in_cel,
    load,
    set_match_condition,
    with_blanks,
    with_excluded_namespaces,
)
from components.types import Engine, FailurePolicy
from components.versions import UNKNOWN, version

FOLDER: Final = POLICIES / "image-redirect"
"""Where the policies are, valid as they stand."""

NAME: Final = "dockerhub-image-redirect"
"""The policy's name when none is given."""

OPT_OUT_LABEL: Final = "vke-dockerhub-proxy/redirect"
"""The label of a Pod or namespace whose value `OPT_OUT_VALUE` leaves its images alone."""

OPT_OUT_VALUE: Final = "disabled"
"""See `OPT_OUT_LABEL`."""

ORIGINALS_ANNOTATION: Final = "vke-dockerhub-proxy/original-references"
"""The annotation of a redirected Pod: JSON, container name (`volumes/<name>`) to image written."""

_SERVED_MAP = "{'library': 'public'}"
_LITERAL = re.compile(r"[A-Za-z0-9._/-]+")
"""What may stand between the quotes and blanks of a policy's expressions."""
_DOMAIN = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+(?::[0-9]+)?|[A-Za-z0-9-]+:[0-9]+")
_OBJECT_NAME = re.compile(r"[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?")

Lift = Callable[[Any, Callable[[Any], Any]], Any]
"""Applies a function to a value, now or once the value is known (`pulumi.Output.apply`)."""


@dataclass(frozen=True, kw_only=True)
class RedirectValues:
    """What a redirect policy is parameterised by."""

    domain: Any
    """The proxy's host name, with a port if it has one: a string, or a value `lift` can take."""
    namespaces: Sequence[str]
    """The Docker Hub namespaces the proxy serves; at least one."""
    private_namespaces: Sequence[str] = ()
    """Those of them that need a login."""
    pull_secret: str | None = None
    """The imagePullSecret a Pod gets, beside its own, when an image of a private namespace is
    redirected; None for no such secret. Only on creation: a Pod's secrets cannot change later."""
    excluded_namespaces: Sequence[str] = ()
    """Kubernetes namespaces left alone beside `EXCLUDED_NAMESPACES`."""
    excluded_pod_labels: Sequence[str] = ()
    """Label keys whose presence leaves a Pod alone, beside `EXCLUDED_POD_LABELS`."""
    failure_policy: FailurePolicy = FailurePolicy.IGNORE
    """What happens to a Pod while the engine does not answer."""
    timeout_seconds: int = 2
    """How long the API server waits for Kyverno, 1 to 30. For ClusterPolicy it only counts above
    Kyverno's own `--webhookTimeout`, which is 10 unless it is set too."""
    name: str = NAME
    """The policy's name."""

    def __post_init__(self) -> None:
        if not self.namespaces:
            raise ValueError("namespaces is empty: name at least one that the proxy serves")
        _check_literals("namespaces", self.namespaces)
        _check_literals("excluded_namespaces", self.excluded_namespaces)
        _check_literals("excluded_pod_labels", self.excluded_pod_labels)
        for each in self.private_namespaces:
            if each not in self.namespaces:
                raise ValueError(f"private_namespaces has {each!r}, which namespaces has not")
        if isinstance(self.domain, str):
            _checked_domain(self.domain)
        if self.pull_secret is not None and not _OBJECT_NAME.fullmatch(self.pull_secret):
            raise ValueError(f"pull_secret is {self.pull_secret!r}: not a Secret's name")
        if not 1 <= self.timeout_seconds <= 30:
            raise ValueError(f"timeout_seconds is {self.timeout_seconds}: use 1 to 30")


@dataclass(frozen=True, kw_only=True)
class Unavailable:
    """Why an engine cannot be used with the versions of a cluster."""

    allowed: str
    """What the versions lack, and which have it."""
    do: str
    """What to change."""

    def __str__(self) -> str:
        return f"{self.allowed}; {self.do}"


def unavailable(
    engine: Engine, *, kubernetes_version: str | None, kyverno_version: str | None
) -> Unavailable | None:
    """Why these versions do not have this engine; None when they have it.

    A version that is None, such as that of a cluster still to be made, is taken as recent enough.
    Sources: the CRDs of Kyverno 1.11 to 1.19, Kyverno 1.17 as it ran (a MutatingPolicy's variables
    have no `request` there, and no policy sees what a Pod was before an update), and Kubernetes'
    feature gate MutatingAdmissionPolicy (beta in 1.34, stable and on in 1.36).
    """
    kubernetes, kyverno = version(kubernetes_version), version(kyverno_version)
    if engine is Engine.MUTATING_ADMISSION_POLICY and kubernetes < (1, 34):
        return Unavailable(
            allowed=f"Kubernetes {kubernetes_version} has no MutatingAdmissionPolicy of"
            " admissionregistration.k8s.io/v1beta1; 1.34 and newer have it (on by default from"
            " 1.36)",
            do="upgrade the cluster, or set redirect.engine to ClusterPolicy",
        )
    if engine is Engine.MUTATING_POLICY and kyverno < (1, 18):
        return Unavailable(
            allowed=f"Kyverno {kyverno_version} has no MutatingPolicy that can redirect images;"
            " 1.18 (chart 3.8) and newer have it",
            do="set kyverno.version to 3.8.0 or newer, or redirect.engine to ClusterPolicy",
        )
    if engine is Engine.CLUSTER_POLICY and kyverno < (1, 11):
        return Unavailable(
            allowed=f"Kyverno {kyverno_version} is older than this ClusterPolicy can be used with,"
            " 1.11 (chart 3.1)",
            do="set kyverno.version to 3.1.0 or newer",
        )
    if engine is Engine.CLUSTER_POLICY and (1, 20) <= kyverno < UNKNOWN:
        return Unavailable(
            allowed=f"Kyverno {kyverno_version} is newer than any this ClusterPolicy was tried with"
            " (1.19); ClusterPolicy is deprecated since 1.17 and planned for removal",
            do="set redirect.engine to MutatingPolicy, or kyverno.version to 3.9.1",
        )
    return None


def render(
    engine: Engine,
    values: RedirectValues,
    *,
    kubernetes_version: str | None = None,
    kyverno_version: str | None = None,
    lookup: bool = False,
    lift: Lift = lambda value, function: function(value),
) -> list[dict[str, Any]]:
    """The manifests of the policy, in the order they are to be applied.

    `lookup` is for ClusterPolicy: it redirects only what Docker Hub says it has, and so waits for
    Docker Hub at each Pod. `lift` is needed where `values.domain` is not a string.

    Raises:
        ValueError: when these versions do not have the engine, with the text of `unavailable`.
    """
    reason = unavailable(
        engine, kubernetes_version=kubernetes_version, kyverno_version=kyverno_version
    )
    if reason:
        raise ValueError(str(reason))
    if lookup and engine is not Engine.CLUSTER_POLICY:
        raise ValueError(
            f"{engine} cannot look images up in a registry. Set redirect.lookup to none, or"
            " redirect.engine to ClusterPolicy."
        )
    if engine is Engine.CLUSTER_POLICY:
        file = "cluster-policy-lookup.yaml" if lookup else "cluster-policy.yaml"
        (policy,) = load(f"image-redirect/{file}")
        _fill_cluster_policy(policy, values, lift)
        (patch,) = load("image-redirect/patches/cluster-policy-match-conditions.yaml")
        add_match_conditions(
            policy,
            patch,
            values.namespaces,
            excluded_namespaces=with_excluded_namespaces(values.excluded_namespaces),
            excluded_pod_labels=_excluded_pod_labels(values),
            kubernetes_version=kubernetes_version,
            kyverno_version=kyverno_version,
        )
        return [policy]
    if engine is Engine.MUTATING_POLICY:
        (policy,) = load("image-redirect/mutating-policy.yaml")
        policy["spec"]["webhookConfiguration"]["timeoutSeconds"] = values.timeout_seconds
        _fill_cel_policy(policy, values, lift)
        return [policy]
    policy, binding = load("image-redirect/mutating-admission-policy.yaml")
    _fill_cel_policy(policy, values, lift)
    binding["metadata"]["name"] = binding["spec"]["policyName"] = values.name
    stable = version(kubernetes_version) >= (1, 36)
    for each in (policy, binding):
        each["apiVersion"] = f"admissionregistration.k8s.io/{'v1' if stable else 'v1beta1'}"
    return [policy, binding]


def _fill_cel_policy(policy: dict[str, Any], values: RedirectValues, lift: Lift) -> None:
    """Set the values of a MutatingPolicy or MutatingAdmissionPolicy."""
    policy["metadata"]["name"] = values.name
    spec = policy["spec"]
    spec["failurePolicy"] = values.failure_policy.value
    constraints = spec["matchConstraints"]
    constraints["namespaceSelector"]["matchExpressions"] = [
        _selector(
            "kubernetes.io/metadata.name",
            "NotIn",
            *with_excluded_namespaces(values.excluded_namespaces),
        ),
        _selector(OPT_OUT_LABEL, "NotIn", OPT_OUT_VALUE),
    ]
    constraints["objectSelector"]["matchExpressions"] = [
        _selector(OPT_OUT_LABEL, "NotIn", OPT_OUT_VALUE),
        *(_selector(key, "DoesNotExist") for key in _excluded_pod_labels(values)),
    ]
    conditions = spec["matchConditions"]
    set_match_condition(conditions, _SERVED_MAP, _served_in_cel(values))
    set_match_condition(
        conditions, in_cel(EXCLUDED_POD_LABELS), in_cel(_excluded_pod_labels(values))
    )
    variables = {each["name"]: each for each in spec["variables"]}
    variables["domain"]["expression"] = lift(values.domain, _domain_in_cel)
    variables["served"]["expression"] = _served_in_cel(values)
    variables["pullSecret"]["expression"] = f"'{values.pull_secret or ''}'"


def _fill_cluster_policy(policy: dict[str, Any], values: RedirectValues, lift: Lift) -> None:
    """Set the values of a ClusterPolicy."""
    policy["metadata"]["name"] = values.name
    spec = policy["spec"]
    spec["failurePolicy"] = values.failure_policy.value
    spec["webhookTimeoutSeconds"] = values.timeout_seconds
    (rule,) = spec["rules"]
    opted_out = {"matchLabels": {OPT_OUT_LABEL: OPT_OUT_VALUE}}
    rule["exclude"]["any"] = [
        {"resources": {"namespaces": with_excluded_namespaces(values.excluded_namespaces)}},
        {"resources": {"namespaceSelector": opted_out}},
        {"resources": {"selector": opted_out}},
        *(
            {"resources": {"selector": {"matchExpressions": [_selector(key, "Exists")]}}}
            for key in _excluded_pod_labels(values)
        ),
    ]
    context = rule.get("context") or rule["mutate"]["foreach"][0]["context"]
    (parameters,) = (each["variable"] for each in context if each["name"] == "parameters")
    parameters["value"] = {
        "domain": values.domain
        if isinstance(values.domain, str)
        else lift(values.domain, _checked_domain),
        "served": with_blanks(values.namespaces),
        "private": with_blanks(values.private_namespaces),
        "pullSecret": values.pull_secret or "",
    }


def _check_literals(name: str, words: Iterable[str]) -> None:
    for each in words:
        if not _LITERAL.fullmatch(each):
            raise ValueError(f"{name} has {each!r}: it cannot stand in a policy")


def _served_in_cel(values: RedirectValues) -> str:
    private = set(values.private_namespaces)
    access: Mapping[str, str] = {
        each: "private" if each in private else "public" for each in values.namespaces
    }
    return "{" + ", ".join(f"'{each}': '{access[each]}'" for each in access) + "}"


def _domain_in_cel(domain: str) -> str:
    return f"'{_checked_domain(domain)}'"


def _checked_domain(domain: str) -> str:
    if not _DOMAIN.fullmatch(domain):
        raise ValueError(
            f"domain is {domain!r}: not a registry's host name (it needs a dot or a port)"
        )
    return domain


def _excluded_pod_labels(values: RedirectValues) -> list[str]:
    return list(dict.fromkeys([*EXCLUDED_POD_LABELS, *values.excluded_pod_labels]))


def _selector(key: str, operator: str, *values: str) -> dict[str, Any]:
    selector: dict[str, Any] = {"key": key, "operator": operator}
    return {**selector, "values": list(values)} if values else selector
