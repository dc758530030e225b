"""The proof on a real node: each way's Pod really runs, and its pull is in the access log."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubernetes import client

from rehearsal import wait
from rehearsal.cloud.registries.access_log import AccessRecord, log_file, read_log
from rehearsal.cluster import node as real_node
from rehearsal.stage import Run

_SECONDS = 60.0
_TOLERATION = {"key": real_node.TAINT.partition("=")[0], "operator": "Exists"}


@dataclass(frozen=True, kw_only=True)
class Ran:
    """A Deployment's Pod that is Ready on the real node."""

    image: str
    """As its Pod has it."""
    image_id: str
    """What the node pulled, with its digest."""
    seconds: float
    """From the Deployment's creation to the Pod being Ready."""


def deployment(app: str, pod: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> Any:
    """A Deployment of one such Pod, which has the label `app` and these."""
    own = {"app": app}
    template = {"metadata": {"labels": {**own, **(labels or {})}}, "spec": pod}
    spec = {"selector": {"matchLabels": own}, "template": template}
    return {"metadata": {"name": app}, "spec": spec}


def run(
    api: client.ApiClient,
    image: str,
    *,
    labels: Mapping[str, str] | None = None,
    namespace: str = "default",
    pull_secrets: Sequence[str] = (),
) -> Ran:
    """Deploy one Pod of an image on the real node and wait until it is Ready.

    `labels` are further labels of the Pod. Raises NotInTimeError when it is not in a minute.
    """
    app = f"running-{secrets.token_hex(3)}"
    container = {
        "name": "web",
        "image": image,
        "imagePullPolicy": "Always",
        "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1},
    }
    pod = {
        "nodeSelector": dict(real_node.LABELS),
        "tolerations": [_TOLERATION],
        "terminationGracePeriodSeconds": 1,
        "imagePullSecrets": [{"name": each} for each in pull_secrets],
        "containers": [container],
    }
    body = deployment(app, pod, labels)
    core = client.CoreV1Api(api)
    started = time.monotonic()
    client.AppsV1Api(api).create_namespaced_deployment(namespace, body)

    def ready() -> Ran | None:
        found: Any = core.list_namespaced_pod(namespace, label_selector=f"app={app}")
        for pod in found.items:
            (status,) = pod.status.container_statuses or [None]
            if status is not None and status.ready:
                return Ran(
                    image=pod.spec.containers[0].image,
                    image_id=status.image_id,
                    seconds=time.monotonic() - started,
                )
        return None

    try:
        return wait.until(ready, f"a Pod of {image} is Ready on the real node", timeout=_SECONDS)
    finally:
        client.AppsV1Api(api).delete_namespaced_deployment(app, namespace)


def records_of(run: Run, domain: str) -> list[AccessRecord]:
    """What a proxy registry has logged so far."""
    return read_log(log_file(run.proxies, domain))


def by_containerd(records: Sequence[AccessRecord]) -> list[AccessRecord]:
    """The requests of containerd."""
    return [each for each in records if each.agent.startswith("containerd/")]
