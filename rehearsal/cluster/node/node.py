"""One real Kubernetes node on this machine: kubelet, containerd and runc in own namespaces."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from rehearsal.cluster.control_plane import (
    REAL_NODE,
    SERVICE_ADDRESS,
    ControlPlane,
    client_of,
)
from rehearsal.cluster.node import cgroups, configuration, name_server
from rehearsal.cluster.node import system as systems
from rehearsal.cluster.node.configuration import Containerd, Programs
from rehearsal.cluster.node.inside import Spec
from rehearsal.cluster.node.network import Network
from rehearsal.cluster.node.support import NAMESPACES
from rehearsal.locations import CHECKOUT
from rehearsal.parts import debian
from rehearsal.parts.build import Profile, obtain
from rehearsal.parts.debian import PackageError
from rehearsal.processes import Processes, await_ready
from rehearsal.progress import Progress

NAME = REAL_NODE
"""The node's name."""
LABELS: Mapping[str, str] = {"type": "real"}
"""The node's label; kwok's nodes have `type=kwok`."""
TAINT = "rehearsal/node=real:NoSchedule"
"""A taint for start(): only Pods that tolerate it then come to the node."""
CONTAINERD_SERVICE: Mapping[str, list[str]] = {"containerd": ["/usr/local/bin/containerd"]}
"""The service of containerd, from containerd_programs()."""
PARTS = ("kubernetes",)
"""The parts a node is started from, beside containerd's."""

_READY_SECONDS = 90.0


@dataclass(frozen=True, kw_only=True)
class RealNode:
    """A node that has joined a cluster. Leaving the context stops it."""

    name: str
    containerd: Containerd
    pid: int
    """Its first process: `nsenter --all --target <pid>` is inside the node."""
    cgroup: str
    """Its cgroup, in the root of every hierarchy."""
    network: Network
    processes: Processes

    def stop(self) -> None:
        """End all its processes and remove its cgroup.

        The machine's end of its network may go with it: the kernel removes a veth pair when the
        network namespace of one end ends.
        Raises CgroupError when a process in it does not end.
        """
        for process in (NAME, "name-server"):
            self.processes.stop(process)
        cgroups.remove(self.cgroup)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def programs(version: Containerd, progress: Progress, profile: Profile = Profile.QUICK) -> Programs:
    """Have everything ready that runs on a node, and the package of publish_busybox().

    Raises PartError, or PackageError when a Debian package cannot be had in the right version.
    """
    names = ["runc", "containernetworking-plugins", "busybox-static"]
    found = debian.obtain(names, progress) | obtain(PARTS, progress, profile)
    return Programs(
        version=version,
        kubelet=found["kubelet"],
        containerd=containerd_binary(version, progress, profile),
        runc=found["runc"],
        cni=found["cni"],
    )


