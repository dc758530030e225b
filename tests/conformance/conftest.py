"""A real control plane and a real Kyverno for the policies, shared by all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from components.types import Engine
from rehearsal import wait
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cluster import control_plane
from rehearsal.cluster import kyverno as kyverno_stand_in
from rehearsal.parts import build as parts
from rehearsal.processes import Processes, free_port
from rehearsal.progress import Progress
from tests.support.harness import WEBHOOK_TIMEOUT_SECONDS, Cluster, KyvernoProcess
from tests.support.references import Oracle

AUDITED = "audited"
"""The namespace whose requests are in the API server's audit log."""


@pytest.fixture(scope="package")
def audit_log(folder: Path, cluster: Cluster) -> Path:
    del cluster
    return folder / "audit.log"


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("conformance")


@pytest.fixture(scope="package")
def found_parts() -> dict[str, Path]:
    return parts.obtain((*control_plane.PARTS, "kyverno", "helm"), Progress())


@pytest.fixture(scope="package")
def processes(folder: Path) -> Iterator[Processes]:
    with Processes(folder / "logs") as running:
        yield running


@pytest.fixture(scope="package")
def cluster(folder: Path, found_parts: dict[str, Path], processes: Processes) -> Iterator[Cluster]:
    audited = {"level": "Metadata", "namespaces": [AUDITED]}
    audit = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [audited]}
    (folder / "audit.yaml").write_text(yaml.safe_dump(audit))
    plane = control_plane.start(
        processes,
        found_parts,
        folder / "plane",
        Authority.create(folder / "authority"),
        options=[
            f"--audit-policy-file={folder / 'audit.yaml'}",
            f"--audit-log-path={folder / 'audit.log'}",
        ],
    )
    api = control_plane.client_of(plane.kubeconfig)
    made = Cluster(plane=plane, kubectl_binary=found_parts["kubectl"], api=api)
    made.kubectl("apply", "-f", "-", document=control_plane.node("node-a"))
    wait.until(
        lambda: made.kubectl("get", "serviceaccount", "default", check=False).returncode == 0,
        "the default service account exists",
    )
    yield made
    api.close()  # type: ignore[no-untyped-call]


@pytest.fixture(scope="package")
def kyverno(
    folder: Path,
    found_parts: dict[str, Path],
    processes: Processes,
    cluster: Cluster,
) -> KyvernoProcess:
    """Kyverno of the pinned chart, as a process, with the webhook timeout of the policies.

    It reaches no registry: there is no proxy at its HTTPS_PROXY.
    """
    stand_in = kyverno_stand_in.install(
        processes,
        found_parts,
        folder / "kyverno",
        cluster.plane,
        flags={"webhookTimeout": str(WEBHOOK_TIMEOUT_SECONDS)},
        environment={"HTTPS_PROXY": f"http://127.0.0.1:{free_port()}"},
    )
    return KyvernoProcess(stand_in)


@pytest.fixture(scope="package")
def oracle() -> Oracle:
    return Oracle.obtain()


@pytest.fixture(scope="module", params=Engine)
def engine(request: pytest.FixtureRequest, cluster: Cluster) -> Engine:
    """Each engine in turn, with Kyverno running where it needs it."""
    name: Engine = request.param
    if name.needs_kyverno:
        request.getfixturevalue("kyverno")
    del cluster
    return name
