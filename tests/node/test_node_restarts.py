"""Whose containerd is restarted: nodes that start and leave at once, and one real Lease."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle, islice, pairwise
from pathlib import Path
from typing import Any

import psutil
import pytest
from kubernetes import client

from components.node_mirror import DAEMON_SET, LEASE, role_rules
from rehearsal import wait
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cluster import control_plane
from rehearsal.parts.build import obtain
from rehearsal.processes import Processes, free_port
from rehearsal.progress import Progress
from tests.support.containerd import ContainerdNode, NodeConfig
from tests.support.node_stage import FRESH, PATCHES, SCRIPT, STATE, Node, Pod, World

pytest_plugins = ("tests.support.volcengine_fixtures", "tests.support.node_fixtures")

CONTENDERS = 8
TURNS = 4
TAKING_TURNS = """
turns={turns}
while [ "$turns" -gt 0 ]; do
  if take_lease; then
    sh -c {restart}
    release_lease
    turns=$((turns - 1))
  fi
done
"""
VERSIONS = ("1.6", "1.7", "2.4")


@dataclass(frozen=True, kw_only=True)
class Restart:
    """One restart of a containerd, as its node noted it; Unix time in nanoseconds."""

    node: str
    begin: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The namespace of the Pods on a real API server, and their account with its real rights."""

    url: str
    api: client.ApiClient
    namespace: str
    account: Path
    notes: Path
    """Where nodes note their restarts."""

    @property
    def token(self) -> str:
        return (self.account / "token").read_text()

    def lease(self) -> Any:
        """The Lease; None while there is none."""
        try:
            return client.CoordinationV1Api(self.api).read_namespaced_lease(LEASE, self.namespace)
        except client.ApiException as error:
            if error.status != 404:
                raise
            return None

    def hold(self, holder: str, *, seconds: int, annotations: dict[str, str] | None = None) -> None:
        """Make somebody else the holder."""
        body = client.V1Lease(
            metadata=client.V1ObjectMeta(name=LEASE, annotations=annotations),
            spec=client.V1LeaseSpec(holder_identity=holder, lease_duration_seconds=seconds),
        )
        leases = client.CoordinationV1Api(self.api)
        if self.lease() is None:
            leases.create_namespaced_lease(self.namespace, body)
        else:
            leases.patch_namespaced_lease(LEASE, self.namespace, body)

    def delete_daemon_set(self) -> None:
        client.AppsV1Api(self.api).delete_namespaced_daemon_set(DAEMON_SET, self.namespace)

    def noting(self, name: str, command: str = "systemctl restart containerd") -> str:
        """A MIRROR_RESTART that notes when it begins and ends."""
        note = f"{name} $(date +%s%N) >>{self.notes}"
        return f"echo begin {note}; {command}; result=$?; echo end {note}; exit $result"

    def begun(self) -> list[str]:
        """The nodes that began a restart, in order."""
        words = [each.split() for each in self.notes.read_text().splitlines()]
        return [node for word, node, _ in words if word == "begin"]

    def restarts(self) -> list[Restart]:
        """Every restart so far, each of them ended."""
        begun: dict[str, int] = {}
        found = []
        for line in self.notes.read_text().splitlines():
            word, node, at = line.split()
            if word == "begin":
                begun[node] = int(at)
            else:
                found.append(Restart(node=node, begin=begun.pop(node), end=int(at)))
        assert begun == {}
        return sorted(found, key=lambda each: each.begin)


@dataclass
class Watch:
    """Looks for a secret in the arguments of every process, as often as it can."""

    secret: str
    curls: int = 0
    found: set[str] = field(default_factory=set)

    @contextmanager
    def watching(self) -> Iterator[None]:
        ended = threading.Event()

        def look() -> None:
            while not ended.is_set():
                for each in psutil.process_iter():
                    with suppress(psutil.Error):
                        words = each.cmdline()
                        self.curls += words[:1] == ["curl"]
                        if self.secret in " ".join(words):
                            self.found.add(words[0])

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[control_plane.ControlPlane]:
    folder = tmp_path_factory.mktemp("plane")
    parts = obtain(control_plane.PARTS, Progress())
    with Processes(folder / "logs") as processes:
        authority = Authority.create(folder / "authority")
        yield control_plane.start(processes, parts, folder / "plane", authority)


