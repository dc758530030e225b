"""The files of a real node: containerd, CNI and the kubelet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import yaml

from rehearsal.cluster.control_plane import ControlPlane, kubeconfig
from rehearsal.cluster.node.network import Network
from rehearsal.locations import write_private

PAUSE = "registry-1.docker.io/rehearsal/pause:1"
"""The sandbox image. By this name of Docker Hub, not `docker.io`, no mirror is asked for it."""
REGISTRY_FOLDER = "/etc/containerd/certs.d"
"""Where containerd looks for hosts.toml files."""
CONTAINERD_SOCKET = "unix:///run/containerd/containerd.sock"
_EVICTION_SIGNALS = ("memory.available", "nodefs.available", "imagefs.available")


class Containerd(StrEnum):
    """A version of containerd that a node can have."""

    V1_6 = "1.6"
    """Debian's."""
    V2_4 = "2.4"
    """Built from its Go module."""


@dataclass(frozen=True, kw_only=True)
class Programs:
    """What runs on the node."""

    version: Containerd
    kubelet: Path
    containerd: Path
    """Its shim and ctr are in the same folder."""
    runc: Path
    cni: Path
    """The folder of CNI plugins."""


def write(
    etc: Path,
    *,
    programs: Programs,
    registry_folder: str | None,
    network: Network,
    plane: ControlPlane,
    cgroup: str,
) -> None:
    """Write all files that are laid over the node's /etc."""
    texts = {
        "hosts": f"127.0.0.1 localhost\n{network.node} real-node\n",
        "resolv.conf": f"nameserver {network.host}\n",
        "containerd/config.toml": _containerd(registry_folder, programs),
        "cni/net.d/10-rehearsal.conflist": _cni(network),
        "kubernetes/kubelet.yaml": _kubelet(network, cgroup),
        "kubernetes/kubelet.kubeconfig": kubeconfig(
            url=plane.url, authority=plane.authority, token=plane.node_token
        ),
        "kubernetes/kubelet-client.crt": plane.kubelet_client.read_text(),
    }
    for name, text in texts.items():
        path = etc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_private(path, text)


_IMAGES = "io.containerd.cri.v1.images"
_RUNTIME = "io.containerd.cri.v1.runtime"
_CRI = "io.containerd.grpc.v1.cri"


def _containerd(registry_folder: str | None, programs: Programs) -> str:
    """The config.toml of containerd.

    A process without CAP_SYS_RESOURCE may not lower OOM scores; no sandbox starts then unless
    they are restricted.
    """
    if programs.version is Containerd.V1_6:
        lines = [
            "version = 2",
            f'[plugins."{_CRI}"]',
            f'  sandbox_image = "{PAUSE}"',
            "  restrict_oom_score_adj = true",
            f'[plugins."{_CRI}".cni]',
            f'  bin_dir = "{programs.cni}"',
            f'[plugins."{_CRI}".containerd.runtimes.runc]',
            '  runtime_type = "io.containerd.runc.v2"',
        ]
        registry = _CRI
    else:
        lines = [
            "version = 3",
            f'[plugins."{_IMAGES}".pinned_images]',
            f'  sandbox = "{PAUSE}"',
            f'[plugins."{_RUNTIME}"]',
            "  restrict_oom_score_adj = true",
            f'[plugins."{_RUNTIME}".cni]',
            f'  bin_dirs = ["{programs.cni}"]',
            f'[plugins."{_RUNTIME}".containerd.runtimes.runc]',
            '  runtime_type = "io.containerd.runc.v2"',
        ]
        registry = _IMAGES
    if registry_folder is not None:
        lines += [f'[plugins."{registry}".registry]', f'  config_path = "{registry_folder}"']
    return "\n".join(lines) + "\n"


def _cni(network: Network) -> str:
    ranges = [[{"subnet": str(network.pods)}]]
    plugin: Mapping[str, Any] = {
        "type": "ptp",
        "ipMasq": False,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return json.dumps({"cniVersion": "0.4.0", "name": "rehearsal", "plugins": [plugin]}, indent=1)


def _kubelet(network: Network, cgroup: str) -> str:
    document = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": network.node,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": "/etc/kubernetes/kubelet-client.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "clusterDNS": [network.host],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": CONTAINERD_SOCKET,
        "evictionHard": dict.fromkeys(_EVICTION_SIGNALS, "0%"),
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "makeIPTablesUtilChains": False,
        "registerNode": True,
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
    }
    return yaml.safe_dump(document)
