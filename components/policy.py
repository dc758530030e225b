"""The policies of `policies/`, filled in with a stack's values by field name. No Pulumi here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import yaml

from components.labels import LABELS
from components.types import DOCKER_HUB, Access, Engine, FailurePolicy, Proxy

POLICIES: Final = Path(__file__).resolve().parent.parent / "policies"
"""Where the policies are, valid as they are."""

_REDIRECTS: Final[Mapping[Engine, str]] = {
    Engine.CLUSTER_POLICY: "image-redirect/cluster-policy.yaml",
    Engine.MUTATING_POLICY: "image-redirect/mutating-policy.yaml",
    Engine.MUTATING_ADMISSION_POLICY: "image-redirect/mutating-admission-policy.yaml",
}
"""The file of each engine."""

_TAKEN_IN = "jsonpath={.status.conditionStatus.ready}=true"
_READY: Final[Mapping[str, str]] = {
    "ClusterPolicy": "condition=Ready",
    "MutatingPolicy": _TAKEN_IN,
    "GeneratingPolicy": _TAKEN_IN,
}
"""What Kyverno says of a policy it has taken in; the API server says nothing of its own."""

KYVERNO_VERSIONS: Final[Mapping[Engine, tuple[int, int | None]]] = {
    Engine.CLUSTER_POLICY: (13, 19),
    Engine.MUTATING_POLICY: (18, None),
}
"""The oldest and the newest Kyverno `1.N` for a kind of policy, by its N; the third needs none.

