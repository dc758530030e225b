"""One real Kubernetes node for the rehearsal: kubelet, containerd, runc and CNI on this machine.

It runs in mount, network and PID namespaces of its own and in a cgroup of its own; the machine
outside them stays as it was. Where it gets images and how it is reached:

    node, Pods -> name_server.py: the rehearsal's names
               -> proxy registries and "Docker Hub", each on an address of network.py, port 443
               -> API server, on the machine's end of the same veth pair; it reaches them too
"""

from rehearsal.cluster.node.busybox import publish_busybox
from rehearsal.cluster.node.configuration import Containerd, Programs
from rehearsal.cluster.node.network import Network
from rehearsal.cluster.node.node import (
    CONTAINERD_SERVICE,
    LABELS,
    NAME,
    TAINT,
    RealNode,
    clear,
    containerd_binary,
    containerd_programs,
    cut_off,
    programs,
    start,
)
from rehearsal.cluster.node.support import supported
from rehearsal.cluster.node.system import run

__all__ = [
    "CONTAINERD_SERVICE",
    "LABELS",
    "NAME",
    "TAINT",
    "Containerd",
    "Network",
    "Programs",
    "RealNode",
    "clear",
    "containerd_binary",
    "containerd_programs",
    "cut_off",
    "programs",
    "publish_busybox",
    "run",
    "start",
    "supported",
]
