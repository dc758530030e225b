"""The permissions an inventory of a cluster needs."""

from __future__ import annotations

from typing import Any

import yaml

from inventory.clusters import PLURALS

NAME = "vke-dockerhub-proxy-inventory"


def role(*, custom_resources: bool) -> str:
    """A ClusterRole that may list what is read, as YAML, and how to bind it."""
    groups: dict[str, list[str]] = {"": ["namespaces"]}
    for group, plural in PLURALS:
        groups.setdefault(group, []).append(plural)
    if custom_resources:
        groups["apiextensions.k8s.io"] = ["customresourcedefinitions"]
    rules: list[dict[str, Any]] = [
        {"apiGroups": [group], "resources": sorted(plurals), "verbs": ["list"]}
        for group, plurals in sorted(groups.items())
    ]
    manifest = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": NAME},
        "rules": rules,
    }
    more = (
        "# and `list` of each custom resource to be read; what may not be read is named in the"
        " answer\n"
        if custom_resources
        else ""
    )
    return (
        f"# kubectl create clusterrolebinding {NAME} --clusterrole={NAME} --user=<who reads>\n"
        f"{more}{yaml.safe_dump(manifest, sort_keys=False, default_flow_style=None)}"
    )
