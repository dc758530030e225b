"""node-mirror.sh as its DaemonSet's Pod runs it: busybox, the node's root mounted beside it."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from rehearsal.cloud.registries.certificates import Authority
from tests.support.node_stage import IMAGE, SCRIPT, Node, Pod, World

pytest_plugins = ("tests.support.volcengine_fixtures", "tests.support.node_fixtures")
pytestmark = pytest.mark.parametrize("containerd", ["1.6", "2.4"], indirect=True)

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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    state = ApiServer(url=f"https://127.0.0.1:{server.server_port}", account=account)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def start(node: Node, shell: str, tmp_path: Path, api_server: ApiServer) -> Callable[..., object]:
    node.shell = shell

    @contextmanager
    def started() -> Iterator[Pod]:
        environment = node.settings(
            MIRROR_HOST_ROOT=str(node.containerd.host_folder),
            MIRROR_RUN_DIR=str(tmp_path / "run"),
            MIRROR_INTERVAL="1",
            MIRROR_FAILURES="2",
            MIRROR_SUCCESSES="2",
            MIRROR_DAEMON_SET="node-mirror",
            MIRROR_SERVICE_ACCOUNT=str(api_server.account),
            MIRROR_API_SERVER=api_server.url,
        )
        process = node.containerd.start([shell, "sh", SCRIPT, "run"], environment=environment)
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


def test_a_pod_on_a_node_that_is_refused_is_not_ready_and_says_why(
    node: Node, start: Callable[..., object]
) -> None:
    (node.login / "password").unlink()
    with start() as pod:  # type: ignore[attr-defined]
        assert pod.wait("refused: ").startswith("refused: there is no username and password")
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
        pod.wait("refused: there is no username and password")
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
