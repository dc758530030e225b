"""What the policies of `policies/` share when they get a stack's values. No Pulumi here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from components.versions import has_match_conditions, reads_every_image, version

POLICIES: Final = Path(__file__).resolve().parent.parent / "policies"
"""Where the policies are, valid as they stand."""

EXCLUDED_NAMESPACES: Final = ("kube-system", "kube-public", "kube-node-lease", "kyverno")
"""Namespaces whose Pods must start without the proxy and without Kyverno; Kyverno's chart leaves
those of Kubernetes alone too."""

EXCLUDED_POD_LABELS: Final = ("cnpg.io/cluster",)
"""Labels of Pods whose operator compares their images with what it wrote, and would loop for ever:
CloudNativePG (cloudnative-pg#4138)."""

_SERVED_TEXT = "' library '"


def load(file: str) -> list[dict[str, Any]]:
    """The manifests of a file of `POLICIES`."""
    return list(yaml.safe_load_all((POLICIES / file).read_text(encoding="utf-8")))


def add_match_conditions(
    policy: dict[str, Any],
    patch: Mapping[str, Any],
    namespaces: Sequence[str],
    *,
    excluded_namespaces: Sequence[str],
    excluded_pod_labels: Sequence[str],
    kubernetes_version: str | None,
    kyverno_version: str | None,
) -> None:
    """Keep Kyverno from being called in vain, where both versions can.

    `patch` is the policy's file of match conditions, with `' library '` as its parameter; what is
    excluded is all the rule excludes. From Kyverno 1.13 on the timeout stands beside the conditions
    and nowhere else; Kyverno 1.12 is not to be asked about Pods with an image it cannot read.
    """
    if not has_match_conditions(kyverno_version, kubernetes_version):
        return
    served = _conditions(patch)
    set_match_condition(served, _SERVED_TEXT, f"'{with_blanks(namespaces)}'")
    (patch,) = load("patches/left-alone.yaml")
    left_alone = _conditions(patch)
    set_match_condition(left_alone, in_cel(EXCLUDED_NAMESPACES), in_cel(excluded_namespaces))
    set_match_condition(left_alone, in_cel(EXCLUDED_POD_LABELS), in_cel(excluded_pod_labels))
    conditions = [*left_alone, *served]
    if reads_every_image(kyverno_version):
        (patch,) = load("patches/kyverno-1.12.yaml")
        conditions += _conditions(patch)
    spec = policy["spec"]
    spec["webhookConfiguration"] = {"matchConditions": conditions}
    if version(kyverno_version) >= (1, 13):
        spec["webhookConfiguration"]["timeoutSeconds"] = spec.pop("webhookTimeoutSeconds")


def _conditions(patch: Mapping[str, Any]) -> list[dict[str, Any]]:
    conditions: list[dict[str, Any]] = patch["spec"]["webhookConfiguration"]["matchConditions"]
    return conditions


def set_match_condition(conditions: Iterable[dict[str, Any]], default: str, literal: str) -> None:
    """Put a literal in the place of the file's own, which is there once."""
    having = [each for each in conditions if default in each["expression"]]
    if len(having) != 1 or having[0]["expression"].count(default) != 1:
        raise ValueError(f"the match conditions do not hold {default} once")
    having[0]["expression"] = having[0]["expression"].replace(default, literal)


def with_blanks(words: Sequence[str]) -> str:
    """The words with a blank before and after each, as the policies look them up."""
    return " ".join(["", *dict.fromkeys(words), ""]) if words else " "


def in_cel(words: Sequence[str]) -> str:
    """The words as a list in CEL; none may hold a quote or a backslash."""
    return "[" + ", ".join(f"'{each}'" for each in words) + "]"


def with_excluded_namespaces(more: Sequence[str]) -> list[str]:
    """`EXCLUDED_NAMESPACES` and more, each once."""
    return list(dict.fromkeys([*EXCLUDED_NAMESPACES, *more]))