@pytest.fixture(scope="module")
def fleet(world: World, shell: str, binaries_of: Callable[[str], Path]) -> Iterator[list[Node]]:
    """Nodes with a containerd each, of both versions in turn."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder)
        nodes = []
        for number, version in enumerate(islice(cycle(VERSIONS), CONTENDERS)):
            containerd = ContainerdNode(
                NodeConfig(
                    folder=folder / f"node-{number}",
                    binaries=binaries_of(version),
                    hosts={
                        world.domain: world.proxy_address,
                        "registry-1.docker.io": world.hub_address,
                    },
                    ca_certificate=world.ca_certificate,
                )
            )
            stack.callback(containerd.end)
            containerd.create()
            login = folder / f"login-{number}"
            login.mkdir()
            (login / "username").write_text(world.username)
            (login / "password").write_text(world.passwords[-1])
            nodes.append(
                Node(containerd=containerd, world=world, login=login, version=version, shell=shell)
            )
        yield nodes


@pytest.fixture
def cluster(plane: control_plane.ControlPlane, tmp_path: Path) -> Iterator[Cluster]:
    api = control_plane.client_of(plane.kubeconfig)
    core, rbac = client.CoreV1Api(api), client.RbacAuthorizationV1Api(api)
    namespace = f"nodes-{secrets.token_hex(3)}"
    meta = client.V1ObjectMeta(name=DAEMON_SET)
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=namespace)))
    core.create_namespaced_service_account(namespace, client.V1ServiceAccount(metadata=meta))
    rules = [client.V1PolicyRule(**each) for each in role_rules()]
    rbac.create_namespaced_role(namespace, client.V1Role(metadata=meta, rules=rules))
    rbac.create_namespaced_role_binding(
        namespace,
        client.V1RoleBinding(
            metadata=meta,
            role_ref=client.V1RoleRef(
                api_group="rbac.authorization.k8s.io", kind="Role", name=DAEMON_SET
            ),
            subjects=[
                client.RbacV1Subject(kind="ServiceAccount", name=DAEMON_SET, namespace=namespace)
            ],
        ),
    )
    client.AppsV1Api(api).create_namespaced_daemon_set(namespace, _daemon_set())
    account = tmp_path / "account"
    account.mkdir()
    request = client.AuthenticationV1TokenRequest(
        spec=client.V1TokenRequestSpec(audiences=["https://kubernetes.default.svc"])
    )
    made: Any = core.create_namespaced_service_account_token(DAEMON_SET, namespace, request)
    (account / "token").write_text(made.status.token)
    (account / "namespace").write_text(namespace)
    (account / "ca.crt").write_bytes(plane.authority.read_bytes())
    notes = tmp_path / "restarts"
    notes.touch()
    yield Cluster(url=plane.url, api=api, namespace=namespace, account=account, notes=notes)
    api.close()  # type: ignore[no-untyped-call]


def _daemon_set() -> Any:
    """The object that Pods ask for; there is no node in the cluster for it to make Pods on."""
    labels = {"app": DAEMON_SET}
    containers = [{"name": "main", "image": "none"}]
    return {
        "metadata": {"name": DAEMON_SET},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    }


def assert_one_at_a_time(restarts: Sequence[Restart]) -> None:
    for before, after in pairwise(restarts):
        assert before.end < after.begin, f"{before} and {after}"


def kill(leader: int) -> None:
    """Kill a process and all that it started in its group, with SIGKILL."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


@contextmanager
def pod_on(node: Node, name: str, cluster: Cluster, folder: Path, **more: str) -> Iterator[Pod]:
    """The DaemonSet's Pod on a node."""
    given = {
        "MIRROR_HOST_ROOT": str(node.containerd.host_folder),
        "MIRROR_RUN_DIR": str(folder / f"run-{name}"),
        "MIRROR_INTERVAL": "1",
        "MIRROR_RESTART": cluster.noting(name),
        "MIRROR_DAEMON_SET": DAEMON_SET,
        "MIRROR_SERVICE_ACCOUNT": str(cluster.account),
        "MIRROR_API_SERVER": cluster.url,
        "MIRROR_LEASE": LEASE,
        "MIRROR_NODE_NAME": name,
        "MIRROR_GRACE_SECONDS": "600",
        **more,
    }
    environment = node.settings(**given)
    process = node.containerd.start([node.shell, "sh", SCRIPT, "run"], environment=environment)
    try:
        yield Pod(node=node, process=process, environment=environment)
    finally:
        kill(process.pid)
        process.communicate()


