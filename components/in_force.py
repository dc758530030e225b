"""Whether a redirect is in force: what the API server does with a Pod, by server-side dry run."""

from __future__ import annotations

import time
from dataclasses import dataclass

from components.api_server import ApiServer, ApiServerError
from components.pull_check import pod_spec

LEAST_SECONDS = 3.0
"""How long to hold in any case: longer than an API server was seen to take to learn of a policy.

0.2 to 1.8 s were measured. While one engine follows another both policies are there, and from
outside nobody can tell which of them rewrote a Pod.
"""
MOST_SECONDS = 60.0
_IN_A_ROW = 5
_INTERVAL_SECONDS = 0.3


class NotInForceError(Exception):
    """Pods are still admitted as written; the message says what to look at."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """A Pod that must be redirected."""

    written: str
    """The image it is written with."""
    admitted: str
    """The image it must be admitted with."""
    namespace: str = "default"
    """The namespace it is for; nothing is created in it."""


def await_redirect(api: ApiServer, expected: Expected, *, seconds: float = MOST_SECONDS) -> None:
    """Hold until Pods are redirected, several dry runs in a row, each on a new connection.

    Where the cluster lets no such Pod in, for another policy's or a right's sake, nothing can be
    seen, and the hold is `LEAST_SECONDS`.

    Raises:
        NotInForceError: when a Pod is still admitted as written after `seconds`.
    """
    began = time.monotonic()
    in_a_row = 0
    while in_a_row < _IN_A_ROW or time.monotonic() - began < LEAST_SECONDS:
        try:
            image = _admitted(api, expected)
        except ApiServerError:
            in_a_row = _IN_A_ROW  # nothing can be seen
        else:
            in_a_row = in_a_row + 1 if image == expected.admitted else 0
            if not in_a_row and time.monotonic() - began > seconds:
                raise NotInForceError(
                    f"the redirect policy is ready, yet no Pod is redirected after {seconds:g} s:"
                    f" {expected.written} is admitted as {image}\n"
                    "  do: see that the API server reaches Kyverno's Pods, port 9443 (security"
                    " groups, network policies), and that no other policy takes the image back;"
                    " then run `pulumi up` again"
                )
        time.sleep(_INTERVAL_SECONDS)


def _admitted(api: ApiServer, expected: Expected) -> str:
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "dockerhub-proxy-dry-run"},
        "spec": pod_spec(expected.written),
    }
    pod = api.create(f"/api/v1/namespaces/{expected.namespace}/pods", manifest, dry_run=True)
    return str(pod["spec"]["containers"][0]["image"])
