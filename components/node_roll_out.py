"""Waits until nodes pull through their mirror, and says which do not and why."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi

from components.api_server import ApiServer, ApiServerError

_PROBE = "Readiness probe failed: "
_FOR_GOOD = "refused: "


@dataclass(frozen=True, kw_only=True)
class RollOut:
    """How far a DaemonSet is on a cluster's nodes."""

    wanted: int | None
    """How many nodes are to have a Pod; None until Kubernetes has looked at the DaemonSet."""
    pods: int
    """How many have one."""
    updated: int
    """How many have one of the newest version."""
    missing: Mapping[str, str]
    """The nodes that are not served, each with its reason."""

    @property
    def complete(self) -> bool:
        """Whether every node is served."""
        return self.wanted is not None and self.pods >= self.wanted and not self.missing

    @property
    def final(self) -> bool:
        """Whether waiting does not help: those that are not served were refused for good."""
        known = self.wanted is not None and self.pods >= self.wanted
        return known and all(each.startswith(_FOR_GOOD) for each in self.missing.values())


def await_nodes(
    api: ApiServer, namespace: str, daemon_set: str, exclude: str, *, seconds: float
) -> None:
    """Wait until the Pod of every node is ready; its readiness probe says why it is not.

    Raises:
        pulumi.RunError: when some are not after `seconds`, or for good. It names these nodes with
            their reasons; `exclude` is the label that leaves a node out.
    """
    deadline = time.monotonic() + seconds
    reason = "nothing is known of them"
    while True:
        try:
            found = look(api, namespace, daemon_set, exclude)
        except ApiServerError as error:
            reason = f"they could not be looked at: {error}"
        else:
            if found.complete:
                return
            reason = describe(found)
            if found.final:
                break
        if time.monotonic() > deadline:
            break
        time.sleep(1)
    raise pulumi.RunError(
        f"nodes that do not pull through the proxy, while all others do: {reason}\n"
        f"  see:  kubectl -n {namespace} get pods -o wide\n"
        f"  then: repair the node, or leave it out: kubectl label node <name> {exclude}"
    )


def describe(found: RollOut) -> str:
    """The nodes that are not served, a line each, and whether they hold an update of the others."""
    if not found.missing:
        return f"{found.pods} of {found.wanted or 'the'} nodes have a Pod of the DaemonSet"
    lines = [f"{node}: {why}" for node, why in sorted(found.missing.items())]
    if found.wanted is not None and found.updated < found.wanted:
        lines.append(
            f"the update has reached {found.updated} of {found.wanted} nodes, and goes on when"
            " these are ready, or with a nodeMirror.maxUnavailable above their number"
        )
    return "".join(f"\n  {each}" for each in lines)


def look(api: ApiServer, namespace: str, daemon_set: str, exclude: str) -> RollOut:
    """What the DaemonSet, its Pods and their events say now; `exclude` as in await_nodes().

    Raises:
        ApiServerError: when the API server does not answer, or refuses.
    """
    core = f"/api/v1/namespaces/{namespace}"
    found = api.get(f"/apis/apps/v1/namespaces/{namespace}/daemonsets/{daemon_set}")
    status, metadata = found.get("status") or {}, found["metadata"]
    seen = status.get("observedGeneration") == metadata["generation"]
    every = [
        each
        for each in api.get(f"{core}/pods")["items"]
        if metadata["uid"]
        in {owner["uid"] for owner in each["metadata"].get("ownerReferences", ())}
    ]
    pods = [each for each in every if "deletionTimestamp" not in each["metadata"]]
    wanted = status.get("desiredNumberScheduled", 0) if seen else None
    leaving = {_node_of(each) for each in every} - {_node_of(each) for each in pods}
    waiting = [each for each in pods if not _is_ready(each)]
    events = api.get(f"{core}/events")["items"] if waiting else []
    return RollOut(
        wanted=wanted,
        pods=len(pods),
        updated=status.get("updatedNumberScheduled", 0),
        missing={
            **{
                each: "its Pod from before does not end; is the node Ready?"
                for each in leaving
                if _takes_part(api, each, exclude)
            },
            **{_node_of(each): _reason(each, events) for each in waiting},
        },
    )


def _takes_part(api: ApiServer, node: str, exclude: str) -> bool:
    """Whether a node is there, and not left out by the label."""
    try:
        labels = api.get(f"/api/v1/nodes/{node}")["metadata"].get("labels") or {}
    except ApiServerError as error:
        if error.status == 404:
            return False
        raise
    key, _, value = exclude.partition("=")
    return bool(labels.get(key) != value)


def _is_ready(pod: Mapping[str, Any]) -> bool:
    return any(
        each["type"] == "Ready" and each["status"] == "True"
        for each in pod["status"].get("conditions") or ()
    )


def _node_of(pod: Mapping[str, Any]) -> str:
    """The node of a DaemonSet's Pod; before it is bound, the one in its affinity."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    affinity = pod["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    names = (each["values"][0] for each in terms[0].get("matchFields", ()))
    return next(names, "a node that is not known yet")


def _reason(pod: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> str:
    """What its readiness probe said last, else why its container does not run."""
    said = [
        (str(each.get("lastTimestamp") or each.get("eventTime") or ""), str(each["message"]))
        for each in events
        if each["involvedObject"].get("uid") == pod["metadata"]["uid"]
        and str(each.get("message", "")).startswith(_PROBE)
    ]
    statuses = pod["status"].get("containerStatuses") or [{}]
    state = statuses[0].get("state") or {}
    if "running" in state and said:
        return max(said)[1].removeprefix(_PROBE).strip()
    if "running" in state:
        return "its Pod has not said anything yet"
    halted = state.get("waiting") or state.get("terminated") or {}
    why = ": ".join(filter(None, (halted.get("reason"), halted.get("message"))))
    return f"its Pod does not run ({why or pod['status']['phase']}); is the node Ready?"