@pytest.fixture(params=["1.6", "2.4"])
def node(fleet: list[Node], request: pytest.FixtureRequest) -> Node:
    """A node on which nothing was configured yet."""
    fresh: Node = fleet[VERSIONS.index(request.param)]
    fresh.containerd.reset(FRESH[fresh.version])
    return fresh


def test_nodes_that_start_and_leave_at_once_restart_containerd_one_at_a_time(
    fleet: list[Node], cluster: Cluster, tmp_path: Path
) -> None:
    found = []
    for each in fleet:
        each.containerd.reset(FRESH[each.version])
        found.append(each.tree())
    names = [f"node-{number}" for number in range(len(fleet))]
    watch = Watch(cluster.token)
    with ExitStack() as stack:
        stack.enter_context(watch.watching())
        patience = {"MIRROR_INTERVAL": "2", "MIRROR_PROBE_SECONDS": "5"}
        pods = [
            stack.enter_context(
                pod_on(
                    each,
                    name,
                    cluster,
                    tmp_path,
                    MIRROR_RESTART=cluster.noting(name, "systemctl restart containerd; sleep 0.5"),
                    MIRROR_RESTART_SECONDS="30",
                    **patience,
                )
            )
            for name, each in zip(names, fleet, strict=True)
        ]
        for pod in pods:
            pod.wait("", seconds=240)
        arrived = cluster.restarts()
        assert sorted(each.node for each in arrived) == names
        assert [each.containerd.restarts for each in fleet] == [1] * len(fleet)
        cluster.delete_daemon_set()
        for pod in pods:
            pod.process.send_signal(signal.SIGTERM)
        logs = [pod.process.communicate(timeout=240)[1] for pod in pods]
    left = cluster.restarts()[len(arrived) :]
    assert sorted(each.node for each in left) == names
    assert_one_at_a_time(cluster.restarts())
    for log in logs:
        assert "in-place: removed" in log
        assert cluster.token not in log
    assert [each.tree() for each in fleet] == found
    assert cluster.lease().spec.holder_identity == ""
    assert watch.curls > 0
    assert watch.found == set()
    core = client.CoreV1Api(cluster.api)
    core.delete_namespace(cluster.namespace)
    wait.until(lambda: not _is_there(core, cluster.namespace), "the namespace is gone")


def _is_there(core: client.CoreV1Api, namespace: str) -> bool:
    spaces: Any = core.list_namespace()
    return namespace in [each.metadata.name for each in spaces.items]


def test_the_lease_never_has_two_holders(cluster: Cluster, tmp_path: Path) -> None:
    """The script's own functions, by processes that take the Lease again and again."""
    functions, _, _ = SCRIPT.read_text().rpartition("case ${1:-} in")
    contenders = []
    for number in range(CONTENDERS):
        name = f"node-{number}"
        program = tmp_path / name
        turns = TAKING_TURNS.format(
            turns=TURNS, restart=shlex.quote(cluster.noting(name, "sleep 0.03"))
        )
        program.write_text(functions + turns)
        environment = {
            "PATH": os.environ["PATH"],
            "MIRROR_STATE_DIR": str(tmp_path / f"state-{number}"),
            "MIRROR_SERVICE_ACCOUNT": str(cluster.account),
            "MIRROR_API_SERVER": cluster.url,
            "MIRROR_LEASE": LEASE,
            "MIRROR_NODE_NAME": name,
        }
        contenders.append(subprocess.Popen(["sh", program], env=environment))
    try:
        assert [each.wait(timeout=120) for each in contenders] == [0] * CONTENDERS
    finally:
        for each in contenders:
            each.kill()
            each.wait()
    assert len(cluster.restarts()) == CONTENDERS * TURNS
    assert_one_at_a_time(cluster.restarts())


