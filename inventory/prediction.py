"""What the redirect does with an image: the rule of policies/image-redirect/README.md, in Python.

tests/conformance holds it to what the real API server does, for every engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from components.policy import OPT_OUT, OPT_OUT_LABEL, OPT_OUT_VALUE, PODS_LEFT_ALONE, has_label
from inventory.reference import InvalidReferenceError, Reference, parse
from inventory.stack import Stack, host_of, namespace_of
from inventory.workloads import Image, Workload

_PLACEHOLDER = "auto"
"""Istio's injector puts the image in its place."""


class Outcome(StrEnum):
    """What will happen to an image."""

    REDIRECTED = "redirected"
    NAMES_THE_PROXY = "names the proxy"
    NOT_SERVED = "namespace not served"
    OTHER_REGISTRY = "another registry"
    NO_NAMESPACE = "no namespace"
    EXCLUDED = "excluded"
    OPTED_OUT = "opted out"
    OPERATOR = "an operator compares it"
    STATIC_POD = "static Pod"
    NEVER_PULLED = "never pulled"
    PLACEHOLDER = "replaced by an injector"
    INVALID = "invalid"


WHY: Final[Mapping[Outcome, str]] = {
    Outcome.REDIRECTED: "pulled from the proxy",
    Outcome.NAMES_THE_PROXY: "left alone: the proxy's own name is written",
    Outcome.NOT_SERVED: "left alone: the proxy of its registry does not have its namespace",
    Outcome.OTHER_REGISTRY: "left alone: its registry has no proxy",
    Outcome.NO_NAMESPACE: "left alone: it is in no namespace, and a proxy registry needs one",
    Outcome.EXCLUDED: "left alone: its Kubernetes namespace, or a label of its Pod, is excluded",
    Outcome.OPTED_OUT: f"left alone: the Pod or its namespace has {OPT_OUT_LABEL}: {OPT_OUT_VALUE}",
    Outcome.OPERATOR: "left alone: the Pod's operator compares images; the way nodes serves it",
    Outcome.STATIC_POD: "left alone: a kubelet starts it, whatever the API server says",
    Outcome.NEVER_PULLED: "left alone: its pull policy is Never, so only the node has it",
    Outcome.PLACEHOLDER: "left alone: an injector puts its own image in this one's place",
    Outcome.INVALID: "no node can pull it",
}
"""Each outcome in a sentence."""

SERVED: Final = frozenset({Outcome.REDIRECTED, Outcome.NAMES_THE_PROXY})


@dataclass(frozen=True, slots=True)
class Prediction:
    """What will happen to one image of one workload."""

    outcome: Outcome
    to: str | None = None
    """The image at the proxy, where it is redirected."""
    detail: str | None = None
    """What is wrong with an invalid reference; the label or namespace that excludes."""


def predict(image: Image, workload: Workload, stack: Stack, *, opted_out: bool) -> Prediction:
    """What the redirect does with an image of a workload's Pods.

    `opted_out` says that their namespace is labelled so.
    """
    if image.reference == _PLACEHOLDER:
        return Prediction(Outcome.PLACEHOLDER)
    try:
        reference = parsed(image.reference)
    except InvalidReferenceError as error:
        return Prediction(Outcome.INVALID, detail=str(error))
    if image.never_pulled:
        return Prediction(Outcome.NEVER_PULLED)
    return _left_alone(workload, stack, opted_out) or of_reference(reference, stack)


def of_reference(reference: Reference, stack: Stack) -> Prediction:
    """What the redirect does with an image of a Pod that it does not leave alone."""
    if any(reference.domain == each.domain for each in stack.proxies):
        return Prediction(Outcome.NAMES_THE_PROXY)
    proxy = stack.proxy(host_of(reference))
    if proxy is None:
        return Prediction(Outcome.OTHER_REGISTRY)
    namespace = namespace_of(reference)
    if namespace is None:
        return Prediction(Outcome.NO_NAMESPACE)
    if namespace not in proxy.namespaces:
        return Prediction(Outcome.NOT_SERVED)
    path = reference.path if reference.namespace else f"{namespace}/{reference.path}"
    return Prediction(Outcome.REDIRECTED, f"{proxy.domain}/{path}{reference.suffix}")


@lru_cache(maxsize=65536)
def parsed(text: str) -> Reference:
    """`reference.parse`, with what was parsed before kept."""
    return parse(text)


def _left_alone(workload: Workload, stack: Stack, opted_out: bool) -> Prediction | None:
    """Why nothing of a workload's Pods is redirected; None where something may be."""
    labels = workload.labels
    if workload.is_static:
        return Prediction(Outcome.STATIC_POD)
    if workload.place.namespace in stack.excluded_namespaces:
        return Prediction(Outcome.EXCLUDED, detail=f"namespace {workload.place.namespace}")
    if opted_out or has_label(labels, OPT_OUT):
        return Prediction(Outcome.OPTED_OUT)
    for label in PODS_LEFT_ALONE:
        if has_label(labels, label):
            return Prediction(Outcome.OPERATOR, detail=f"label {label}")
    for label in sorted(stack.excluded_pod_labels):
        if has_label(labels, label):
            return Prediction(Outcome.EXCLUDED, detail=f"label {label}")
    return None
