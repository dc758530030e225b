"""Pods on the rehearsal's real node, and the two clocks that are read: from apply, from kubelet."""

from __future__ import annotations

import os
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from kubernetes import client

from components.policy import OPT_OUT_LABEL, OPT_OUT_VALUE
from rehearsal import wait
from rehearsal.cluster import node as real_node
from rehearsal.running import deployment

_RUNNING_SECONDS = 320.0
_GONE_SECONDS = 60.0
_KUBELET_SECONDS = 20.0
_INTERVAL_SECONDS = 0.02
"""How exactly times are measured."""


class Pods:
    """Deployments of one Pod each, on the one real node."""

    def __init__(self, api: client.ApiClient, node: int) -> None:
        self._core = client.CoreV1Api(api)
        self._apps = client.AppsV1Api(api)
        self._node = node

    def after_apply(self, image: str) -> float:
        """Seconds from a Deployment's creation to its Pod Running, on a node that is Ready."""
        started = time.monotonic()
        with self._deployed(image) as app:
            return self._running(app) - started

    def after_kubelet(self, image: str) -> float:
        """Seconds from the start of a kubelet to the Pod of a waiting Deployment Running.

        The node is new to the cluster: its object was deleted while no kubelet ran.
        """
        before = self._kubelet()
        os.kill(before, signal.SIGSTOP)
        self._core.delete_node(real_node.NAME)
        with self._deployed(image) as app:
            wait.until(lambda: self._waits(app), "the Pod waits for a node", timeout=20)
            os.kill(before, signal.SIGKILL)
            wait.until(
                lambda: self._kubelet(before),
                "the kubelet is started again",
                timeout=_KUBELET_SECONDS,
                interval=_INTERVAL_SECONDS,
            )
            started = time.monotonic()
            return self._running(app) - started

    @contextmanager
    def _deployed(self, image: str) -> Iterator[str]:
        """A Deployment, gone with its Pod afterwards; its Pod's label `app`."""
        app = f"bench-{secrets.token_hex(3)}"
        pod = {
            "nodeSelector": dict(real_node.LABELS),
            "tolerations": [{"key": real_node.TAINT.partition("=")[0], "operator": "Exists"}],
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "web", "image": image}],
        }
        body = deployment(app, pod, {OPT_OUT_LABEL: OPT_OUT_VALUE})
        self._apps.create_namespaced_deployment("default", body)
        try:
            yield app
        finally:
            self._apps.delete_namespaced_deployment(app, "default")
            wait.until(lambda: not self._found(app), "the Pod is gone", timeout=_GONE_SECONDS)

    def _found(self, app: str) -> list[Any]:
        pods: Any = self._core.list_namespaced_pod("default", label_selector=f"app={app}")
        return list(pods.items)

    def _running(self, app: str) -> float:
        """The time at which the Pod is seen Running."""
        wait.until(
            lambda: [each for each in self._found(app) if each.status.phase == "Running"],
            "the Pod is Running",
            timeout=_RUNNING_SECONDS,
            interval=_INTERVAL_SECONDS,
        )
        return time.monotonic()

    def _waits(self, app: str) -> bool:
        """Whether the scheduler has found no node for the Pod."""
        return any(
            each.reason == "Unschedulable"
            for pod in self._found(app)
            for each in pod.status.conditions or ()
        )

    def _kubelet(self, other_than: int = 0) -> int:
        """The kubelet's process, as seen from outside the node; 0 while there is none."""
        for each in psutil.Process(self._node).children():
            try:
                if each.pid != other_than and Path(each.exe()).name == "kubelet":
                    return int(each.pid)
            except psutil.Error:  # it has ended, or is no kubelet yet
                continue
        return 0