def test_a_holder_that_was_killed_frees_the_lease_after_its_duration(
    fleet: list[Node], cluster: Cluster, tmp_path: Path
) -> None:
    first, second = fleet[:2]
    for each in (first, second):
        each.containerd.reset(FRESH[each.version])
    duration = {"MIRROR_LEASE_SECONDS": "15"}
    hanging = cluster.noting("first", "sleep 600")
    with pod_on(first, "first", cluster, tmp_path, MIRROR_RESTART=hanging, **duration) as killed:
        wait.until(lambda: cluster.begun() == ["first"], "the first node has begun", timeout=30)
        taken = cluster.lease().spec.renew_time.timestamp()
        with pod_on(second, "second", cluster, tmp_path, **duration) as waiting:
            assert "node first restarts its containerd" in waiting.wait("waiting: ")
            kill(killed.process.pid)
            waiting.wait("", seconds=40)
    note = cluster.notes.read_text().splitlines()[1]
    assert note.startswith("begin second ")
    waited = int(note.split()[2]) / 1e9 - taken
    assert 15 <= waited < 30


def test_the_next_pod_of_a_killed_holders_node_goes_on_at_once(
    node: Node, cluster: Cluster, tmp_path: Path
) -> None:
    hanging = cluster.noting("node", "sleep 600")
    with pod_on(node, "node", cluster, tmp_path, MIRROR_RESTART=hanging) as pod:
        wait.until(lambda: cluster.begun() == ["node"], "the node has begun", timeout=30)
        kill(pod.process.pid)
    with pod_on(node, "node", cluster, tmp_path) as pod:
        pod.wait("", seconds=20)
    assert cluster.lease().spec.holder_identity == ""


def test_a_node_waits_while_another_holds_the_lease(
    node: Node, cluster: Cluster, tmp_path: Path
) -> None:
    config = node.config.read_bytes()
    misleading = {"holderIdentity": "", "spec": '"spec":{"holderIdentity":""}}]}'}
    cluster.hold("other.example", seconds=600, annotations=misleading)
    with pod_on(node, "node", cluster, tmp_path) as pod:
        said = pod.wait("waiting: ")
        assert said == "waiting: node other.example restarts its containerd\n"
        time.sleep(3)
        assert pod.ready().stdout == said
        assert node.config.read_bytes() == config
        assert not node.hosts.exists()
        assert node.containerd.restarts == 0
        cluster.hold("", seconds=600)
        pod.wait("")
    assert node.containerd.restarts == 1
    spec = cluster.lease().spec
    assert (spec.holder_identity, spec.lease_duration_seconds) == ("", 60)


def test_a_node_that_needs_no_restart_asks_for_no_lease(
    node: Node, cluster: Cluster, tmp_path: Path
) -> None:
    node.containerd.reset(PATCHES[node.version].format(path="/etc/containerd/certs.d"))
    with pod_on(node, "node", cluster, tmp_path) as pod:
        pod.wait("")
        cluster.delete_daemon_set()
        assert "in-place: removed" in pod.end()
    assert cluster.lease() is None
    assert node.containerd.restarts == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param("closed", "the API server cannot be asked", id="no API server"),
        pytest.param("token", "the API server answers 401", id="a token that is not valid"),
        pytest.param("role", "the API server answers 403", id="an account without the Role"),
        pytest.param("name", "MIRROR_NODE_NAME is not a node's name", id="no node name"),
    ],
)
def test_without_the_lease_nothing_is_restarted(
    fleet: list[Node], cluster: Cluster, tmp_path: Path, change: str, reason: str
) -> None:
    node = fleet[0]
    node.containerd.reset(FRESH[node.version])
    more = {}
    if change == "closed":
        more["MIRROR_API_SERVER"] = f"https://127.0.0.1:{free_port()}"
    elif change == "token":
        (cluster.account / "token").write_text("wrong")
    elif change == "role":
        rbac = client.RbacAuthorizationV1Api(cluster.api)
        rbac.delete_namespaced_role_binding(DAEMON_SET, cluster.namespace)
    else:
        more["MIRROR_NODE_NAME"] = ""
    with pod_on(node, "node", cluster, tmp_path, **more) as pod:
        assert reason in pod.wait("waiting: ")
        time.sleep(2)
    assert cluster.begun() == []
    assert node.config.read_text() == FRESH[node.version]


