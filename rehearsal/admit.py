"""What image references become at admission, asked by server-side dry run."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from kubernetes import client
from urllib3.exceptions import HTTPError, MaxRetryError


@dataclass(frozen=True, kw_only=True)
class Admission:
    """One reference, and what became of it."""

    image: str
    """The reference as written."""
    admitted: str | None
    """The reference in the Pod as admitted; None when the Pod was not."""
    error: str | None
    """Why the Pod was not admitted, or that the API server could not be asked."""


def admit(
    api_client: client.ApiClient,
    references: Iterable[str],
    *,
    namespace: str = "default",
    workers: int = 4,
) -> Iterator[Admission]:
    """Ask for a Pod of each reference, several at once, and yield the answers in their order.

    References are read only as fast as they are answered, so the input may be endless.
    """
    pods = client.CoreV1Api(api_client)
    waiting: deque[Future[Admission]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for reference in references:
            waiting.append(pool.submit(_ask, pods, reference, namespace))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _ask(pods: client.CoreV1Api, reference: str, namespace: str) -> Admission:
    pod: Any = {
        "metadata": {"generateName": "admit-"},
        "spec": {"containers": [{"name": "main", "image": reference}]},
    }
    try:
        # Not as the client's own types, which take as long to make as the API server to answer.
        answer: Any = pods.create_namespaced_pod(
            namespace, pod, dry_run="All", _preload_content=False
        )
    except client.ApiException as error:
        return Admission(image=reference, admitted=None, error=_message(error))
    except HTTPError as error:
        cause = error.reason if isinstance(error, MaxRetryError) else error
        said = f"no answer from the API server: {cause}"
        return Admission(image=reference, admitted=None, error=said)
    (container,) = json.loads(answer.data)["spec"]["containers"]
    return Admission(image=reference, admitted=container["image"], error=None)


def _message(error: client.ApiException) -> str:
    """The API server's own words."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
