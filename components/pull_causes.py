"""Why a Pod's image was not pulled, read from what Kubernetes says of the Pod. No Pulumi here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

_CAUSES: Final[Mapping[str, str]] = {
    r"no such host|server misbehaving|name resolution": """\
nodes find no address of {host}
  do:   let the cluster's VPC in to the registry (edition Enterprise), or look at the nodes' DNS""",
    r"connection refused|connection reset|no route to host|network is unreachable": """\
nodes are refused a connection to {host}
  do:   look at security groups, network ACLs and the registry's access control""",
    r"x509|certificate": """\
nodes do not trust the certificate of {host}
  do:   look for a proxy on the way that shows one of its own""",
    r"\b429\b|toomanyrequests|Too Many Requests": """\
a rate limit, Docker Hub's or the registry's
  do:   set dockerhub.username and dockerhub.password, or run `pulumi up` later""",
    r"\b401\b|[Uu]nauthorized|authentication required|failed to authorize": """\
{host} refused the login
  do:   look at login.password, and at the Docker Hub account it pulls with""",
    r"\b403\b|[Ff]orbidden|denied|insufficient_scope": """\
{host} denied access
  do:   look at the namespace's access (registry.namespaces) and at login.password""",
    r"\b404\b|not found|manifest unknown": """\
{host} has no such image: Docker Hub has none of the name, or the namespace is not served
  do:   look at pullCheck.image and registry.namespaces""",
    r"i/o timeout|[Tt]imed? ?out|deadline exceeded": """\
nodes get no answer from {host}, or it gets none from Docker Hub
  do:   look at security groups, network ACLs and the registry's page""",
}
"""What containerd and kubelet write, and what it means; the first that fits counts."""


def cause(image: str, pods: Sequence[Any], events: Sequence[Any]) -> str | None:
    """Why the newest Pod does not run, what to do, and what Kubernetes wrote; None if unknown.

    `events` are those of the Job and of its Pods.
    """
    host = image.partition("/")[0]
    if not pods:
        refused = _latest(events, {"FailedCreate"})
        return refused and f"the cluster lets no Pod of the check be created: {refused}"
    pod = max(pods, key=lambda each: str(each["metadata"]["creationTimestamp"]))
    status = pod.get("status") or {}
    unscheduled = next(
        (
            each.get("message")
            for each in status.get("conditions") or []
            if each["type"] == "PodScheduled" and each["status"] == "False"
        ),
        None,
    )
    if unscheduled:
        return f"there is no node for the check's Pod to run on: {unscheduled}"
    own = [each for each in events if each["involvedObject"].get("uid") == pod["metadata"]["uid"]]
    states = [each.get("state") or {} for each in status.get("containerStatuses") or []]
    said = [
        each["waiting"].get("message") or ""
        for each in states
        if "pull" in each.get("waiting", {}).get("reason", "").lower()
    ]
    pulled = _latest(own, {"Failed"}) or next(iter(filter(None, said)), None)
    if pulled:
        return f"{_meaning(pulled.replace(image, ''), host)}\n  says: {pulled}"
    ended = next((each["terminated"] for each in states if each.get("terminated")), None)
    if ended and ended.get("exitCode"):
        return f"the image was pulled, but `true` ended with {ended['exitCode']} in it"
    if status.get("phase") == "Pending":
        name = pod["spec"].get("nodeName")
        return f"node {name} has not started the Pod yet: it is slow to pull, or not ready"
    return None


def _latest(events: Sequence[Mapping[str, Any]], reasons: set[str]) -> str | None:
    """The message of the newest of these events that says something of its own."""
    found = [
        each
        for each in events
        if each.get("reason") in reasons and not str(each.get("message")).startswith("Error: ")
    ]
    if not found:
        return None
    return str(max(found, key=lambda each: str(each.get("lastTimestamp") or ""))["message"])


def _meaning(message: str, host: str) -> str:
    for pattern, meaning in _CAUSES.items():
        if re.search(pattern, message):
            return meaning.format(host=host)
    return f"nodes cannot pull from {host}"
