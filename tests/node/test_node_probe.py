"""What pod.sh takes for a proxy that works, and what it does on nodes where it is not."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from rehearsal.cloud.registries.login import AuthMode
from tests.support.node_stage import FRESH, IMAGE, PATCHES, Node, Scripted, World

pytest_plugins = ("tests.support.volcengine_fixtures", "tests.support.node_fixtures")
pytestmark = pytest.mark.parametrize("containerd", ["2.4"], indirect=True)

PUBLIC = "bitnami/redis:7.2"
PRIVATE = "library/busybox:latest"
DIGEST = "sha256:" + "0a" * 32
OWN_HOSTS = 'server = "https://registry-1.docker.io"\n# by hand\n'


def in_place(node: Node, **more: str) -> None:
    assert node.step(**more).startswith("in-place: ")


@pytest.fixture
def frozen_storage(node: Node) -> Iterator[Callable[[], None]]:
    """Freezes the registry behind the proxy's gate, until the test ends."""
    frozen: list[psutil.Process] = []

    def freeze() -> None:
        frozen.extend(
            each
            for each in psutil.Process().children(recursive=True)
            if any(node.world.domain in word for word in each.cmdline())
            and Path(each.cmdline()[0]).name == "registry"
        )
        assert frozen
        for each in frozen:
            each.send_signal(signal.SIGSTOP)

    yield freeze
    for each in frozen:
        each.send_signal(signal.SIGCONT)


def test_a_proxy_that_answers_and_gives_no_content_is_withdrawn(
    node: Node, frozen_storage: Callable[[], None]
) -> None:
    in_place(node)
    frozen_storage()
    first, second = (node.step() for _ in range(2))
    assert first.startswith("failing: ")
    assert second.startswith("withdrawn: ")
    assert "does not answer within 1 s" in second
    node.containerd.remove(IMAGE)
    assert node.containerd.pull(IMAGE) < 10


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param(200, "in-place: ", id="200"),
        pytest.param(307, "in-place: ", id="307"),
        pytest.param(404, "in-place: ", id="404"),
        pytest.param(401, "refuses the login", id="401"),
        pytest.param(403, "answers 403 for library/busybox", id="403"),
        pytest.param(429, "answers 429 for library/busybox", id="429"),
        pytest.param(500, "answers 500 for library/busybox", id="500"),
        pytest.param(503, "answers 503 for library/busybox", id="503"),
    ],
)
def test_the_answer_for_one_image_decides(
    node: Node, scripted: Scripted, status: int, expected: str
) -> None:
    scripted.answers["/v2/library/"] = (status, {})
    assert expected in node.step()
    assert scripted.asked == [("HEAD", "/v2/library/busybox/manifests/latest")]


@pytest.mark.parametrize(
    ("image", "path"),
    [
        ("library/busybox", "library/busybox/manifests/latest"),
        ("library/busybox:1.37", "library/busybox/manifests/1.37"),
        (f"library/busybox@{DIGEST}", f"library/busybox/manifests/{DIGEST}"),
        (f"library/busybox:1.37@{DIGEST}", f"library/busybox/manifests/{DIGEST}"),
    ],
    ids=["name", "tag", "digest", "tag and digest"],
)
def test_the_image_is_asked_for_as_it_is_named(
    node: Node, scripted: Scripted, image: str, path: str
) -> None:
    in_place(node, POD_IMAGE=f"{node.world.domain}/{image}")
    assert scripted.asked[-1] == ("HEAD", f"/v2/{path}")


def test_a_tag_is_asked_for_once_and_then_its_digest(node: Node, scripted: Scripted) -> None:
    scripted.answers["/v2/library/"] = (200, {"Docker-Content-Digest": DIGEST})
    for _ in range(2):
        assert node.step().startswith("in-place: ")
    scripted.answers[f"/v2/library/busybox/manifests/{DIGEST}"] = (404, {})
    for _ in range(2):
        assert node.step().startswith("in-place: ")
    asked = [path.rpartition("/")[2] for method, path in scripted.asked if method == "HEAD"]
    assert asked == ["latest", DIGEST, DIGEST, "latest"]


@pytest.mark.parametrize(
    ("auth", "image", "expected"),
    [
        pytest.param(AuthMode.BOTH, PRIVATE, "none is given", id="Bearer, private"),
        pytest.param(AuthMode.BOTH, PUBLIC, "in-place: ", id="Bearer, public"),
        pytest.param(AuthMode.BOTH, "", "in-place: ", id="Bearer, unknown"),
        pytest.param(AuthMode.BASIC, PRIVATE, "none is given", id="Basic, private"),
        pytest.param(AuthMode.BASIC, PUBLIC, "in-place: ", id="Basic, public"),
        pytest.param(AuthMode.BASIC, "", "none is given", id="Basic, unknown"),
    ],
)
def test_a_proxy_that_wants_a_login_where_none_is_given(
    node: Node,
    proxy_that_takes: Callable[[AuthMode], World],
    auth: AuthMode,
    image: str,
    expected: str,
) -> None:
    proxy = proxy_that_takes(auth)
    answer = node.step(
        POD_PROXIES=f"docker.io {node.world.domain} -",
        POD_IMAGE=f"{node.world.domain}/{image}" if image else "registry.example/busybox",
    )
    assert expected in answer
    assert node.hosts.exists() == answer.startswith("in-place: ")
    node.containerd.remove(f"docker.io/{PUBLIC}")
    node.containerd.pull(f"docker.io/{PUBLIC}")
    served = 200 in [each.status for each in proxy.records()]
    assert served == answer.startswith("in-place: ")


