"""What versions of Kubernetes and Kyverno have. No Pulumi here."""

from __future__ import annotations

import re
from typing import Final

UNKNOWN: Final = (999, 0)
"""Stands for a version that is not known, and is newer than all others."""


def version(text: str | None) -> tuple[int, int]:
    """Major and minor of a version such as `v1.32.4-vke.3`; a high one for None."""
    if text is None:
        return UNKNOWN
    found = re.match(r"v?(\d+)\.(\d+)", text)
    if not found:
        raise ValueError(f"{text!r} is not a version such as 1.32")
    return int(found[1]), int(found[2])


def has_match_conditions(kyverno_version: str | None, kubernetes_version: str | None) -> bool:
    """Whether a ClusterPolicy can say for which Pods Kyverno is called.

    Kyverno has match conditions from 1.12 on; Kubernetes has them for webhooks, on by default, from
    1.28 on. A version of None is taken as recent enough.
    """
    return version(kyverno_version) >= (1, 12) and version(kubernetes_version) >= (1, 28)


def reads_every_image(kyverno_version: str | None) -> bool:
    """Whether this Kyverno reads all images of a Pod it is called for, and denies it if it cannot.

    Source: Kyverno 1.11.5 and 1.12.6 as they ran; from 1.13 on only a policy that names them does.
    """
    return version(kyverno_version) < (1, 13)