def test_a_node_that_leaves_does_not_wait_for_the_lease_for_ever(
    node: Node, cluster: Cluster, tmp_path: Path
) -> None:
    found = node.tree()
    with pod_on(node, "node", cluster, tmp_path, MIRROR_GRACE_SECONDS="12") as pod:
        pod.wait("")
        cluster.hold("other", seconds=600)
        cluster.delete_daemon_set()
        before = time.monotonic()
        log = pod.end()
    assert 8 <= time.monotonic() - before < 12
    assert "node other restarts its containerd: going on without Lease" in log
    assert node.tree() == found
    assert node.containerd.restarts == 2
    assert cluster.lease().spec.holder_identity == "other"


def test_a_pod_that_ends_in_a_restart_gives_the_lease_back(
    node: Node, cluster: Cluster, tmp_path: Path
) -> None:
    slow = cluster.noting("node", "sleep 2; systemctl restart containerd")
    with pod_on(node, "node", cluster, tmp_path, MIRROR_RESTART=slow) as pod:
        wait.until(lambda: cluster.begun() == ["node"], "the node has begun", timeout=30)
        assert "the node is left as it is" in pod.end()
    assert cluster.lease().spec.holder_identity == ""
    assert node.hosts.exists()


def test_a_node_whose_containerd_does_not_come_back_holds_the_others_up(
    fleet: list[Node], cluster: Cluster, tmp_path: Path
) -> None:
    bad, good = fleet[:2]
    for each in (bad, good):
        each.containerd.reset(FRESH[each.version])
    found = bad.config.read_bytes()
    stop = {"MIRROR_RESTART": "systemctl stop containerd", "MIRROR_RESTART_SECONDS": "2"}
    with pod_on(bad, "bad", cluster, tmp_path, **stop) as refused:
        assert "did not come up healthy" in refused.wait("refused: ")
        assert bad.config.read_bytes() == found
        assert cluster.lease().spec.holder_identity == "bad"
        with pod_on(good, "good", cluster, tmp_path) as waiting:
            assert "node bad restarts its containerd" in waiting.wait("waiting: ")
            waiting.wait("")
        refused.end()
    assert cluster.lease().spec.holder_identity == ""


@pytest.mark.parametrize("permission", ["false", "1000000000"], ids=["no", "no longer"])
def test_a_step_without_permission_stops_before_anything_changes(
    node: Node, permission: str
) -> None:
    found = node.tree()
    done = node.script("step", MIRROR_MAY_RESTART=permission)
    assert done.returncode == 1
    assert done.stdout.startswith("restart-needed: /etc/containerd/config.toml has to be changed")
    assert node.config.read_text() == FRESH[node.version]
    assert not node.hosts.exists()
    later = str(int(time.time()) + 60)
    assert node.script("step", MIRROR_MAY_RESTART=later).stdout.startswith("in-place: ")
    in_place = node.tree()
    done = node.script("remove", MIRROR_MAY_RESTART=permission)
    assert done.stdout.startswith("restart-needed: ")
    assert node.tree() == in_place
    assert node.containerd.restarts == 1
    assert node.script("remove").stdout.startswith("in-place: removed")
    assert node.tree() == found


def test_a_config_that_someone_changed_is_not_loaded_without_permission(node: Node) -> None:
    changed = PATCHES[node.version].format(path="/etc/containerd/mine")
    node.config.write_text(changed)
    done = node.script("step", MIRROR_MAY_RESTART="false")
    assert done.stdout.startswith("restart-needed: ")
    assert node.config.read_text() == changed
    assert node.containerd.restarts == 0
    assert node.script("step").stdout.startswith("in-place: ")
    assert node.containerd.restarts == 1


def test_a_restart_that_is_pending_waits_for_permission_and_a_failing_proxy_does_not(
    node: Node,
) -> None:
    assert node.script("step").stdout.startswith("in-place: ")
    (node.containerd.root / STATE / "restart-pending").touch()
    without = {"MIRROR_MAY_RESTART": "false", "MIRROR_FAILURES": "1", "MIRROR_SUCCESSES": "1"}
    assert node.script("step", **without).stdout.startswith("restart-needed: ")
    node.world.fault("refuse")
    try:
        assert node.script("step", **without).stdout.startswith("withdrawn: ")
    finally:
        node.world.fault(None)
    assert not node.hosts.exists()
    assert node.script("step", **without).stdout.startswith("restart-needed: ")
    assert node.containerd.restarts == 1
    assert node.script("step", MIRROR_SUCCESSES="1").stdout.startswith("in-place: ")
    assert node.containerd.restarts == 2
