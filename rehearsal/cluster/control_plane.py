"""A Kubernetes control plane on loopback, with kwok for its nodes."""

from __future__ import annotations

import base64
import secrets
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from kubernetes import client
from kubernetes import config as kubernetes_config

from rehearsal.cloud.registries.certificates import Authority, self_signed_client, write_key
from rehearsal.locations import write_private
from rehearsal.processes import Processes, free_port

PARTS = ("etcd", "kubernetes", "kwok")
"""The parts a control plane is started from."""

PLAYED_BY_PROCESS = "admission-controller"
"""The `app.kubernetes.io/component` of Pods that a local process plays: kwok leaves their readiness
to that process."""

REAL_NODE = "real-node"
"""The name of the one node that is no kwok node, where there is one."""

SERVICE_ADDRESS = "10.96.0.1"
"""The cluster's own Service, `kubernetes.default.svc`; port 443."""

SELDOM_COLLECTED: Mapping[str, str] = {"GOGC": "400", "GOMEMLIMIT": "800MiB"}
"""An API server's garbage collector at a third less CPU time for Kyverno's CRDs, as long as it
holds less than 800 MiB."""

_NOT_PLAYED = {
    "key": '.metadata.labels["app.kubernetes.io/component"]',
    "operator": "NotIn",
    "values": [PLAYED_BY_PROCESS],
}


@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """A running control plane."""

    kubeconfig: Path
    """A cluster administrator's kubeconfig, mode 0600."""
    url: str
    """The API server's address."""
    token: str
    """The administrator's bearer token."""
    authority: Path
    """The certificate authority to trust, PEM."""
    node_token: str
    """The bearer token of the node `REAL_NODE`, with a kubelet's rights and no others."""
    kubelet_client: Path
    """The certificate by which the API server shows itself to kubelets, PEM; signed by itself."""