def containerd_binary(
    version: Containerd, progress: Progress, profile: Profile = Profile.QUICK
) -> Path:
    """Containerd of a version, with its shim and ctr beside it.

    Raises PartError, or PackageError when Debian's, the oldest, cannot be had in that version.
    """
    if version is not Containerd.V1_6:
        return obtain(("containerd",), progress, profile)["containerd"]
    found = debian.obtain(("containerd",), progress)["containerd"]
    said = subprocess.run(
        [found, "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if f" {version}." not in said:
        raise PackageError(f"Debian's containerd is not {version} here: {said}")
    return found


def containerd_programs(folder: Path) -> list[str]:
    """The programs of containerd that a node has on its PATH, from the folder they are in."""
    return [str(folder / name) for name in ("containerd", "containerd-shim-runc-v2", "ctr")]


def start(
    processes: Processes,
    has: Programs,
    folder: Path,
    plane: ControlPlane,
    network: Network,
    *,
    names_url: str,
    registry_folder: str | None = configuration.REGISTRY_FOLDER,
    taints: Sequence[str] = (),
) -> RealNode:
    """Start a node and wait until it is Ready.

    `plane` serves on `network.host`; `names_url` is the Volcengine emulator's `/-/names`.
    `registry_folder` is where containerd's config.toml says that hosts.toml files are; with None
    it says nothing. `taints` (`key=value:effect`) keep away Pods that do not tolerate them.
    Nothing is written outside `folder`, the logs of `processes` and the node's own cgroup.

    Raises:
        ProcessError: when it does not become Ready; the message names its log file.
        NetworkError: when it cannot have its network.
    """
    cgroup = _cgroup(network)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    etc = folder / "etc"
    configuration.write(
        etc,
        programs=has,
        registry_folder=registry_folder,
        network=network,
        plane=plane,
        cgroup=cgroup,
    )
    spec = Spec(
        etc=str(etc),
        authority=str(plane.authority),
        address=f"{network.node}/25",
        service_address=SERVICE_ADDRESS,
        programs=[*containerd_programs(has.containerd.parent), str(has.runc)],
        services=_services(has, network, plane, taints),
        logs=str(processes.logs),
    )
    # A file in the folder: what a killed rehearsal leaves is found by its folder's name.
    names = folder / "name-server.json"
    names.write_text(json.dumps({"address": network.host, "names_url": names_url}))
    processes.start(
        "name-server",
        [sys.executable, "-m", "rehearsal.cluster.node.name_server", names],
        environment={"PYTHONPATH": str(CHECKOUT)},
        ready=lambda: name_server.answers(network.host),
    )
    try:
        cgroups.create(cgroup)
        system = systems.start(processes, NAME, folder, spec, NAMESPACES)
        (folder / "pid").write_text(f"{system.pid}\n")
        network.give(system.pid)
        _await_ready(system.outer, plane, processes.logs)
    except BaseException:
        processes.stop(NAME)
        processes.stop("name-server")
        cgroups.remove(cgroup)
        raise
    return RealNode(
        name=NAME,
        containerd=has.version,
        pid=system.pid,
        network=network,
        cgroup=cgroup,
        processes=processes,
    )


@contextlib.contextmanager
def cut_off(pid: int, addresses: Collection[str]) -> Iterator[None]:
    """No route from a node to these addresses while the context lasts.

    `pid` is the node's first process. What it pulls then comes from elsewhere.
    """

    def change(verb: str) -> None:
        for address in addresses:
            systems.run(pid, "ip", "route", verb, "unreachable", f"{address}/32", check=True)

    change("replace")
    try:
        yield
    finally:
        change("delete")


def clear(folder: Path) -> None:
    """Remove what a node in `folder` left when it was killed, its network included.

    Its processes must have ended. Nothing left is no error. Raises CgroupError.
    """
    network = Network.load(folder)
    if network is not None:
        cgroups.remove(_cgroup(network))
        network.remove()


def _cgroup(network: Network) -> str:
    return f"vke-rehearsal-{network.name}"


def _services(
    has: Programs, network: Network, plane: ControlPlane, taints: Sequence[str]
) -> dict[str, list[str]]:
    labels = ",".join(f"{key}={value}" for key, value in LABELS.items())
    api_server = urlsplit(plane.url)
    return {
        **CONTAINERD_SERVICE,
        "service-address": [
            *(sys.executable, "-m", "rehearsal.cluster.node.service_address", SERVICE_ADDRESS),
            *(str(api_server.hostname), str(api_server.port)),
        ],
        "kubelet": [
            str(has.kubelet),
            "--config=/etc/kubernetes/kubelet.yaml",
            "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig",
            f"--hostname-override={NAME}",
            f"--node-ip={network.node}",
            f"--node-labels={labels}",
            f"--register-with-taints={','.join(taints)}",
        ],
    }


def _await_ready(outer: subprocess.Popen[bytes], plane: ControlPlane, logs: Path) -> None:
    with client_of(plane.kubeconfig) as api:
        core = client.CoreV1Api(api)
        await_ready(
            outer,
            lambda: _is_ready(core),
            name=NAME,
            log=logs / f"{NAME}*.log",
            timeout=_READY_SECONDS,
        )


def _is_ready(api: client.CoreV1Api) -> bool:
    try:
        found: Any = api.read_node(NAME)
    except ApiException as error:
        if error.status == 404:
            return False
        raise
    return any(
        each.type == "Ready" and each.status == "True" for each in found.status.conditions or ()
    )
