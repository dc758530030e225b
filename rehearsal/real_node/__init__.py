"""One real Kubernetes node for the rehearsal: kubelet, containerd, runc and CNI on this machine.

It runs in mount, network and PID namespaces of its own and in a cgroup of its own; the machine
outside them stays as it was. Where it gets images and how it is reached:

    node, Pods -> name_server.py: the rehearsal's names
               -> proxy registries and "Docker Hub", each on an address of network.py, port 443
               -> API server, on the machine's end of the same veth pair; it reaches them too
"""

from rehearsal.real_node.busybox import publish_busybox
from rehearsal.real_node.cgroups import CgroupError
from rehearsal.real_node.configuration import Containerd, Programs
from rehearsal.real_node.network import Network, NetworkError
from rehearsal.real_node.node import (
    LABELS,
    NAME,
    TAINT,
    RealNode,
    clear,
    programs,
    start,
)
from rehearsal.real_node.support import supported

__all__ = [
    "LABELS",
    "NAME",
    "TAINT",
    "CgroupError",
    "Containerd",
    "Network",
    "NetworkError",
    "Programs",
    "RealNode",
    "clear",
    "programs",
    "publish_busybox",
    "start",
    "supported",
]
