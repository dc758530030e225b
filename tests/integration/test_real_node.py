"""A real node in a real cluster: what it pulls, what it runs, and that nothing of it stays."""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import dns.message
import dns.rcode
import psutil
import pytest
from kubernetes import client

from components import node_mirror
from components.labels import NODES_NAMESPACE
from rehearsal import wait
from rehearsal.cloud.registries.access_log import AccessRecord, log_file, read_log
from rehearsal.cloud.registries.client import RegistryLogin
from rehearsal.cloud.registries.images import DOCKER_HUB
from rehearsal.cluster import node as real_node
from rehearsal.cluster.node import Containerd, Network, RealNode, cgroups, network
from rehearsal.cluster.node.name_server import answer
from rehearsal.processes import answers
from rehearsal.progress import Progress
from rehearsal.running import deployment
from tests.support.harness import Cluster, bare_cluster
from tests.support.machine import Machine, need, processes_with
from tests.support.programs import roll_out_node_mirror
from tests.support.volcengine_stage import RunningEmulator, Upstreams, config_of, run_emulator

AGENTS = {Containerd.V1_6: "containerd/1.6.", Containerd.V2_4: "containerd/2.4."}
HOSTS_TOML = """\
server = "https://registry-1.docker.io"

[host."https://{domain}"]
  capabilities = ["pull", "resolve"]
"""


@dataclass(frozen=True, kw_only=True)
class NodeCluster(Cluster):
    """A control plane, a proxy registry, and a network for a node."""

    folder: Path
    network: Network
    volcengine: RunningEmulator
    login: RegistryLogin

    @property
    def domain(self) -> str:
        return self.login.domain

    def start_node(self, version: Containerd, **more: Any) -> RealNode:
        return real_node.start(
            self.processes,
            real_node.programs(version, Progress()),
            self.folder / "real-node",
            self.plane,
            self.network,
            names_url=f"{self.volcengine.url}/-/names",
            **more,
        )

    def pulls(self, repository: str) -> list[AccessRecord]:
        """The requests for content of a repository in the proxy's access log."""
        log = read_log(log_file(self.folder / "proxies", self.domain))
        return [each for each in log if each.path.startswith(f"/v2/{repository}/")]

    def run(self, image: str, *command: str, **spec: Any) -> str:
        """A Pod on the real node, made by hand; its name."""
        name = f"pod-{secrets.token_hex(3)}"
        container = {"name": "main", "image": image, "command": list(command)}
        body: Any = {
            "metadata": {"name": name},
            "spec": {
                "nodeSelector": dict(real_node.LABELS),
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
                **spec,
            },
        }
        client.CoreV1Api(self.api).create_namespaced_pod("default", body)
        return name

    def pod(self, name: str, namespace: str = "default") -> Any:
        return client.CoreV1Api(self.api).read_namespaced_pod(name, namespace)

    def waiting(self, name: str) -> str | None:
        """Why the Pod's container waits."""
        statuses = self.pod(name).status.container_statuses or [None]
        state = statuses[0].state if statuses[0] else None
        return state.waiting.reason if state and state.waiting else None

    def in_pod(self, name: str, *command: str) -> str:
        """What a command in a Pod says; it may fail."""
        done = self.kubectl("exec", "--quiet", name, "--", *command, check=False)
        return done.stdout + done.stderr


@dataclass(frozen=True, kw_only=True)
class Joined:
    """A cluster and the node that has joined it."""

    cluster: NodeCluster
    node: RealNode

    def run(self, *command: str) -> str:
        """Run a command on the node."""
        done = real_node.run(self.node.pid, *command)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def main_process(self, program: str) -> int:
        """The process on the node that was started as this program, by its pid out here."""
        (found,) = (
            each.pid
            for each in psutil.Process(self.node.pid).children()
            if each.status() != psutil.STATUS_ZOMBIE and Path(each.exe()).name == program
        )
        return int(found)


