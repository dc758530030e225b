"""Why a Pod's image was not pulled, read from what Kubernetes says of the Pod. No Pulumi here."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from components.types import DOCKER_HUB, display_name, settings_of

_CAUSES: Final[Mapping[str, str]] = {
    r"no such host|server misbehaving|name resolution": """\
nodes find no address of {domain}
  do:   let the cluster's VPC in to the registry (edition Enterprise), or look at the nodes' DNS""",
    r"connection refused|connection reset|no route to host|network is unreachable": """\
nodes are refused a connection to {domain}
  do:   look at security groups, network ACLs and the registry's access control""",
    r"x509|certificate": """\
nodes do not trust the certificate of {domain}
  do:   look for a proxy on the way that shows one of its own""",
    r"\b429\b|toomanyrequests|Too Many Requests": """\
a rate limit, {upstream}'s or the registry's
  do:   set {account}.username and {account}.password, or run `pulumi up` later""",
    r"\b401\b|[Uu]nauthorized|authentication required|failed to authorize": """\
{domain} refused the login
  do:   look at login.password, and at the {upstream} account it pulls with""",
    r"\b403\b|[Ff]orbidden|denied|insufficient_scope": """\
{domain} denied access
  do:   look at the namespace's access ({setting}.namespaces) and at login.password""",
    r"\b404\b|not found|manifest unknown": """\
{domain} has no such image: {upstream} has none of the name, or the namespace is not served
  do:   look at {image} and {setting}.namespaces""",
    r"i/o timeout|[Tt]imed? ?out|deadline exceeded": """\
nodes get no answer from {domain}, or it gets none from {upstream}
  do:   look at security groups, network ACLs and the registry's page""",
}
"""What containerd and kubelet write, and what it means; the first that fits counts."""


def cause(
    image: str, pods: Sequence[Any], events: Sequence[Any], host: str = DOCKER_HUB
) -> str | None:
    """Why the newest Pod does not run, what to do, and what Kubernetes wrote; None if unknown.

    `events` are those of the Job and of its Pods; `host` is the registry whose proxy is checked.
    """
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
        meaning = _meaning(pulled.replace(image, ""), image.partition("/")[0], host)
        return f"{meaning}\n  says: {pulled}"
    ended = next((each["terminated"] for each in states if each.get("terminated")), None)
    if ended and ended.get("exitCode"):
        (container,) = pod["spec"]["containers"]
        program = f"`{container['command'][0]}`" if "command" in container else "its own program"
        return f"the image was pulled, but {program} ended with {ended['exitCode']} in it"
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


def _meaning(message: str, domain: str, host: str) -> str:
    setting, account = settings_of(host)
    for pattern, meaning in _CAUSES.items():
        if re.search(pattern, message):
            return meaning.format(
                domain=domain,
                upstream=display_name(host),
                setting=setting,
                account=account,
                image="pullCheck.image" if host == DOCKER_HUB else f"{setting}.pullCheckImage",
            )
    return f"nodes cannot pull from {domain}"
