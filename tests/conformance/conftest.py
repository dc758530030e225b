"""A real control plane and a real Kyverno for the policies, shared by all tests of this folder."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from components.redirect_policy import ENGINES, RedirectValues, render
from kubernetes import client
from rehearsal import chart, control_plane, kyverno_stand_in, parts
from rehearsal.admit import admit
from rehearsal.data_plane.certificates import Authority
from rehearsal.processes import Processes
from rehearsal.progress import Progress

sys.path.insert(0, str(Path(__file__).parent))

from references import Oracle

KUBERNETES_VERSION = "1.37"
KYVERNO_VERSION = "1.19"
DOMAIN = "dockerhub-proxy.example.com"
WEBHOOK_TIMEOUT_SECONDS = 2


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The control plane and the ways the tests use it."""

    plane: control_plane.ControlPlane
    kubectl_binary: Path
    api: client.ApiClient

    def kubectl(
        self, *arguments: str, document: Any = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl, with a document on its standard input if there is one."""
        return subprocess.run(
            [self.kubectl_binary, f"--kubeconfig={self.plane.kubeconfig}", *arguments],
            input=None if document is None else json.dumps(document),
            check=check, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def create(self, pod: Mapping[str, Any], namespace: str = "default") -> dict[str, Any]:
        """The Pod as it would be stored, by server-side dry run."""
        return self.stored(pod, namespace, dry_run="All")

    def stored(
        self, pod: Mapping[str, Any], namespace: str = "default", **options: Any
    ) -> dict[str, Any]:
        """The Pod as the API server answers it."""
        answer = client.CoreV1Api(self.api).create_namespaced_pod(
            namespace, dict(pod), _preload_content=False, **options
        )
        found: dict[str, Any] = json.loads(answer.data)
        return found

    def pod(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """A stored Pod."""
        found: dict[str, Any] = json.loads(
            self.kubectl("get", "pod", name, "-n", namespace, "-o", "json").stdout
        )
        return found

    def pods(self, selector: str, namespace: str = "default") -> list[dict[str, Any]]:
        """Stored Pods with a label."""
        text = self.kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "json").stdout
        found: list[dict[str, Any]] = json.loads(text)["items"]
        return found

    def admitted(self, image: str) -> str | None:
        """What an image of a Pod is admitted as."""
        return next(iter(admit(self.api, [image], namespace="default"))).admitted

    @contextmanager
    def policy(self, engine: str, **values: Any) -> Iterator[list[dict[str, Any]]]:
        """A policy in force while the context lasts, and gone after it."""
        given = RedirectValues(
            domain=DOMAIN,
            timeout_seconds=WEBHOOK_TIMEOUT_SECONDS,
            **{"namespaces": ["library"], "failure_policy": "Fail", **values},
        )
        documents = render(
            engine,
            given,
            kubernetes_version=KUBERNETES_VERSION,
            kyverno_version=KYVERNO_VERSION,
        )
        probe = f"docker.io/{given.namespaces[0]}/probe"
        try:
            for each in documents:
                self.kubectl("apply", "--server-side", "-f", "-", document=each)
            until(lambda: self.admitted(probe) not in {probe, None}, f"{engine} takes effect")
            yield documents
        finally:
            for each in reversed(documents):
                kind, name = each["kind"], each["metadata"]["name"]
                self.kubectl("delete", kind, name, "--ignore-not-found")
            until(lambda: self.admitted(probe) == probe, f"{engine} is gone")


def until(done: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Wait until something holds.

    Raises:
        AssertionError: when it does not in time.
    """
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not in {seconds:.0f} s: {what}"
        time.sleep(0.1)


@dataclass(kw_only=True)
class KyvernoProcess:
    """Kyverno's admission controller, which a test can stop, start and freeze."""

    processes: Processes
    start: Callable[[], None]

    def stop(self) -> None:
        """End it at once, its webhooks left registered, as a node that dies would."""
        process = self._process()
        process.kill()
        self.processes.stop("kyverno")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it accept connections but answer none."""
        process = self._process()
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    def _process(self) -> psutil.Process:
        return psutil.Process(self.processes._started["kyverno"].pid)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conformance")


@pytest.fixture(scope="session")
def found_parts() -> dict[str, Path]:
    return parts.obtain((*control_plane.PARTS, "kyverno", "helm"), Progress())


@pytest.fixture(scope="session")
def processes(folder: Path) -> Iterator[Processes]:
    with Processes(folder / "logs") as running:
        yield running


@pytest.fixture(scope="session")
def cluster(
    folder: Path, found_parts: dict[str, Path], processes: Processes
) -> Iterator[Cluster]:
    plane = control_plane.start(
        processes, found_parts, folder / "plane", Authority.create(folder / "authority")
    )
    api = control_plane.client_of(plane.kubeconfig)
    made = Cluster(plane=plane, kubectl_binary=found_parts["kubectl"], api=api)
    made.kubectl("apply", "-f", "-", document=control_plane.node("node-a"))
    until(
        lambda: made.kubectl("get", "serviceaccount", "default", check=False).returncode == 0,
        "the default service account exists",
    )
    yield made
    api.close()


@pytest.fixture(scope="session")
def kyverno(
    folder: Path, found_parts: dict[str, Path], processes: Processes, cluster: Cluster
) -> KyvernoProcess:
    """Kyverno of the pinned chart, as a process, with the webhook timeout of the policies."""
    chart.assemble(found_parts, folder / "chart")
    values = folder / "values.yaml"
    excluded = {
        "key": "kubernetes.io/metadata.name",
        "operator": "NotIn",
        "values": ["kube-system", "kyverno"],
    }
    webhooks = {"namespaceSelector": {"matchExpressions": [excluded]}}
    values.write_text(yaml.safe_dump({"config": {"webhooks": webhooks}}))
    manifests = subprocess.run(
        [
            found_parts["helm"], "template", "kyverno", folder / "chart", "--namespace=kyverno",
            "--no-hooks", "--include-crds", f"--values={values}", "--kube-version=1.37.2",
        ],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    (folder / "kyverno.yaml").write_text(manifests)
    cluster.kubectl("create", "namespace", "kyverno")
    cluster.kubectl("apply", "--server-side", "-f", str(folder / "kyverno.yaml"))
    wrapper = folder / "kyverno"
    wrapper.write_text(
        f'#!/bin/sh\nexec {found_parts["kyverno"]} "$@"'
        f" --webhookTimeout={WEBHOOK_TIMEOUT_SECONDS}\n"
    )
    wrapper.chmod(0o755)
    (folder / "run").mkdir()

    def start() -> None:
        kyverno_stand_in.StandIn(
            processes, wrapper, folder / "run", cluster.plane.kubeconfig
        ).step()

    start()
    return KyvernoProcess(processes=processes, start=start)


@pytest.fixture(scope="session")
def oracle(folder: Path) -> Oracle:
    return Oracle.build(folder)


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    """Each engine in turn, with Kyverno running where it needs it."""
    name: str = request.param
    if name != "MutatingAdmissionPolicy":
        request.getfixturevalue("kyverno")
    del cluster
    return name
