"""ImageRedirect: the policy that rewrites Docker Hub images to the proxy at admission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.redirect_policy import RedirectValues, render


@dataclass(frozen=True, kw_only=True)
class ImageRedirectArgs:
    """What is redirected where, by which engine."""

    engine: str
    domain: pulumi.Input[str]
    namespaces: Sequence[str]


class ImageRedirect(pulumi.ComponentResource):
    policy_name: pulumi.Output[str]
