"""One real Kubernetes node on this machine: kubelet, containerd and runc in own namespaces."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from kubernetes import client
from kubernetes.client.rest import ApiException

from rehearsal.control_plane import ControlPlane, client_of, write_private
from rehearsal.locations import CHECKOUT
from rehearsal.parts import obtain
from rehearsal.processes import Processes
from rehearsal.progress import Progress
from rehearsal.real_node import cgroups, configuration, packages
from rehearsal.real_node.configuration import Containerd, Programs
from rehearsal.real_node.inside import Spec
from rehearsal.real_node.network import Network

NAME = "real-node"
"""The node's name."""
LABELS: Mapping[str, str] = {"type": "real"}
"""The node's label; kwok's nodes have `type=kwok`."""
PARTS = ("kubernetes",)
"""The parts a node is started from, beside containerd's."""

_TOOLS = ("unshare", "mount", "ip")
_READY_SECONDS = 90.0


def supported() -> str | None:
    """Why this machine cannot have a real node; None if it can."""
    if not sys.platform.startswith("linux"):
        return f"a real node needs Linux, this is {sys.platform}"
    if os.geteuid() != 0:
        return "a real node needs root"
    missing = [tool for tool in (*_TOOLS, *packages.TOOLS) if shutil.which(tool) is None]
    if missing:
        return f"a real node needs {', '.join(missing)} on PATH"
    if "overlay" not in Path("/proc/filesystems").read_text().split():
        return "a real node needs the overlay filesystem"
    return None


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
    _processes: Processes

    def stop(self) -> None:
        """End all its processes and remove its cgroup; its network stays, for others use it.

        Raises CgroupError when a process in it does not end.
        """
        for process in (NAME, "name-server"):
            self._processes.stop(process)
        cgroups.remove(self.cgroup)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def programs(version: Containerd, progress: Progress) -> Programs:
    """Have everything that runs on a node ready.

    Raises PartError or PackageError.
    """
    found = obtain(PARTS, progress) | packages.obtain(
        ("runc", "containernetworking-plugins"), progress
    )
    if version is Containerd.V1_6:
        found |= packages.obtain(("containerd",), progress)
    else:
        found |= obtain(("containerd",), progress)
    return Programs(
        kubelet=found["kubelet"],
        containerd=found["containerd"],
        runc=found["runc"],
        cni=found["cni"],
    )


def start(
    processes: Processes,
    has: Programs,
    folder: Path,
    plane: ControlPlane,
    network: Network,
    *,
    names_url: str,
    version: Containerd = Containerd.V2_4,
) -> RealNode:
    """Start a node and wait until it is Ready.

    `plane` serves on `network.host`; `names_url` is the Volcengine emulator's `/-/names`. Nothing
    is written outside `folder`, the logs of `processes` and the node's own cgroup.

    Raises:
        ProcessError: when it does not become Ready; the message names its log file.
        NetworkError: when it cannot be given its network.
    """
    cgroup = f"vke-rehearsal-{network.name}"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    etc = folder / "etc"
    configuration.write(
        etc, programs=has, version=version, network=network, plane=plane, cgroup=cgroup
    )
    spec = Spec(
        etc=str(etc),
        address=f"{network.node}/25",
        services=_services(has, network),
        environment={
            "PATH": os.pathsep.join(
                (str(has.containerd.parent), str(has.runc.parent), os.environ.get("PATH", ""))
            ),
            "SSL_CERT_FILE": str(plane.authority),
            "HOME": "/root",
        },
        logs=str(processes.logs),
    )
    write_private(folder / "spec.json", json.dumps(asdict(spec), indent=1))
    processes.start(
        "name-server",
        [sys.executable, "-m", "rehearsal.real_node.name_server", network.host, names_url],
        environment={"PYTHONPATH": str(CHECKOUT)},
    )
    cgroups.create(cgroup)
    try:
        outer = processes.start(
            NAME,
            [
                *("unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc"),
                "--kill-child",
                *(sys.executable, "-m", "rehearsal.real_node.inside", folder / "spec.json"),
            ],
            environment={"PYTHONPATH": str(CHECKOUT)},
        )
        pid = _first_process(outer.pid)
        (folder / "pid").write_text(f"{pid}\n")
        network.give(pid)
        processes.await_ready(NAME, lambda: _is_ready(plane), timeout=_READY_SECONDS)
    except BaseException:
        processes.stop(NAME)
        cgroups.remove(cgroup)
        raise
    return RealNode(
        name=NAME, containerd=version, pid=pid, cgroup=cgroup, network=network, _processes=processes
    )