@contextmanager
def running_cluster(folder: Path) -> Iterator[NodeCluster]:
    need(real_node.supported())
    with ExitStack() as stack:
        link = Network.create(folder / "real-node")
        stack.callback(link.remove)
        bare = stack.enter_context(
            bare_cluster(folder, node_selector="type=kwok", address=link.host)
        )
        hosts = link.for_upstreams([DOCKER_HUB])
        upstream = Upstreams.start(bare.processes, folder, bare.authority, hosts)
        real_node.publish_busybox(
            registry=hosts[DOCKER_HUB],
            crane=upstream.crane,
            ca_certificate=bare.authority.certificate,
            folder=folder / "images",
            progress=Progress(),
        )
        data_plane = upstream.data_plane(
            folder / "proxies", addresses=list(link.registries), port=443
        )
        volcengine = stack.enter_context(run_emulator(config_of(data_plane=data_plane)))
        yield NodeCluster(
            **vars(bare),
            folder=folder,
            network=link,
            volcengine=volcengine,
            login=volcengine.make_proxy("mirror", {"library": "Public", "bitnami": "Private"}),
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[NodeCluster]:
    with running_cluster(tmp_path) as running:
        yield running


@pytest.fixture(
    scope="module", params=list(Containerd), ids=lambda version: f"containerd-{version}"
)
def joined(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Joined]:
    with (
        running_cluster(tmp_path_factory.mktemp("cluster")) as running,
        running.start_node(request.param) as node,
    ):
        yield Joined(cluster=running, node=node)


def is_ready(pod: Any) -> bool:
    return any(
        each.type == "Ready" and each.status == "True" for each in pod.status.conditions or ()
    )


def test_a_deployment_of_a_redirected_image_runs_and_its_pull_is_in_the_access_log(
    joined: Joined,
) -> None:
    cluster = joined.cluster
    container = {
        "name": "web",
        "image": f"{cluster.domain}/library/nginx:latest",
        "readinessProbe": {"httpGet": {"port": 80}, "periodSeconds": 1},
    }
    pod = {"nodeSelector": dict(real_node.LABELS), "containers": [container]}
    body = deployment("web", pod)
    client.AppsV1Api(cluster.api).create_namespaced_deployment("default", body)

    def pods() -> list[Any]:
        found: Any = client.CoreV1Api(cluster.api).list_namespaced_pod(
            "default", label_selector="app=web"
        )
        return [each for each in found.items if is_ready(each)]

    wait.until(lambda: bool(pods()), "the Pods are there")
    (found,) = pods()
    assert found.spec.node_name == real_node.NAME
    assert found.status.phase == "Running"
    assert found.status.container_statuses[0].image_id.startswith(
        f"{cluster.domain}/library/nginx@"
    )
    served = [each for each in cluster.pulls("library/nginx") if each.status == 200]
    assert any("/blobs/" in each.path for each in served)
    assert {each.agent.startswith(AGENTS[joined.node.containerd]) for each in served} == {True}


def test_a_docker_hub_image_comes_through_the_proxy_once_hosts_toml_says_so(
    joined: Joined,
) -> None:
    cluster = joined.cluster
    before = len(cluster.pulls("library/nginx"))
    name = cluster.run("nginx:1.28", "nginx")
    wait.until(lambda: is_ready(cluster.pod(name)), "the Pod is Ready")
    assert len(cluster.pulls("library/nginx")) == before

    folder = "/etc/containerd/certs.d/docker.io"
    text = HOSTS_TOML.format(domain=cluster.domain)
    joined.run("sh", "-c", f"mkdir -p {folder} && printf %s '{text}' >{folder}/hosts.toml")
    name = cluster.run("nginx:1.27", "nginx")
    wait.until(lambda: is_ready(cluster.pod(name)), "the Pod is Ready")
    served = cluster.pulls("library/nginx")[before:]
    assert "/v2/library/nginx/manifests/1.27?ns=docker.io" in [each.path for each in served]
    joined.run("rm", "-r", "/etc/containerd/certs.d")


def test_a_private_image_runs_with_the_pods_own_login_alone(joined: Joined) -> None:
    cluster = joined.cluster
    secret: Any = {
        "metadata": {"name": "login"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": cluster.login.docker_config()},
    }
    client.CoreV1Api(cluster.api).create_namespaced_secret("default", secret)
    image = f"{cluster.domain}/bitnami/redis:7.2"

    without = cluster.run(image, "nginx")
    wait.until(
        lambda: cluster.waiting(without) in {"ErrImagePull", "ImagePullBackOff"},
        "its image is not pulled",
    )
    assert {each.status for each in cluster.pulls("bitnami/redis")} == {401}

    with_login = cluster.run(image, "nginx", imagePullSecrets=[{"name": "login"}])
    wait.until(lambda: is_ready(cluster.pod(with_login)), "the Pod is Ready")
    served = [each for each in cluster.pulls("bitnami/redis") if each.status == 200]
    assert {each.user for each in served} == {cluster.login.username}


def test_a_pod_can_be_looked_into_and_reaches_the_proxy_and_the_api_server(
    joined: Joined,
) -> None:
    cluster = joined.cluster
    image = f"{cluster.domain}/library/busybox:stable"
    name = cluster.run(image, "sh", "-c", "echo started; exec sleep 600")
    wait.until(lambda: is_ready(cluster.pod(name)), "the Pod is Ready")
    assert client.CoreV1Api(cluster.api).read_namespaced_pod_log(name, "default") == "started\n"
    names = cluster.in_pod(name, "sh", "-c", f"nslookup {cluster.domain}")
    assert cluster.network.registries[0] in names
    unknown = cluster.in_pod(name, "sh", "-c", "nslookup quay.io")
    assert "NXDOMAIN" in unknown
    # busybox knows no elliptic curves; that the API server refuses plain HTTP shows it was reached.
    get = "wget -O - http://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT/version"
    assert "HTTP/1.0 400 Bad Request" in cluster.in_pod(name, "sh", "-c", get)


def test_the_machine_reaches_pods(joined: Joined) -> None:
    """As an API server must whose webhooks run in Pods."""
    cluster = joined.cluster
    name = cluster.run(f"{cluster.domain}/library/nginx:latest", "nginx")
    wait.until(lambda: is_ready(cluster.pod(name)), "the Pod is Ready")
    address = cluster.pod(name).status.pod_ip
    wait.until(lambda: answers(80, address), "it answers on its port")


def test_containerd_can_be_restarted_under_running_pods(joined: Joined) -> None:
    cluster = joined.cluster
    image = f"{cluster.domain}/library/nginx:latest"
    first = cluster.run(image, "nginx")
    wait.until(lambda: is_ready(cluster.pod(first)), "the first Pod is Ready")
    before = joined.main_process("containerd")
    joined.run("systemctl", "restart", "containerd.service")
    assert joined.main_process("containerd") != before
    second = cluster.run(image, "nginx")
    wait.until(lambda: is_ready(cluster.pod(second)), "the second Pod is Ready")
    assert cluster.pod(first).status.container_statuses[0].restart_count == 0


def test_a_service_that_was_killed_is_started_again(joined: Joined) -> None:
    before = joined.main_process("kubelet")
    os.kill(before, signal.SIGKILL)

    def after() -> int | None:
        try:
            return joined.main_process("kubelet")
        except (ValueError, psutil.Error):
            return None

    wait.until(lambda: after() not in {before, None}, "containerd is started again")


def test_a_service_that_has_just_ended_can_be_restarted(joined: Joined) -> None:
    before = joined.main_process("kubelet")
    os.kill(before, signal.SIGKILL)
    for _ in range(2):
        joined.run("systemctl", "restart", "kubelet")
    assert joined.main_process("kubelet") != before


def test_systemctl_refuses_what_the_node_does_not_have(joined: Joined) -> None:
    done = real_node.run(joined.node.pid, "systemctl", "restart", "docker")
    assert done.returncode == 1
    assert "no `restart docker`" in done.stderr


def test_there_is_no_way_out_of_the_node(joined: Joined) -> None:
    routes = json.loads(joined.run("ip", "-json", "route", "show", "table", "all"))
    assert "default" not in [each["dst"] for each in routes]


@pytest.mark.parametrize("version", list(Containerd), ids=lambda version: f"containerd-{version}")
def test_the_node_mirror_is_rolled_out_to_a_real_node_and_puts_it_back(
    cluster: NodeCluster, version: Containerd, tmp_path: Path
) -> None:
    """With its own account's rights, its Pod's own capabilities, and the API server's Service."""
    core = client.CoreV1Api(cluster.api)
    daemon_sets = client.AppsV1Api(cluster.api)
    for name, labels in OTHER_NODES.items():
        virtual: Any = {"metadata": {"name": name, "labels": labels}}
        core.create_node(virtual)
    with cluster.start_node(version, registry_folder=None) as node:
        joined = Joined(cluster=cluster, node=node)
        found = joined.run("cat", "/etc/containerd/config.toml")
        first = joined.main_process("containerd")
        roll_out_node_mirror(tmp_path / "program", cluster.plane.kubeconfig, cluster.login)
        second = joined.main_process("containerd")
        assert second != first
        daemon_set: Any = daemon_sets.read_namespaced_daemon_set(
            node_mirror.DAEMON_SET, NODES_NAMESPACE
        )
        assert daemon_set.status.desired_number_scheduled == 1
        before = len(cluster.pulls("library/nginx"))
        pod = cluster.run("nginx:1.28", "nginx")
        wait.until(lambda: is_ready(cluster.pod(pod)), f"{pod} is ready")
        assert len(cluster.pulls("library/nginx")) > before

        daemon_sets.delete_namespaced_daemon_set(
            node_mirror.DAEMON_SET, NODES_NAMESPACE, propagation_policy="Foreground"
        )
        wait.until(
            lambda: not _items(daemon_sets.list_namespaced_daemon_set(NODES_NAMESPACE)),
            "the DaemonSet is gone",
        )
        assert joined.main_process("containerd") != second
        assert joined.run("cat", "/etc/containerd/config.toml") == found
        assert joined.run("ls", "-A", "/etc/containerd") == "config.toml\n"
        core.delete_namespace(NODES_NAMESPACE)
        wait.until(
            lambda: (
                NODES_NAMESPACE
                not in [each.metadata.name for each in _items(core.list_namespace())]
            ),
            "the namespace is gone",
        )


OTHER_NODES = {
    "vci-cn-beijing-a": {
        "kubernetes.io/os": "linux",
        "type": "virtual-kubelet",
        "vci.vke.volcengine.com/node-type": "vci",
        "node.kubernetes.io/instance-type": "virtual-node",
    },
    "left-out": {"kubernetes.io/os": "linux", node_mirror.EXCLUDE_LABEL: "disabled"},
}
"""Nodes that are to have no Pod, and where none would ever be ready."""


def _items(found: Any) -> list[Any]:
    return list(found.items)


def test_a_node_that_was_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    others = {each.pid for each in psutil.Process().children()}
    with running_cluster(tmp_path) as cluster:
        before = Machine()
        with cluster.start_node(Containerd.V2_4) as node:
            name = cluster.run(f"{cluster.domain}/library/nginx:latest", "nginx")
            wait.until(lambda: is_ready(cluster.pod(name)), "the Pod is Ready")
            assert cgroups.found(node.cgroup)
            inside = psutil.Process(node.pid).children(recursive=True)
            assert len(inside) > 4
            # What ends the strays of a killed rehearsal knows them by its folder.
            for child in psutil.Process().children():
                if child.pid in others:
                    continue
                assert any(str(tmp_path) in word for word in child.cmdline()), child.cmdline()
        assert not any(psutil.pid_exists(each.pid) for each in inside)
        assert not cgroups.found(node.cgroup)
        assert not [each for each in processes_with(node.cgroup) if each]
    after = Machine()
    assert not {cluster.network.name, cluster.network.peer} & set(psutil.net_if_addrs())
    assert after.changes_since(before) == {}
    assert not processes_with(str(tmp_path))


def test_what_a_killed_node_leaves_can_be_cleared(tmp_path: Path) -> None:
    with running_cluster(tmp_path) as cluster:
        node = cluster.start_node(Containerd.V2_4)
        name = cluster.run(f"{cluster.domain}/library/nginx:latest", "nginx")
        wait.until(lambda: is_ready(cluster.pod(name)), "the Pod is Ready")
        os.kill(node.pid, signal.SIGKILL)
        wait.until(lambda: not psutil.pid_exists(node.pid), "the node has ended")
        assert cgroups.found(node.cgroup)
        real_node.clear(cluster.folder / "real-node")
        assert not cgroups.found(node.cgroup)
        assert cluster.network.name not in psutil.net_if_addrs()
        real_node.clear(cluster.folder / "real-node")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(
            (sys, "platform", "darwin"), "a real node needs Linux, this is darwin", id="os"
        ),
        pytest.param((os, "geteuid", lambda: 1000), "a real node needs root", id="user"),
    ],
)
def test_a_machine_that_cannot_have_a_node_says_why(
    monkeypatch: pytest.MonkeyPatch, change: tuple[Any, str, Any], reason: str
) -> None:
    monkeypatch.setattr(*change)
    assert real_node.supported() == reason


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")
    reason = real_node.supported()
    assert reason is not None
    assert reason.startswith("a real node needs unshare, mount, ip, ")


