"""A real node in a real cluster: what it pulls, what it runs, and that nothing of it stays."""

from __future__ import annotations

import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from kubernetes import client, utils
from kubernetes.stream import stream

from rehearsal import control_plane, real_node
from rehearsal.data_plane.access_log import AccessRecord, read_log
from rehearsal.data_plane.certificates import Authority
from rehearsal.data_plane.images import SAMPLE_IMAGES, publish
from rehearsal.data_plane.upstream import upstream_config
from rehearsal.parts import obtain
from rehearsal.processes import Processes, answers
from rehearsal.progress import Progress
from rehearsal.real_node import Containerd, Network, RealNode, cgroups
from rehearsal.volcengine.config import DataPlaneSettings
from tests.integration.volcengine_stage import (
    MICRO_PROXY,
    RunningEmulator,
    config_of,
    run_emulator,
    wait_until,
)

pytestmark = pytest.mark.skipif(
    real_node.supported() is not None, reason=real_node.supported() or "supported"
)

PASSWORD = "Passw0rd-1"


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A control plane, a proxy registry, and a network for a node."""

    folder: Path
    processes: Processes
    plane: control_plane.ControlPlane
    network: Network
    volcengine: RunningEmulator
    domain: str
    upstream_log: Path

    @property
    def api(self) -> client.ApiClient:
        return control_plane.client_of(self.plane.kubeconfig)

    def start_node(self, version: Containerd) -> RealNode:
        return real_node.start(
            self.processes,
            real_node.programs(version, Progress()),
            self.folder / "real-node",
            self.plane,
            self.network,
            names_url=f"{self.volcengine.url}/-/names",
            version=version,
        )

    def pulls(self, repository: str) -> list[AccessRecord]:
        """The requests for content of a repository in the proxy's access log."""
        log = read_log(self.folder / "proxies" / self.domain / "access.log")
        return [each for each in log if each.path.startswith(f"/v2/{repository}/")]

    def deploy(self, image: str, **pod: Any) -> Any:
        """A Deployment of one Pod on the real node; its Pod once it is Ready."""
        name = f"web-{secrets.token_hex(3)}"
        template = {
            "metadata": {"labels": {"app": name}},
            "spec": {
                "nodeSelector": dict(real_node.LABELS),
                "terminationGracePeriodSeconds": 1,
                **pod,
                "containers": [
                    {
                        "name": "web",
                        "image": image,
                        "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1},
                    }
                ],
            },
        }
        deployment: Any = {
            "metadata": {"name": name},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
        }
        client.AppsV1Api(self.api).create_namespaced_deployment("default", deployment)
        core = client.CoreV1Api(self.api)

        def pods() -> list[Any]:
            found: Any = core.list_namespaced_pod("default", label_selector=f"app={name}")
            return [each for each in found.items if is_ready(each)]

        wait_until(lambda: bool(pods()), 60)
        return pods()[0]


def is_ready(pod: Any) -> bool:
    return any(
        each.type == "Ready" and each.status == "True" for each in pod.status.conditions or ()
    )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    parts = obtain((*control_plane.PARTS, "registry", "crane", "nginx"), Progress())
    with ExitStack() as stack:
        network = Network.create(tmp_path / "real-node")
        stack.callback(network.remove)
        processes = stack.enter_context(Processes(tmp_path / "logs"))
        authority = Authority.create(tmp_path / "authority")
        plane = control_plane.start(
            processes,
            parts,
            tmp_path / "plane",
            authority,
            node_selector="type=kwok",
            address=network.host,
        )
        upstream = upstream_config(tmp_path / "upstream", authority, f"{network.upstream}:443")
        processes.start(
            "upstream",
            upstream.command(parts["registry"]),
            ready=lambda: answers(443, network.upstream),
            environment={"OTEL_TRACES_EXPORTER": "none"},
        )
        publish(
            SAMPLE_IMAGES,
            program=parts["nginx"],
            registry=f"{network.upstream}:443",
            crane=parts["crane"],
            ca_certificate=authority.certificate,
            folder=tmp_path / "images",
        )
        data_plane = DataPlaneSettings(
            registry_binary=parts["registry"],
            work_dir=tmp_path / "proxies",
            upstream_url=f"https://{network.upstream}:443",
            ca_certificate=authority.certificate,
            ca_key=authority.key,
            addresses=list(network.registries),
            port=443,
        )
        volcengine = stack.enter_context(run_emulator(config_of(data_plane=data_plane)))
        domain = volcengine.make_registry("mirror", password=PASSWORD, **MICRO_PROXY)
        volcengine.call(
            "CreateNamespace",
            Registry="mirror",
            Name="library",
            RepositoryDefaultAccessLevel="Public",
        )
        yield Cluster(
            folder=tmp_path,
            processes=processes,
            plane=plane,
            network=network,
            volcengine=volcengine,
            domain=domain,
            upstream_log=processes.logs / "upstream.log",
        )


@pytest.fixture(params=list(Containerd))
def node(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[RealNode]:
    with cluster.start_node(request.param) as started:
        yield started
