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
from rehearsal.processes import Processes
from rehearsal.progress import Progress
from tests.support.docker_hub import DockerHub
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
    names = (*control_plane.PARTS, "kyverno", "helm", "registry", "crane", "nginx")
    return parts.obtain(names, Progress())


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
def docker_hub(
    folder: Path, found_parts: dict[str, Path], processes: Processes
) -> Iterator[DockerHub]:
    """A registry that Kyverno takes for Docker Hub; it has `SAMPLE_IMAGES`."""
    with DockerHub.start(processes, found_parts, folder / "docker-hub") as running:
        yield running


@pytest.fixture(scope="package")
def kyverno(
    folder: Path,
    found_parts: dict[str, Path],
    processes: Processes,
    cluster: Cluster,
    docker_hub: DockerHub,
) -> KyvernoProcess:
    """Kyverno of the pinned chart, as a process, with the webhook timeout of the policies.

    It reaches Docker Hub's names, played on loopback, and no other registry.
    """
    stand_in = kyverno_stand_in.install(
        processes,
        found_parts,
        folder / "kyverno",
        cluster.plane,
        flags={"webhookTimeout": str(WEBHOOK_TIMEOUT_SECONDS)},
        environment={
            "HTTPS_PROXY": docker_hub.names_proxy,
            "SSL_CERT_FILE": str(docker_hub.ca_certificate),
        },
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