ClusterPolicy: before 1.13 Kyverno reads every image of a Pod and denies what it cannot read; 1.20
is to refuse the kind (kyverno#17214). MutatingPolicy: on 1.17 no policy sees what a Pod was before
an update.
"""

OLDEST_GENERATING_KYVERNO: Final = 19
"""The oldest Kyverno `1.N` that copies logins by a GeneratingPolicy, by its N: before, it never
changes a copy that is there (1.18.1's sources), and cloning copies nothing (kyverno/policies#1501).
"""

OLDEST_KUBERNETES: Final[Mapping[Engine, int]] = {
    Engine.CLUSTER_POLICY: 28,
    Engine.MUTATING_POLICY: 28,
    Engine.MUTATING_ADMISSION_POLICY: 34,
}
"""The oldest Kubernetes `1.N` for each kind of policy, by its N: webhooks have match conditions
from 1.28 on; MutatingAdmissionPolicy is v1beta1 from 1.34 on, and v1, on by default, from 1.36."""

OLDEST_KUBERNETES_THAT_WARNS: Final = 30
"""ValidatingAdmissionPolicy is stable from Kubernetes 1.30 on."""

OPT_OUT_LABEL: Final = "vke-dockerhub-proxy/redirect"
"""The label of a Pod or namespace whose value `OPT_OUT_VALUE` leaves its images alone."""
OPT_OUT_VALUE: Final = "disabled"
"""See `OPT_OUT_LABEL`."""
OPT_OUT: Final = f"{OPT_OUT_LABEL}={OPT_OUT_VALUE}"
"""The label and its value."""

NAMESPACES_LEFT_ALONE: Final = ("kube-system", "kube-public", "kube-node-lease", "kyverno")
"""Namespaces whose Pods must start without the proxy and without Kyverno; Kyverno's chart leaves
those of Kubernetes alone too."""

PODS_LEFT_ALONE: Final = (
    "aerospike.com/cr",
    "application=spilo",
    "apps.kubeblocks.io/component-name",
    "cnpg.io/cluster",
    "foundationdb.org/fdb-cluster-name",
    "olm.catalogSource",
    "opensearch.org/opensearch-cluster",
    "opster.io/opensearch-cluster",
)
"""Labels, `key` or `key=value`, of Pods whose operator compares their images with what it wrote,
and would replace them for ever; policies/image-redirect/README.md names the operators."""

DOCKER_HUB_HOSTS: Final = (
    DOCKER_HUB,
    "index.docker.io",
    "registry-1.docker.io",
    "registry.hub.docker.com",
)
"""The hosts by which images name Docker Hub."""


@dataclass(frozen=True, kw_only=True)
class Redirect:
    """What a redirect policy is parameterised by."""

    engine: Engine
    """The kind of policy."""
    proxies: Sequence[Proxy]
    """Where images come from, each proxy's domain a string by now."""
    pull_secret: str | None = None
    """The imagePullSecret a new Pod gets, beside its own, when an image of a private namespace is
    redirected; None for no such secret."""
    excluded_namespaces: Sequence[str] = ()
    """Kubernetes namespaces left alone beside those of Kubernetes and Kyverno."""
    excluded_pod_labels: Sequence[str] = ()
    """Labels, `key` or `key=value`, of Pods left alone beside `PODS_LEFT_ALONE`."""
    every_new_pod: bool
    """Whether Kyverno is called for every new Pod, and so again for what is injected later."""
    failure_policy: FailurePolicy
    """What happens to a Pod while the engine does not answer."""
    timeout_seconds: int
    """How long a Pod waits for Kyverno, 1 to 30. For ClusterPolicy it only counts above Kyverno's
    own `--webhookTimeout`, which is 10 unless it is set too."""
    kubernetes_version: str | None = None
    """The cluster's version, `1.N`; it decides the API version of the native policy."""


def redirect(values: Redirect) -> list[dict[str, Any]]:
    """The manifests of the redirect policy, in the order they are to be applied."""
    policy, *others = load(_REDIRECTS[values.engine])
    spec = policy["spec"]
    spec["failurePolicy"] = values.failure_policy.value
    namespaces = namespaces_left_alone(values.excluded_namespaces)
    labels = _once([*PODS_LEFT_ALONE, *values.excluded_pod_labels])
    conditions = match_conditions(
        values.proxies, namespaces=namespaces, labels=labels, every_new_pod=values.every_new_pod
    )
    if values.engine is Engine.CLUSTER_POLICY:
        set_webhook(spec, conditions, values.timeout_seconds)
        (rule,) = spec["rules"]
        rule["exclude"]["any"] = exclusions(namespaces, labels)
        _named("parameters", rule["mutate"]["foreach"][0]["context"])["variable"]["value"] = {
            "proxies": _by_host(values.proxies),
            "served": {
                each.domain: space_delimited(sorted(each.namespaces)) for each in values.proxies
            },
            "private": {each.domain: space_delimited(_private(each)) for each in values.proxies},
            "pullSecret": values.pull_secret or "",
        }
        return [policy]
    for name, value in {
        "proxies": _by_host(values.proxies),
        "served": {
            f"{proxy.domain}/{name}": access.value
            for proxy in values.proxies
            for name, access in sorted(proxy.namespaces.items())
        },
        "pullSecret": values.pull_secret or "",
    }.items():
        _named(name, spec["variables"])["expression"] = cel(value)
    if values.engine is Engine.MUTATING_POLICY:
        spec["matchConditions"] = conditions
        spec["webhookConfiguration"]["timeoutSeconds"] = values.timeout_seconds
    else:
        spec["matchConditions"] = conditions[:-1]
        stable = values.kubernetes_version is None or minor(values.kubernetes_version) >= 36
        for each in (policy, *others):
            each["apiVersion"] = f"admissionregistration.k8s.io/{'v1' if stable else 'v1beta1'}"
    return [policy, *others]


def unserved_images(
    proxies: Sequence[Proxy],
    *,
    excluded_namespaces: Sequence[str] = (),
    excluded_pod_labels: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """The policy that warns of images no proxy serves, and its binding.

    Only the proxies' registries and namespaces count. `excluded_pod_labels` are `key` or
    `key=value`, beside `PODS_LEFT_ALONE`.
    """
    policy, binding = load("unserved-images/validating-admission-policy.yaml")
    namespaces = namespaces_left_alone(excluded_namespaces)
    for name, expression in {
        "is-not-left-alone": f"!(request.namespace in {cel(namespaces)})",
        "may-have-an-image-that-is-not-served": _may_be_unserved(proxies),
    }.items():
        _named(name, policy["spec"]["matchConditions"])["expression"] = expression
    for name, value in {
        "proxied": _by_host([replace(each, domain=each.host) for each in proxies]),
        "served": [f"{each.host}/{name}" for each in proxies for name in sorted(each.namespaces)],
        "podsLeftAlone": _once([OPT_OUT, *PODS_LEFT_ALONE, *excluded_pod_labels]),
    }.items():
        _named(name, policy["spec"]["variables"])["expression"] = cel(value)
    return [policy, binding]


def _may_be_unserved(proxies: Sequence[Proxy]) -> str:
    """The sieve of the policy that warns: which workloads may have an image that is not served."""
    served = [
        f"{host}{namespace}"
        for proxy in proxies
        for host in (("", f"{DOCKER_HUB}/") if proxy.host == DOCKER_HUB else (f"{proxy.host}/",))
        for name in sorted(proxy.namespaces)
        for namespace in (("", "library/") if name == "library" else (f"{name}/",))
    ]
    return (
        "!(has(object.metadata.ownerReferences) && object.metadata.ownerReferences.exists(o,"
        ' o.kind in ["ReplicaSet", "StatefulSet", "DaemonSet", "Job", "CronJob", "Node"]))'
        " && !(has(object.metadata.annotations)"
        ' && "kubernetes.io/config.mirror" in object.metadata.annotations)'
        ' && [object.kind == "Pod" ? object.spec'
        ' : object.kind == "CronJob" ? object.spec.jobTemplate.spec.template.spec'
        " : object.spec.template.spec]"
        ".exists(pod, (pod.containers + pod.?initContainers.orValue([])).exists(c,"
        f' !(c.image.find("^.*/") in {cel(served)})'
        f' && c.image.find("^[^/]*[.:][^/]*/") in {cel(list(_by_host(proxies)))})'
        " || has(pod.volumes) && pod.volumes.exists(v, has(v.image)))"
        ' && (request.operation == "CREATE" || object.spec != oldObject.spec)'
    )


def match_conditions(
    proxies: Sequence[Proxy],
    *,
    namespaces: Sequence[str],
    labels: Sequence[str] = (),
    every_new_pod: bool = False,
) -> list[dict[str, str]]:
    """The match conditions of `policies/match-conditions.yaml` with these values.

    `namespaces` and `labels` are left alone; `labels` beside the one that opts out.
    """
    hosts = "|".join(each.replace(".", "[.]") for each in DOCKER_HUB_HOSTS)
    served = space_delimited(
        name if each.host == DOCKER_HUB else f"{each.host}/{name}"
        for each in proxies
        for name in sorted(each.namespaces)
    )
    asks_for_more = (
        ' && ["labels", "annotations"].exists(field, field in object.metadata'
        ' && object.metadata[field].exists(key, key.contains("inject")))'
    )
    return [
        {
            "name": "is-not-left-alone",
            "expression": f"!(request.namespace in {cel(namespaces)})"
            " && !(has(object.metadata.labels) && object.metadata.labels.exists(key,"
            ' [string(key), key + "=" + object.metadata.labels[key]].exists(label, label in'
            f" {cel([OPT_OUT, *labels])})))",
        },
        *load("match-conditions.yaml")[0]["spec"]["webhookConfiguration"]["matchConditions"][1:2],
        {
            "name": "may-have-an-image-to-redirect",
            "expression": 'request.operation == "CREATE"'
            f"{'' if every_new_pod else asks_for_more}"
            ' || (request.operation == "CREATE" || object.spec != oldObject.spec)'
            ' && ["containers", "initContainers", "ephemeralContainers", "volumes"].exists(list,'
            " list in object.spec && object.spec[list].exists(c, has(c.image)"
            ' && [list == "volumes" ? c.image.reference : c.image].exists(image,'
            f' [image.substring(image.find("^({hosts})/").size())]'
            f" .exists(name, {cel(served)}.contains("
            ' " " + (name.contains("/") ? name.find("^([^/]*[.:][^/]*/)?[^/]*") : "library")'
            ' + " ")))))',
        },
    ]


def set_webhook(
    spec: dict[str, Any], conditions: Sequence[Mapping[str, str]], timeout_seconds: int
) -> None:
    """Say in a ClusterPolicy for which Pods Kyverno is called, and how long they wait for it."""
    spec["webhookConfiguration"] = {
        "timeoutSeconds": timeout_seconds,
        "matchConditions": list(conditions),
    }


def exclusions(namespaces: Sequence[str], labels: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What a ClusterPolicy's rule excludes; `labels` beside the one that opts out."""
    opted_out = _selector(OPT_OUT)
    return [
        {"resources": {"namespaces": list(namespaces)}},
        {"resources": {"namespaceSelector": opted_out}},
        *({"resources": {"selector": _selector(each)}} for each in (OPT_OUT, *labels)),
    ]


def namespaces_left_alone(more: Iterable[str]) -> list[str]:
    """The namespaces of Kubernetes and Kyverno, and more, each once."""
    return _once([*NAMESPACES_LEFT_ALONE, *more])


def metadata(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A policy's metadata with the labels of all the stack makes.

    Pulumi waits until Kyverno has taken in a policy of its kinds.
    """
    found = {**manifest["metadata"], "labels": LABELS}
    if manifest["kind"] in _READY:
        ready = {"pulumi.com/waitFor": _READY[manifest["kind"]]}
        found["annotations"] = {**found.get("annotations", {}), **ready}
    return found


def has_label(labels: Mapping[str, str], label: str) -> bool:
    """Whether these are of a Pod with a label, written as `key` or `key=value`."""
    key, equals, value = label.partition("=")
    return key in labels and (not equals or labels[key] == value)


def load(file: str) -> list[dict[str, Any]]:
    """The manifests of a file of `POLICIES`."""
    return list(yaml.safe_load_all((POLICIES / file).read_text(encoding="utf-8")))


def space_delimited(words: Iterable[str]) -> str:
    """The words with a space before and after each, as ClusterPolicies look them up."""
    return " ".join(["", *words, ""])


def minor(version: str) -> int:
    """The N of a version `1.N` of Kubernetes or Kyverno, such as `v1.32.4-vke.3`.

    Raises:
        ValueError: when it is none.
    """
    found = re.match(r"v?1\.(\d+)", version)
    if not found:
        raise ValueError(f"{version!r} is not a version such as 1.32")
    return int(found[1])


def _by_host(proxies: Sequence[Proxy]) -> dict[str, Any]:
    """Each host as images write it, with its `/`, and its proxy; no host is Docker Hub's."""
    return {
        host: proxy.domain
        for proxy in proxies
        for host in (
            ("", *(f"{each}/" for each in DOCKER_HUB_HOSTS))
            if proxy.host == DOCKER_HUB
            else (f"{proxy.host}/",)
        )
    }


def _private(proxy: Proxy) -> list[str]:
    return [name for name, access in sorted(proxy.namespaces.items()) if access is Access.PRIVATE]


def _selector(label: str) -> dict[str, Any]:
    key, equals, value = label.partition("=")
    if equals:
        return {"matchLabels": {key: value}}
    return {"matchExpressions": [{"key": key, "operator": "Exists"}]}


def _named(name: str, items: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The one of a policy's variables that is called so."""
    (found,) = (each for each in items if each["name"] == name)
    return found


def _once(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def cel(value: Any) -> str:
    """A value as a literal in CEL, whose strings, lists and maps are written as in JSON."""
    return json.dumps(value, ensure_ascii=False)
