"""The one API server and the one Kyverno that everything is measured on."""

from __future__ import annotations

import json
import os
import ssl
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.docker_hub import NAMES
from bench.load import DOMAIN, HUB_IMAGE, Case, Connection
from rehearsal import wait
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cluster import control_plane, kyverno
from rehearsal.parts.build import Profile, obtain
from rehearsal.processes import Processes, free_port
from rehearsal.progress import Progress

WEBHOOK_TIMEOUT_SECONDS = 2
"""Kyverno's `--webhookTimeout`, as the stack sets it."""

_PATHS = {
    "ClusterPolicy": "kyverno.io/v1/clusterpolicies",
    "MutatingPolicy": "policies.kyverno.io/v1/mutatingpolicies",
    "MutatingAdmissionPolicy": "admissionregistration.k8s.io/v1/mutatingadmissionpolicies",
    "MutatingAdmissionPolicyBinding": (
        "admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings"
    ),
}


class BenchError(Exception):
    """What the cluster answers is not what it should; the message says it."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A running control plane with Kyverno and no policy."""

    plane: control_plane.ControlPlane
    hub: str
    """The URL of the registry that plays Docker Hub."""
    trust: ssl.SSLContext
    connection: Connection
    kyverno: kyverno.StandIn

    def set_delay(self, milliseconds: int) -> None:
        """Let Docker Hub answer each request after so long."""
        request = urllib.request.Request(f"{self.hub}/delay/{milliseconds}", method="PUT")
        with urllib.request.urlopen(request, context=self.trust):
            pass

    def requests(self) -> int:
        """How many requests Docker Hub has had."""
        with urllib.request.urlopen(f"{self.hub}/requests", context=self.trust) as answer:
            return int(answer.read())

    @contextmanager
    def policy(self, documents: Sequence[Mapping[str, Any]]) -> Iterator[None]:
        """A policy in force while the context lasts; before and after it there is none.

        Raises:
            NotInTimeError: when it does not take effect, or does not go.
        """
        self._settle(redirects=False)
        try:
            for each in documents:
                self._ask("PATCH", each, json.dumps(each).encode())
            if documents:
                self._settle(redirects=True)
            yield
        finally:
            for each in reversed(documents):
                self._ask("DELETE", each)
            self._settle(redirects=False)

    def _ask(self, method: str, document: Mapping[str, Any], body: bytes | None = None) -> None:
        name = document["metadata"]["name"]
        options = "?fieldManager=bench&force=true" if body else ""
        path = f"/apis/{_PATHS[document['kind']]}/{name}{options}"
        kind = "application/apply-patch+yaml" if body else "application/json"

        def done() -> bool:
            status, answer = self.connection.ask(method, path, body, kind)
            if status < 300 or (method == "DELETE" and status == 404):
                return True
            raise BenchError(f"{status} {answer[:500].decode()}")

        wait.until(done, f"{method} {path}", timeout=30, ignoring=BenchError)

    def _settle(self, *, redirects: bool) -> None:
        """Wait until eight Pods in a row come out as they should."""
        pod = Case().pod()
        expected = f"{DOMAIN}/library/{HUB_IMAGE}" if redirects else HUB_IMAGE

        def settled() -> bool:
            for _ in range(8):
                status, body = self.connection.admit(pod)
                image = json.loads(body)["spec"]["containers"][0]["image"] if status == 201 else ""
                if image != expected:
                    raise BenchError(f"it is {image or body!r}")
            return True

        what = f"eight Pods are admitted with {expected}"
        wait.until(settled, what, interval=0.02, ignoring=BenchError)


@contextmanager
def cluster(folder: Path, progress: Progress) -> Iterator[Cluster]:
    """Start everything in `folder`, and stop it at the end."""
    parts = obtain((*control_plane.PARTS, "kyverno", "helm"), progress, Profile.RELEASE)
    with ExitStack() as stack:
        processes = stack.enter_context(Processes(folder / "logs"))
        authority = Authority.create(folder / "authority")
        with progress.step("starting Kubernetes"):
            plane = control_plane.start(
                processes, parts, folder / "plane", authority, environment={}
            )
        with progress.step("starting a registry that plays Docker Hub"):
            hub, proxy = _start_hub(processes, folder, authority)
        with progress.step("starting Kyverno"):
            stand_in = kyverno.install(
                processes,
                parts,
                folder / "kyverno",
                plane,
                flags={"webhookTimeout": str(WEBHOOK_TIMEOUT_SECONDS)},
                environment={"HTTPS_PROXY": proxy, "SSL_CERT_FILE": str(authority.certificate)},
            )
        connection = Connection(plane)
        stack.callback(connection.close)
        wait.until(lambda: connection.admit(Case().pod())[0] == 201, "Pods can be created")
        yield Cluster(
            plane=plane,
            hub=hub,
            trust=authority.context(),
            connection=connection,
            kyverno=stand_in,
        )


def _start_hub(processes: Processes, folder: Path, authority: Authority) -> tuple[str, str]:
    port = free_port()
    issued = authority.issue([*NAMES, "127.0.0.1"], folder / "hub")
    ready = folder / "hub.ready"
    processes.start(
        "docker-hub",
        [
            *(sys.executable, "-m", "bench.docker_hub"),
            *(str(port), issued.certificate, issued.key, ready),
        ],
        environment={"PYTHONPATH": os.pathsep.join(sys.path)},
        ready=lambda: ready.is_file() and bool(ready.read_text()),
    )
    return f"https://127.0.0.1:{port}", ready.read_text()
