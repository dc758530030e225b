"""The cluster that a kubeconfig leads to."""

from __future__ import annotations

import json
from typing import Any

import yaml


def cluster_in(kubeconfig: str) -> str:
    """What identifies the cluster of a kubeconfig's current context, as text.

    That is its address with its authority, and a command that gets the login: some gateways serve
    many clusters at one address and differ in that command.

    Raises:
        ValueError: when it leads to no cluster. Pulumi's provider would take another one then, the
            one of whoever runs it.
    """
    try:
        document = yaml.safe_load(kubeconfig)
    except yaml.YAMLError:
        raise ValueError("it is not YAML") from None
    document = document if isinstance(document, dict) else {}
    context = _entry(document, "context", document.get("current-context"))
    cluster = _entry(document, "cluster", context.get("cluster"))
    user = _entry(document, "user", context.get("user"))
    server = cluster.get("server")
    if not isinstance(server, str) or "://" not in server:
        raise ValueError("its current context leads to no server")
    known = {**cluster, "server": server.rstrip("/")}
    return json.dumps([known, user.get("exec")], sort_keys=True, default=str)


def _entry(document: dict[str, Any], kind: str, name: Any) -> dict[str, Any]:
    """A context, cluster or user of a kubeconfig by its name; empty when there is none."""
    entries = document.get(f"{kind}s")
    for each in entries if isinstance(entries, list) else []:
        if isinstance(each, dict) and name is not None and each.get("name") == name:
            found = each.get(kind)
            return found if isinstance(found, dict) else {}
    return {}
