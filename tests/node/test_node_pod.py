"""pod.sh as the DaemonSet's Pod runs it: busybox, the node's root mounted beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rehearsal import wait
from rehearsal.cloud.registries.certificates import Authority
from tests.support.node_stage import (
    IMAGE,
    NODE_SCRIPT,
    PATCHES,
    POD_SCRIPT,
    STATE,
    Node,
    Pod,
    World,
)
from tests.support.servers import serving

pytest_plugins = ("tests.support.volcengine_fixtures", "tests.support.node_fixtures")

TOKEN = "service-account-token"


@dataclass
class ApiServer:
    """The API server's answer to one question: the DaemonSet."""

    url: str
    account: Path
    status: int = 200
    metadata: dict[str, str] = field(default_factory=lambda: {"name": "node-mirror"})
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@pytest.fixture
def api_server(tmp_path: Path) -> Iterator[ApiServer]:
    authority = Authority.create(tmp_path / "cluster")
    certificate = authority.issue(["127.0.0.1"], tmp_path / "cluster")
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text(TOKEN)
    (account / "namespace").write_text("dockerhub-proxy-nodes")
    (account / "ca.crt").write_bytes(authority.certificate.read_bytes())

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append((self.path, self.headers["Authorization"]))
            body = json.dumps({"kind": "PartialObjectMetadata", "metadata": state.metadata})
            self.send_response(state.status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = ApiServer(url=f"https://127.0.0.1:{server.server_port}", account=account)
    with serving(server, certificate):
        yield state


@pytest.fixture
def start(node: Node, shell: str, api_server: ApiServer) -> Callable[..., object]:
    node.shell = shell

    @contextmanager
    def started(**more: str) -> Iterator[Pod]:
        environment = node.pod_settings(
            POD_DAEMON_SET="node-mirror",
            POD_ACCOUNT=str(api_server.account),
            POD_API_SERVER=api_server.url,
            **more,
        )
        process = node.containerd.start(
            [*node.pod_shell, POD_SCRIPT, "run"], environment=environment
        )
        try:
            yield Pod(node=node, process=process, environment=environment)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    return started


def test_a_pod_is_ready_while_its_node_pulls_through_the_proxy(
    node: Node, start: Callable[..., object], api_server: ApiServer
) -> None:
    with start() as pod:  # type: ignore[attr-defined]
        pod.wait("")
        assert node.pulled_through_the_proxy()
        node.world.fault("refuse")
        pod.wait("withdrawn: ")
        assert not node.hosts.exists()
        node.world.fault(None)
        pod.wait("")
        assert node.pulled_through_the_proxy()
        log = pod.end()
        assert "the node is left as it is" in log
        assert node.world.passwords[-1] not in log
        assert node.encoded_login() not in log
        assert TOKEN not in log
    assert node.hosts.exists()
    assert node.containerd.restarts == 1
    path, authorization = api_server.asked[-1]
    assert path == "/apis/apps/v1/namespaces/dockerhub-proxy-nodes/daemonsets/node-mirror"
    assert authorization == f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    ("status", "metadata"),
    [
        pytest.param(404, {}, id="gone"),
        pytest.param(200, {"deletionTimestamp": "2026-11-24T10:00:00Z"}, id="going"),
    ],
)
def test_deleting_the_daemon_set_puts_the_node_back(
    node: Node,
    start: Callable[..., object],
    api_server: ApiServer,
    status: int,
    metadata: dict[str, str],
) -> None:
    found = node.tree()
    api_server.status, api_server.metadata = status, metadata
    with start() as pod:  # type: ignore[attr-defined]
        pod.wait("")
        assert "in-place: removed" in pod.end()
    assert node.tree() == found
    assert not node.pulled_through_the_proxy()


@pytest.mark.parametrize("status", [401, 403, 500])
def test_an_answer_that_says_nothing_leaves_the_node_as_it_is(
    node: Node, start: Callable[..., object], api_server: ApiServer, status: int
) -> None:
    api_server.status = status
    with start() as pod:  # type: ignore[attr-defined]
        pod.wait("")
        pod.end()
    assert node.hosts.exists()


def test_a_new_password_in_the_secret_reaches_the_node(
    node: Node, start: Callable[..., object]
) -> None:
    with start() as pod:  # type: ignore[attr-defined]
        pod.wait("")
        password = f"Passw0rd-{len(node.world.passwords) + 1}"
        node.world.set_password(password)
        pod.wait("refuses the login")
        (node.login / "password").write_text(password)
        pod.wait("")
        assert node.pulled_through_the_proxy()
    assert node.containerd.restarts == 1