def start(
    processes: Processes,
    parts: Mapping[str, Path],
    folder: Path,
    authority: Authority,
    *,
    node_selector: str = "",
    address: str = "127.0.0.1",
    options: Sequence[str] = (),
    environment: Mapping[str, str] = SELDOM_COLLECTED,
) -> ControlPlane:
    """Start etcd, the API server, the controller manager, the scheduler and kwok.

    `node_selector` leaves nodes without that label to a real kubelet; `address` is the
    IP address the API server serves on, `options` are further ones of the API server's,
    and `environment` is its own.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    client_port, peer_port = free_port(), free_port()
    etcd = f"http://127.0.0.1:{client_port}"
    processes.start(
        "etcd",
        [
            parts["etcd"],
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}",
            f"--initial-cluster=default=http://127.0.0.1:{peer_port}",
            "--unsafe-no-fsync=true",
        ],
        ready=lambda: _healthy(f"{etcd}/health", authority.certificate),
        disposable=True,
    )
    plane = _start_api_server(
        processes, parts, folder, authority, etcd, address, options, environment
    )
    _start_controllers(processes, parts, folder, plane)
    _start_kwok(processes, parts, folder, plane, node_selector)
    return plane


def _start_api_server(
    processes: Processes,
    parts: Mapping[str, Path],
    folder: Path,
    authority: Authority,
    etcd: str,
    address: str,
    options: Sequence[str],
    environment: Mapping[str, str],
) -> ControlPlane:
    port = free_port()
    names = ["127.0.0.1", "localhost", SERVICE_ADDRESS, "kubernetes.default.svc", address]
    serving = authority.issue(names, folder / "api-server")
    account_key = folder / "service-account.key"
    write_key(account_key, ec.generate_private_key(ec.SECP256R1()))
    token, node_token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    write_private(
        folder / "tokens.csv",
        f'{token},rehearsal-admin,1,"system:masters"\n'
        f'{node_token},system:node:{REAL_NODE},2,"system:nodes"\n',
    )
    kubelet_client = self_signed_client(
        "kube-apiserver-kubelet-client", "system:masters", folder / "kubelet-client"
    )
    plane = ControlPlane(
        kubeconfig=folder / "kubeconfig",
        url=f"https://{address}:{port}",
        token=token,
        authority=authority.certificate,
        node_token=node_token,
        kubelet_client=kubelet_client.certificate,
    )
    write_private(
        plane.kubeconfig, kubeconfig(url=plane.url, authority=plane.authority, token=token)
    )
    processes.start(
        "kube-apiserver",
        [
            parts["kube-apiserver"],
            f"--etcd-servers={etcd}",
            f"--bind-address={address}",
            f"--advertise-address={address}",
            "--endpoint-reconciler-type=none",
            f"--secure-port={port}",
            f"--tls-cert-file={serving.certificate}",
            f"--tls-private-key-file={serving.key}",
            f"--cert-dir={folder / 'api-server-certificates'}",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={account_key}",
            f"--service-account-key-file={account_key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--kubelet-preferred-address-types=InternalIP",
            f"--kubelet-client-certificate={kubelet_client.certificate}",
            f"--kubelet-client-key={kubelet_client.key}",
            "--allow-privileged=true",
            "--profiling=false",
            *options,
        ],
        environment=environment,
        ready=lambda: _healthy(f"{plane.url}/readyz", plane.authority, plane.token),
        timeout=90,
        disposable=True,
    )
    return plane


def _start_controllers(
    processes: Processes, parts: Mapping[str, Path], folder: Path, plane: ControlPlane
) -> None:
    own = {
        "kube-controller-manager": [
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={folder / 'service-account.key'}",
            f"--root-ca-file={plane.authority}",
        ],
        "kube-scheduler": [],
    }
    for name, options in own.items():
        processes.start(
            name,
            [
                parts[name],
                f"--kubeconfig={plane.kubeconfig}",
                f"--authentication-kubeconfig={plane.kubeconfig}",
                f"--authorization-kubeconfig={plane.kubeconfig}",
                "--leader-elect=false",
                "--kube-api-qps=500",  # else a controller manager takes seconds to start all
                "--kube-api-burst=500",
                "--bind-address=127.0.0.1",
                f"--secure-port={free_port()}",
                f"--cert-dir={folder / name}",
                *options,
            ],
        )


def _start_kwok(
    processes: Processes,
    parts: Mapping[str, Path],
    folder: Path,
    plane: ControlPlane,
    node_selector: str,
) -> None:
    stages = folder / "kwok.yaml"
    sources = [
        *sorted((parts["stages"] / "node" / "fast").glob("node-*.yaml")),
        *sorted((parts["stages"] / "node" / "heartbeat-with-lease").glob("node-*.yaml")),
        *sorted((parts["stages"] / "pod" / "fast").glob("pod-*.yaml")),
    ]
    documents = [
        document for source in sources for document in yaml.safe_load_all(source.read_text())
    ]
    for document in documents:
        if document["metadata"]["name"] == "pod-ready":
            document["spec"]["selector"]["matchExpressions"].append(_NOT_PLAYED)
    stages.write_text(yaml.safe_dump_all(documents))
    manage = (
        f"--manage-nodes-with-label-selector={node_selector}"
        if node_selector
        else "--manage-all-nodes=true"
    )
    processes.start(
        "kwok",
        [
            parts["kwok"],
            f"--kubeconfig={plane.kubeconfig}",
            manage,
            f"--config={stages}",
            f"--server-address=127.0.0.1:{free_port()}",
            # Without a lease a node is NotReady 50 s later, and its Pods for good.
            "--node-lease-duration-seconds=40",
        ],
        environment={"HOME": str(folder)},
    )


def kubeconfig(*, url: str, authority: Path, token: str) -> str:
    """A kubeconfig with one cluster and one token, the certificate authority in it."""
    name = "rehearsal"
    trusted = base64.b64encode(authority.read_bytes()).decode()
    cluster = {"server": url, "certificate-authority-data": trusted}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster}],
        "users": [{"name": name, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return yaml.safe_dump(document, sort_keys=False)


def client_of(path: Path) -> client.ApiClient:
    """A Kubernetes client for the current context of a kubeconfig."""
    api: client.ApiClient = kubernetes_config.new_client_from_config(str(path))  # type: ignore[no-untyped-call]
    return api


def node(name: str, *, zone: str = "a", labels: Mapping[str, str] | None = None) -> dict[str, Any]:
    """A node for kwok to play."""
    capacity = {"cpu": "32", "memory": "256Gi", "pods": "500"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
                "topology.kubernetes.io/zone": zone,
                "type": "kwok",
                **(labels or {}),
            },
            "annotations": {"kwok.x-k8s.io/node": "fake"},
        },
        "status": {"allocatable": capacity, "capacity": capacity},
    }


def _healthy(url: str, authority: Path, token: str = "") -> bool:
    verify = ssl.create_default_context(cafile=str(authority))
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        return httpx.get(url, headers=headers, verify=verify, timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False
