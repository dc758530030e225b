"""Valid configs, for tests to change one thing in."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

from rehearsal.deploy.stack_file import StackConfig
from rehearsal.locations import CHECKOUT
from settings.errors import PROJECT

STACK_FILES = {
    path.name.split(".")[1]: path
    for folder in (CHECKOUT, CHECKOUT / "docs" / "examples")
    for path in sorted(folder.glob("Pulumi.*.yaml"))
}
"""The project's own stack files and its examples, by the stack's name."""


def kubeconfig(cluster: str = "apps") -> str:
    """A kubeconfig of the cluster of this name, with a token in it."""
    return json.dumps(
        {
            "current-context": cluster,
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": "admin"}}],
            "clusters": [{"name": cluster, "cluster": {"server": f"https://{cluster}.example"}}],
            "users": [{"name": "admin", "user": {"token": "kubeconfig-secret"}}],
        }
    )


MICRO: dict[str, Any] = {
    "registry": {"name": "hub-dev", "namespaces": [{"name": "library", "access": "Public"}]},
    "login": {"password": "Login-password-1"},
    "clusters": [{"name": "dev", "clusterId": "ccdev001"}],
}
ENTERPRISE: dict[str, Any] = {
    "registry": {
        "name": "hub-prod",
        "edition": "Enterprise",
        "namespaces": [{"name": "library", "access": "Public"}, "bitnami"],
        "tags": {"team": "platform", "env": "prod"},
    },
    "dockerhub": {"username": "someone", "password": "hub-password"},
    "login": {"password": "Login-password-1"},
    "clusters": [
        {"name": "apps", "clusterId": "ccapps01"},
        {"name": "data", "clusterId": "ccdata01"},
    ],
}

GHCR: dict[str, Any] = {
    "host": "ghcr.io",
    "name": "ghcr-dev",
    "namespaces": [{"name": "kyverno", "access": "Public"}],
}
QUAY: dict[str, Any] = {
    "host": "quay.io",
    "name": "quay-dev",
    "namespaces": [{"name": "prometheus", "access": "Public"}, "acme"],
    "username": "robot",
    "password": "quay-password",
    "pullCheckImage": "prometheus/busybox:latest",
}


def changed(base: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `base` with the value at a dotted path set; `...` removes it."""
    document = deepcopy(base)
    node: Any = document
    *parents, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in parents:
        node = node.setdefault(key, {}) if isinstance(node, dict) else node[key]
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return document


def config(document: dict[str, Any], *, region: str | None = "cn-beijing") -> StackConfig:
    """The document as a stack's config, with every section that holds a secret marked so."""
    values = {f"{PROJECT}:{name}": json.dumps(section) for name, section in document.items()}
    if region:
        values["volcengine:region"] = region
    secret = {f"{PROJECT}:{name}" for name in ("dockerhub", "login")}
    if '"password"' in json.dumps(document.get("upstreams", [])):
        secret.add(f"{PROJECT}:upstreams")
    if "kubeconfig" in json.dumps(document.get("clusters", [])):
        secret.add(f"{PROJECT}:clusters")
    return StackConfig(values=values, secret_keys=frozenset(secret & values.keys()))