def test_a_machine_that_gives_no_namespaces_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(sys, "platform", "linux")
    for tool in ("unshare", "mount", "ip", "apt-get", "dpkg-deb"):
        program = tmp_path / tool
        program.write_text("#!/bin/sh\necho not permitted >&2\nexit 1\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert real_node.supported() == "a real node needs namespaces of its own: not permitted"


def test_a_machine_that_gives_no_cgroup_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cgroups, "_MOUNT", tmp_path / "none")
    assert cgroups.unusable() == f"none is mounted in {tmp_path}/none"


@pytest.mark.parametrize(
    ("delegated", "missing"),
    [
        pytest.param("cpu cpuset io memory pids", [], id="all that the machine has"),
        pytest.param("io pids", ["cpu", "cpuset", "memory"], id="not all"),
        pytest.param("", ["cpu", "cpuset", "memory", "pids"], id="none, as in a container"),
    ],
)
def test_a_version_2_cgroup_needs_the_kubelets_controllers(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, delegated: str, missing: list[str]
) -> None:
    monkeypatch.setattr(cgroups, "_MOUNT", tmp_path)
    (tmp_path / "cgroup.controllers").write_text("cpu cpuset io memory pids rdma\n")
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial" / "cgroup.controllers").write_text(f"{delegated}\n")
    assert cgroups._missing_controllers("trial") == missing