def test_a_pod_without_its_login_is_not_ready_and_says_why(
    node: Node, start: Callable[..., object]
) -> None:
    (node.login / "password").unlink()
    with start() as pod:  # type: ignore[attr-defined]
        assert "there is no username and password" in pod.wait("withdrawn: ")
    assert not node.hosts.exists()


def test_a_pod_withdraws_a_mirror_that_hangs_from_a_node_whose_disk_is_full(
    node: Node, start: Callable[..., object]
) -> None:
    with node.small_disk() as fill, start() as pod:  # type: ignore[attr-defined]
        pod.wait("")
        fill()
        node.world.fault("black-hole")
        pod.wait("withdrawn: ")
        assert not node.hosts.exists()
        pod.end()


def test_a_node_is_put_back_when_the_login_went_first(
    node: Node, start: Callable[..., object], api_server: ApiServer
) -> None:
    found = node.tree()
    api_server.status = 404
    with start() as pod:  # type: ignore[attr-defined]
        pod.wait("")
        (node.login / "password").unlink()
        pod.wait("there is no username and password")
        pod.end()
    assert node.tree() == found


def test_a_pod_keeps_the_login_for_tokens_out_of_its_log_and_takes_it_away(
    node: Node, start: Callable[..., object], api_server: ApiServer, bearer_only: World
) -> None:
    found = node.tree()
    api_server.status = 404
    with start() as pod:  # type: ignore[attr-defined]
        pod.wait("")
        node.containerd.pull(IMAGE)
        assert 200 in [each.status for each in bearer_only.records()]
        log = pod.end()
    assert bearer_only.passwords[-1] not in log
    assert node.tree() == found


def test_a_node_waits_for_its_turn_to_restart_containerd(
    node: Node, start: Callable[..., object]
) -> None:
    """Nodes that have to restart at once spread it over a window, by a delay from their names."""
    config = node.config.read_bytes()
    with start(POD_RESTART_WINDOW="8", POD_NEW_SECONDS="0") as pod:  # type: ignore[attr-defined]
        said = pod.wait("restart-needed: ")
        assert " s\n" in said
        assert node.config.read_bytes() == config
        assert node.containerd.restarts == 0
        pod.wait("")
    assert node.containerd.restarts == 1
    assert node.pulled_through_the_proxy()


def test_a_node_that_was_started_just_now_does_not_wait(
    node: Node, start: Callable[..., object]
) -> None:
    with start(POD_RESTART_WINDOW="3600", POD_NEW_SECONDS="99999999") as pod:  # type: ignore[attr-defined]
        pod.wait("")
    assert node.containerd.restarts == 1


def test_a_node_that_needs_no_restart_does_not_wait(
    node: Node, start: Callable[..., object]
) -> None:
    node.containerd.reset(PATCHES[node.version].format(path="/etc/containerd/certs.d"))
    with start(POD_RESTART_WINDOW="3600", POD_NEW_SECONDS="0") as pod:  # type: ignore[attr-defined]
        pod.wait("")
    assert node.containerd.restarts == 0


def test_a_node_that_is_put_back_waits_for_its_turn_but_for_the_mirror(
    node: Node, start: Callable[..., object], api_server: ApiServer
) -> None:
    found = node.tree()
    api_server.status = 404
    with start() as pod:  # type: ignore[attr-defined]
        pod.wait("")
        asked = len(api_server.asked)
        assert "in-place: removed" in pod.end()
        assert len(api_server.asked) == asked + 1
    assert node.tree() == found


def test_the_script_is_left_on_the_node_for_an_operator_and_goes_with_the_mirror(
    node: Node, start: Callable[..., object]
) -> None:
    found = node.tree()
    with start() as pod:  # type: ignore[attr-defined]
        pod.wait("")
        copy = node.containerd.root / STATE / "node.sh"
        wait.until(copy.exists, "the copy is there")
        assert copy.read_text() == NODE_SCRIPT.read_text()
        pod.end()
    done = node.containerd.run(["sh", f"/{STATE}/node.sh", "remove"])
    assert done.stdout == "in-place: removed\n"
    assert node.tree() == found


def test_what_somebody_else_wrote_later_is_told_and_stays(
    node: Node, start: Callable[..., object]
) -> None:
    with start() as pod:  # type: ignore[attr-defined]
        pod.wait("")
        node.hosts.write_text("# theirs\n")
        assert "somebody else wrote" in pod.wait("refused: ")
        assert node.hosts.read_text() == "# theirs\n"
        node.hosts.unlink()
        pod.wait("")
