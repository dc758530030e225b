"""The cluster a kubeconfig leads to."""

from __future__ import annotations

import json
from typing import Any

import yaml


def cluster_in(kubeconfig: str) -> str:
    """What tells the cluster of a kubeconfig's current context from others, as text.

    That is its address with its authority, and a command that gets the login: some gateways serve
    many clusters at one address and tell them apart by it.

    Raises:
        ValueError: when it leads to no cluster. Pulumi's provider would take another one then, the
            one of whoever runs it.
    """
    try:
        document = yaml.safe_load(kubeconfig)
    except yaml.YAMLError:
        raise ValueError("it is not YAML") from None
    context = _entry(document, "context", _value(document, "current-context"))
    cluster = _entry(document, "cluster", context.get("cluster"))
    user = _entry(document, "user", context.get("user"))
    server = cluster.get("server")
    if not isinstance(server, str) or "://" not in server:
        raise ValueError("its current context leads to no server")
    known = {**cluster, "server": server.rstrip("/")}
    return json.dumps([known, user.get("exec")], sort_keys=True, default=str)


def _entry(document: Any, kind: str, name: Any) -> dict[str, Any]:
    """A context, cluster or user of a kubeconfig by its name; empty when there is none."""
    entries = _value(document, f"{kind}s")
    for each in entries if isinstance(entries, list) else []:
        if name is not None and _value(each, "name") == name:
            found = _value(each, kind)
            return found if isinstance(found, dict) else {}
    return {}


def _value(mapping: Any, key: str) -> Any:
    return mapping.get(key) if isinstance(mapping, dict) else None
