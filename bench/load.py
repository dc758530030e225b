"""Server-side dry-run creates of Pods, timed.

One HTTP/1.1 connection a worker, kept open; the standard library's client, which adds least of its
own time to each request. A time is from before the request is written to after the whole answer is
read. At concurrency 16 all workers are threads of this process, on the API server's own machine.
"""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from rehearsal.cluster.control_plane import ControlPlane

DOMAIN = "dockerhub-proxy.example.com"
"""Where the policies redirect to; nothing is pulled from it."""
HUB_IMAGE = "nginx:1.28"
OTHER_IMAGE = "quay.io/prometheus/node-exporter:v1.9.1"
"""An image no policy redirects."""
_PODS = "/api/v1/namespaces/default/pods?dryRun=All"


class Connection:
    """A connection to the API server, with the administrator's token; not for two threads."""

    def __init__(self, plane: ControlPlane) -> None:
        parts = urlsplit(plane.url)
        self._http = http.client.HTTPSConnection(
            parts.hostname or "",
            parts.port,
            context=ssl.create_default_context(cafile=str(plane.authority)),
            timeout=60,
        )
        self._headers = {"Authorization": f"Bearer {plane.token}"}

    def ask(
        self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """The status and body of the answer."""
        self._http.request(method, path, body, {**self._headers, "Content-Type": kind})
        answer = self._http.getresponse()
        return answer.status, answer.read()

    def admit(self, pod: bytes) -> tuple[int, bytes]:
        """The status and body of the answer to a dry-run create."""
        return self.ask("POST", _PODS, pod)

    def close(self) -> None:
        """Close it."""
        self._http.close()


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kind of Pod and how many are created at the same time."""

    containers: int = 1
    redirected: bool = True
    """Whether its images are Docker Hub's."""
    workers: int = 1

    @property
    def name(self) -> str:
        """How tables and raw numbers call it."""
        what = "" if self.redirected else ", nothing to redirect"
        at_once = "" if self.workers == 1 else f", {self.workers} at once"
        return f"{self.containers} container{'s' * (self.containers > 1)}{what}{at_once}"

    def pod(self) -> bytes:
        """The Pod, as JSON."""
        image = HUB_IMAGE if self.redirected else OTHER_IMAGE
        containers = [{"name": f"c{n}", "image": image} for n in range(self.containers)]
        document: Mapping[str, Any] = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "bench"},
            "spec": {"containers": containers},
        }
        return json.dumps(document).encode()


@dataclass(kw_only=True)
class Sample:
    """What was measured of one case in one round."""

    milliseconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    """How long it took in all."""
    refused: int = 0
    """Pods denied."""
    unchanged: int = 0
    """Pods admitted without the proxy's domain in every container."""


def measure(plane: ControlPlane, case: Case, *, count: int, seconds: float, warm: int) -> Sample:
    """Create Pods until there are `count` samples or `seconds` are over, at least one a worker.

    `warm` creates of each worker come first and are not counted.
    """
    pod = case.pod()
    mark = f'"image":"{DOMAIN}/library/{HUB_IMAGE}"'.encode()
    sample = Sample()
    lock = threading.Lock()
    barrier = threading.Barrier(case.workers + 1)
    failures: list[BaseException] = []

    def work() -> None:
        mine = Sample()
        connection = Connection(plane)
        try:
            for _ in range(warm):
                connection.admit(pod)
            barrier.wait()
            end = time.perf_counter() + seconds
            for _ in range(max(1, count // case.workers)):
                begun = time.perf_counter_ns()
                status, body = connection.admit(pod)
                mine.milliseconds.append((time.perf_counter_ns() - begun) / 1e6)
                mine.refused += status != 201
                mine.unchanged += status == 201 and body.count(mark) != case.containers
                if time.perf_counter() > end:
                    break
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            failures.append(error)
            barrier.abort()
        finally:
            connection.close()
        with lock:
            sample.milliseconds += mine.milliseconds
            sample.refused += mine.refused
            sample.unchanged += mine.unchanged

    threads = [threading.Thread(target=work) for _ in range(case.workers)]
    gc.disable()
    try:
        for each in threads:
            each.start()
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait()
        begun = time.perf_counter()
        for each in threads:
            each.join()
        sample.seconds = time.perf_counter() - begun
    finally:
        gc.enable()
    if failures:
        raise failures[0]
    return sample