@pytest.mark.parametrize(
    ("name", "kind", "code", "found"),
    [
        pytest.param("a.example.", "A", dns.rcode.NOERROR, ["192.168.0.64"], id="known"),
        pytest.param("A.Example.", "A", dns.rcode.NOERROR, ["192.168.0.64"], id="any case"),
        pytest.param("a.example.", "AAAA", dns.rcode.NOERROR, [], id="no IPv6"),
        pytest.param("b.example.", "A", dns.rcode.NXDOMAIN, [], id="unknown"),
    ],
)
def test_the_name_server_knows_the_names_of_its_table(
    name: str, kind: str, code: dns.rcode.Rcode, found: list[str]
) -> None:
    response = answer(dns.message.make_query(name, kind), {"a.example": "192.168.0.64"})
    assert response.rcode() == code
    assert [item.to_text() for rrset in response.answer for item in rrset] == found


def test_a_network_takes_a_range_that_nothing_uses() -> None:
    used = [
        IPv4Network("192.168.0.0/17"),
        IPv4Network("192.168.128.0/18"),
        IPv4Network("10.0.0.0/8"),
    ]
    found = {network._free_subnet(used) for _ in range(50)}
    assert all(each.subnet_of(IPv4Network("192.168.192.0/18")) for each in found)
    with pytest.raises(network.NetworkError, match="no /24"):
        network._free_subnet([IPv4Network("192.0.0.0/8")])


def test_upstream_hosts_have_an_address_each_or_there_is_an_error() -> None:
    link = Network(name="vke", subnet=IPv4Network("192.168.7.0/24"))
    found = link.for_upstreams([f"{number}.example" for number in range(9)])
    assert len(set(found.values())) == len(found) == 9
    with pytest.raises(network.NetworkError, match="32 addresses for 33 upstream hosts"):
        link.for_upstreams([f"{number}.example" for number in range(33)])
