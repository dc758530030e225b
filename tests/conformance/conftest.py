"""A real control plane and a real Kyverno for the policies, shared by all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from components.types import Engine
from rehearsal.cluster import control_plane
from rehearsal.cluster import kyverno as kyverno_stand_in
from rehearsal.parts import build as parts
from rehearsal.processes import free_port
from rehearsal.progress import Progress
from tests.support.harness import WEBHOOK_TIMEOUT_SECONDS, Cluster, KyvernoProcess, small_cluster
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
def cluster(folder: Path) -> Iterator[Cluster]:
    audited = {"level": "Metadata", "namespaces": [AUDITED]}
    audit = {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [audited]}
    (folder / "audit.yaml").write_text(yaml.safe_dump(audit))
    options = [
        f"--audit-policy-file={folder / 'audit.yaml'}",
        f"--audit-log-path={folder / 'audit.log'}",
    ]
    with small_cluster(folder, options=options) as running:
        yield running


@pytest.fixture(scope="package")
def kyverno(folder: Path, cluster: Cluster) -> KyvernoProcess:
    """Kyverno of the pinned chart, as a process, with the webhook timeout of the policies.

    It reaches no registry: there is no proxy at its HTTPS_PROXY.
    """
    stand_in = kyverno_stand_in.install(
        cluster.processes,
        parts.obtain((*control_plane.PARTS, "kyverno", "helm"), Progress()),
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
