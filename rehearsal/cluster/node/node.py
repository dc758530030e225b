"""One real Kubernetes node on this machine: kubelet, containerd and runc in own namespaces."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import psutil
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from rehearsal.cluster.control_plane import (
    REAL_NODE,
    SERVICE_ADDRESS,
    ControlPlane,
    client_of,
)
from rehearsal.cluster.node import cgroups, configuration, name_server
from rehearsal.cluster.node.configuration import Containerd, Programs
from rehearsal.cluster.node.inside import Spec
from rehearsal.cluster.node.network import Network
from rehearsal.cluster.node.support import NAMESPACES
from rehearsal.locations import CHECKOUT, write_private
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
PARTS = ("kubernetes",)
"""The parts a node is started from, beside containerd's."""

_READY_SECONDS = 90.0
_FORK_SECONDS = 10.0


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
    containerd = has.containerd.parent
    spec = Spec(
        etc=str(etc),
        authority=str(plane.authority),
        address=f"{network.node}/25",
        service_address=SERVICE_ADDRESS,
        programs=[
            *(str(containerd / name) for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
            str(has.runc),
        ],
        services=_services(has, network, plane, taints),
        logs=str(processes.logs),
    )
    write_private(folder / "spec.json", json.dumps(asdict(spec), indent=1))
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
        outer = processes.start(
            NAME,
            [
                *("unshare", *NAMESPACES, "--kill-child"),
                *(sys.executable, "-m", "rehearsal.cluster.node.inside", folder / "spec.json"),
            ],
            environment={"PYTHONPATH": str(CHECKOUT)},
        )
        pid = _first_process(outer, processes.logs)
        (folder / "pid").write_text(f"{pid}\n")
        network.give(pid)
        _await_ready(outer, plane, processes.logs)
    except BaseException:
        processes.stop(NAME)
        processes.stop("name-server")
        cgroups.remove(cgroup)
        raise
    return RealNode(
        name=NAME,
        containerd=has.version,
        pid=pid,
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
            enter = ["nsenter", "--net", f"--target={pid}"]
            route = ["ip", "route", verb, "unreachable", f"{address}/32"]
            subprocess.run([*enter, *route], check=True, capture_output=True)

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
        "containerd": ["/usr/local/bin/containerd"],
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


def _first_process(outer: subprocess.Popen[bytes], logs: Path) -> int:
    """The process `unshare` has started in the new namespaces. Raises ProcessError."""
    children: list[psutil.Process] = []

    def started() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            children.extend(psutil.Process(outer.pid).children())
        return bool(children)

    log = logs / f"{NAME}.log"
    await_ready(outer, started, name=NAME, log=log, timeout=_FORK_SECONDS)
    return int(children[0].pid)


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