@pytest.mark.parametrize(
    "reason", ["a conflicting config", "a config that does not load", "no login"]
)
def test_a_mirror_that_hangs_is_withdrawn_from_a_node_that_is_refused(
    node: Node, reason: str
) -> None:
    in_place(node)
    text = node.config.read_text()
    if reason == "no login":
        (node.login / "password").unlink()
    elif reason == "a conflicting config":
        node.config.write_text(text + PATCHES["mirrors " + node.version])
    else:
        node.config.write_text(text + "[[[")
    assert node.step().startswith("failing: " if reason == "no login" else "refused: ")
    assert node.hosts.exists()
    node.world.fault("black-hole")
    said = [node.step().split(":")[0] for _ in range(2)]
    assert said == (["withdrawn"] * 2 if reason == "no login" else ["refused", "withdrawn"])
    assert not node.hosts.exists()
    node.containerd.remove(IMAGE)
    assert node.containerd.pull(IMAGE) < 10
    node.world.fault(None)
    if reason != "no login":
        assert [node.step().split(":")[0] for _ in range(2)] == ["withdrawn", "refused"]


def test_one_failure_withdraws_nothing(node: Node) -> None:
    in_place(node)
    for _ in range(3):
        node.world.fault("status", status=503)
        assert node.step().startswith("failing: ")
        node.world.fault(None)
        in_place(node)
    assert node.hosts.exists()


def test_the_mirror_is_withdrawn_and_put_back_with_patience(node: Node) -> None:
    in_place(node)
    node.world.fault("black-hole")
    said = [node.step(POD_PATIENCE="3").split(":")[0] for _ in range(4)]
    assert said == ["failing", "failing", "withdrawn", "withdrawn"]
    assert not node.hosts.exists()
    node.containerd.remove(IMAGE)
    assert node.containerd.pull(IMAGE) < 5
    node.world.fault(None)
    assert [node.step().split(":")[0] for _ in range(2)] == ["withdrawn", "in-place"]
    assert node.pulled_through_the_proxy()
    assert node.containerd.restarts == 1


def test_too_many_requests_withdraw_nothing_however_often(node: Node) -> None:
    in_place(node)
    node.world.fault("status", status=429)
    for _ in range(5):
        said = node.step()
        assert said.startswith("in-place: ")
        assert "answers 429" in said
    assert node.hosts.exists()


def test_a_strict_mirror_is_never_withdrawn(node: Node) -> None:
    in_place(node, MIRROR_STRICT="true")
    node.world.fault("status", status=503)
    for _ in range(4):
        assert node.step(MIRROR_STRICT="true").startswith("failing: ")
    assert node.hosts.exists()


@pytest.mark.parametrize("mark", ["\n", "\t", "\x7f"], ids=["newline", "tab", "delete"])
def test_a_password_that_no_header_and_no_config_can_hold_is_not_written(
    node: Node, mark: str
) -> None:
    (node.login / "password").write_text(f"Pass{mark}w0rd")
    assert "there is a control character in" in node.step()
    assert not node.hosts.exists()


def test_a_proxy_that_containerd_cannot_reach_is_told_with_its_remedy(node: Node) -> None:
    environment = node.containerd.environment
    environment.write_text("HTTPS_PROXY=http://127.0.0.1:9 NO_PROXY=localhost")
    try:
        said = node.step()
        assert said.startswith("waiting: ")
        assert f"NO_PROXY has to name {node.world.domain}" in said
        assert not node.hosts.exists()
        environment.write_text(f"HTTPS_PROXY=http://127.0.0.1:9 NO_PROXY={node.world.domain}")
        in_place(node)
    finally:
        environment.unlink()


def test_a_proxy_that_answers_right_is_asked_once_in_a_step(node: Node, scripted: Scripted) -> None:
    for _ in range(2):
        in_place(node)
    assert len(scripted.asked) == 2


@pytest.mark.parametrize("own", [{}, {"certs.d/docker.io/hosts.toml": OWN_HOSTS}], ids=len)
def test_a_full_disk_does_not_keep_a_mirror_that_hangs(node: Node, own: dict[str, str]) -> None:
    node.containerd.reset(FRESH[node.version], own)
    with node.small_disk() as fill:
        in_place(node)
        fill()
        node.world.fault("black-hole")
        assert [node.step().split(":")[0] for _ in range(3)][-1] == "withdrawn"
        assert [node.hosts.read_text()] == list(own.values()) if own else not node.hosts.exists()
        (node.config.parent / "filler").unlink()
        node.world.fault(None)
        assert [node.step().split(":")[0] for _ in range(2)][-1] == "in-place"
        assert node.remove().stdout == "in-place: removed\n"
        assert [node.hosts.read_text()] == list(own.values()) if own else not node.hosts.exists()
