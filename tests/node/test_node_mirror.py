"""What node-mirror.sh does to real containerd, proven by the proxy's access log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rehearsal import wait
from rehearsal.cloud.registries.certificates import Authority
from tests.support.containerd import NodeError
from tests.support.node_stage import FRESH, IMAGE, PATCHES, Node

pytest_plugins = ("tests.support.volcengine_fixtures", "tests.support.node_fixtures")

OWN_HOSTS = 'server = "https://registry-1.docker.io"\n# by hand\n'
OWN = {"certs.d/docker.io/hosts.toml": OWN_HOSTS}


def in_place(node: Node) -> None:
    done = node.script("once")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("in-place: ")


def test_a_fresh_node_pulls_through_the_proxy_after_one_restart(node: Node) -> None:
    assert not node.pulled_through_the_proxy()
    in_place(node)
    before = node.world.hub.connections
    assert node.pulled_through_the_proxy()
    assert node.world.hub.connections == before
    assert node.containerd.restarts == 1


def test_a_second_run_changes_nothing(node: Node) -> None:
    in_place(node)
    before = node.tree()
    in_place(node)
    assert node.tree() == before
    assert node.containerd.restarts == 1


def test_a_config_path_that_is_there_is_used_without_a_restart(node: Node) -> None:
    config = PATCHES[node.version].format(path="/etc/containerd/mine")
    node.containerd.reset(config)
    in_place(node)
    assert node.containerd.restarts == 0
    assert node.config.read_text() == config
    assert (node.config.parent / "mine/docker.io/hosts.toml").exists()
    assert node.pulled_through_the_proxy()


def test_a_config_path_of_two_folders_is_replaced_by_one(node: Node) -> None:
    node.containerd.reset(PATCHES[node.version].format(path="/etc/containerd/certs.d:/etc/docker"))
    in_place(node)
    assert node.pulled_through_the_proxy()


@pytest.mark.parametrize(
    ("config", "files"),
    [
        pytest.param("", {}, id="an empty config.toml"),
        pytest.param(None, {}, id="no config.toml"),
        pytest.param("version = 2\n", {}, id="version 2"),
        pytest.param("fresh", OWN, id="an own hosts.toml"),
        pytest.param("# mine\nversion = 2\n[debug]\n  level = 'info' # loud\n", {}, id="comments"),
        pytest.param("version = 2 # of containerd 1.3\n", {}, id="a comment beside the version"),
    ],
)
def test_removal_leaves_every_byte_as_it_was(
    node: Node, config: str | None, files: dict[str, str]
) -> None:
    node.containerd.reset(FRESH[node.version] if config == "fresh" else config, files)
    for name in files:
        (node.config.parent / name).chmod(0o640)
    found = node.tree()
    in_place(node)
    assert node.pulled_through_the_proxy()
    done = node.script("remove")
    assert done.returncode == 0, done.stdout + done.stderr
    assert node.tree() == found
    assert not node.pulled_through_the_proxy()


@pytest.mark.parametrize("name", ["config.toml", "certs.d/docker.io/hosts.toml"])
def test_removal_brings_symbolic_links_back_and_leaves_what_they_lead_to(
    node: Node, name: str
) -> None:
    texts = {"config.toml": FRESH[node.version], "certs.d/docker.io/hosts.toml": OWN_HOSTS}
    node.containerd.reset(FRESH[node.version], {**OWN, "mine/real.toml": texts[name]})
    link = node.config.parent / name
    link.unlink()
    link.symlink_to("../" * name.count("/") + "mine/real.toml")
    found = node.tree()
    in_place(node)
    assert node.pulled_through_the_proxy()
    assert node.tree()["mine/real.toml"] == found["mine/real.toml"]
    node.world.fault("refuse")
    assert node.script("step", MIRROR_FAILURES="1").stdout.startswith("withdrawn: ")
    assert (node.hosts.is_symlink(), node.hosts.read_text()) == (link == node.hosts, OWN_HOSTS)
    assert node.script("remove").returncode == 0
    assert node.tree() == found


@pytest.mark.parametrize("drop_in", [False, True], ids=["config.toml", "a file it imports"])
def test_a_config_path_that_containerd_was_not_started_with_takes_one_restart(
    node: Node, drop_in: bool
) -> None:
    text = PATCHES[node.version].format(path="/etc/containerd/certs.d")
    if drop_in:
        imports = 'imports = ["/etc/containerd/conf.d/*.toml"]\n'
        node.containerd.reset(imports + FRESH[node.version], {"conf.d/a.toml": FRESH[node.version]})
        (node.config.parent / "conf.d/a.toml").write_text(text)
    else:
        node.config.write_text(text)
    in_place(node)
    assert node.containerd.restarts == 1
    assert node.pulled_through_the_proxy()
    in_place(node)
    assert node.containerd.restarts == 1


def test_a_config_that_was_changed_in_other_ways_takes_no_restart(node: Node) -> None:
    in_place(node)
    node.config.write_text(f"# changed by hand\n{node.config.read_text()}")
    node.config.chmod(0o600)
    in_place(node)
    assert node.containerd.restarts == 1


def test_a_restart_that_changes_nothing_is_not_repeated(node: Node) -> None:
    node.config.write_text(PATCHES[node.version].format(path="/etc/containerd/certs.d"))
    said = [node.script("step", MIRROR_RESTART="true").stderr for _ in range(3)]
    assert [each.count("restarting containerd") for each in said] == [1, 0, 0]


def test_a_config_of_others_that_containerd_does_not_come_up_with_is_left_alone(
    node: Node,
) -> None:
    text = PATCHES[node.version].format(path="/etc/containerd/certs.d")
    node.config.write_text(text)
    given = {"MIRROR_RESTART": "systemctl stop containerd", "MIRROR_RESTART_SECONDS": "1"}
    for restarts in (1, 0):
        done = node.script("step", **given)
        assert done.stdout.startswith("refused: containerd did not come up healthy"), done.stdout
        assert done.stderr.count("restarting containerd") == restarts
    assert node.config.read_text() == text
    assert not node.hosts.exists()


def test_a_conflicting_config_is_refused_with_its_reason(node: Node) -> None:
    config = FRESH[node.version] + PATCHES["mirrors " + node.version]
    node.containerd.reset(config)
    done = node.script("once")
    assert done.returncode == 1
    assert done.stdout.startswith("refused: ")
    assert "registry.mirrors.docker.io" in done.stdout
    assert node.config.read_text() == config
    assert not node.hosts.exists()
    assert node.containerd.restarts == 0


def test_a_certificate_authority_that_did_not_sign_is_not_written(
    node: Node, tmp_path: Path
) -> None:
    other = Authority.create(tmp_path / "other").certificate
    done = node.script("once", MIRROR_CA_FILE=str(other))
    assert done.stdout.startswith("waiting: the certificate of ")
    assert not node.hosts.exists()
    assert not node.pulled_through_the_proxy()


def test_the_right_certificate_authority_is_kept_on_the_node(node: Node) -> None:
    done = node.script("once", MIRROR_CA_FILE=str(node.world.ca_certificate))
    assert done.returncode == 0, done.stdout
    assert 'ca = "/etc/containerd/dockerhub-mirror/ca.crt"' in node.hosts.read_text()
    assert node.pulled_through_the_proxy()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param({"kind": "refuse"}, "refuses connections", id="down"),
        pytest.param({"kind": "black-hole"}, "does not answer within 1 s", id="black hole"),
        pytest.param({"kind": "silent"}, "does not answer within 1 s", id="silent"),
        pytest.param({"kind": "drop"}, "cannot be asked", id="dropped"),
        pytest.param({"kind": "status", "status": 401}, "refuses the login", id="401"),
        pytest.param({"kind": "status", "status": 403}, "answers 403", id="403"),
        pytest.param({"kind": "status", "status": 429}, "answers 429", id="429"),
        pytest.param({"kind": "status", "status": 503}, "answers 503", id="503"),
    ],
)
def test_nothing_is_written_while_the_proxy_fails(
    node: Node, fault: dict[str, object], reason: str
) -> None:
    found = node.tree()
    node.world.fault(**fault)  # type: ignore[arg-type]
    done = node.script("once")
    assert done.returncode == 1
    assert done.stdout.startswith("waiting: ")
    assert reason in done.stdout
    node.script("remove")
    assert node.tree() == found
    assert node.containerd.restarts == 0


def test_a_wrong_login_is_not_written(node: Node) -> None:
    (node.login / "password").write_text("wrong")
    assert "refuses the login" in node.script("once").stdout
    assert not node.hosts.exists()


def test_a_password_that_no_header_and_no_config_can_hold_is_refused(node: Node) -> None:
    (node.login / "password").write_text("Pass\nw0rd")
    assert node.script("once").stdout.startswith("refused: there is a control character in")
    assert not node.hosts.exists()


def test_the_mirror_is_withdrawn_and_put_back_with_patience(node: Node) -> None:
    in_place(node)
    node.world.fault("black-hole")
    said = [node.script("step", MIRROR_FAILURES="3").stdout.split(":")[0] for _ in range(4)]
    assert said == ["failing", "failing", "withdrawn", "withdrawn"]
    assert not node.hosts.exists()
    node.containerd.remove(IMAGE)
    assert node.containerd.pull(IMAGE) < 5
    node.world.fault(None)
    said = [node.script("step", MIRROR_SUCCESSES="2").stdout.split(":")[0] for _ in range(2)]
    assert said == ["withdrawn", "in-place"]
    assert node.pulled_through_the_proxy()
    assert node.containerd.restarts == 1


def test_one_failure_withdraws_nothing(node: Node) -> None:
    in_place(node)
    for _ in range(3):
        node.world.fault("status", status=503)
        assert node.script("step", MIRROR_FAILURES="2").stdout.startswith("failing: ")
        node.world.fault(None)
        assert node.script("step", MIRROR_FAILURES="2").stdout.startswith("in-place: ")
    assert node.hosts.exists()


def test_withdrawal_leaves_the_nodes_own_hosts_file_in_force(node: Node) -> None:
    node.containerd.reset(FRESH[node.version], OWN)
    in_place(node)
    node.world.fault("refuse")
    assert node.script("step", MIRROR_FAILURES="1").stdout.startswith("withdrawn: ")
    assert node.hosts.read_text() == OWN_HOSTS


@pytest.mark.parametrize("status", [401, 404, 503])
def test_docker_hub_serves_what_the_proxy_does_not(node: Node, status: int) -> None:
    in_place(node)
    node.world.fault("status", status=status)
    assert not node.pulled_through_the_proxy()


def pulls(node: Node) -> bool:
    """Whether a pull succeeds; the first one may find the damaged part of the one before it."""
    try:
        node.containerd.pull(IMAGE)
    except NodeError:
        return False
    return True


def test_damaged_content_is_never_accepted_and_goes_unnoticed_until_the_mirror_is_removed(
    node: Node,
) -> None:
    in_place(node)
    node.world.fault("wrong-digest")
    node.containerd.remove(IMAGE)
    with pytest.raises(NodeError, match="commit digest sha256:"):
        node.containerd.pull(IMAGE)
    assert node.script("step").stdout.startswith("in-place: ")
    assert node.script("remove").returncode == 0
    wait.until(lambda: pulls(node), "it is pulled", timeout=30)


def test_strict_asks_the_proxy_alone(node: Node) -> None:
    done = node.script("once", MIRROR_STRICT="true")
    assert done.returncode == 0, done.stdout + done.stderr
    before = node.world.hub.connections
    assert node.pulled_through_the_proxy()
    node.world.fault("status", status=503)
    assert node.script("step", MIRROR_STRICT="true", MIRROR_FAILURES="1").stdout.startswith(
        "failing: "
    )
    node.containerd.remove(IMAGE)
    with pytest.raises(NodeError):
        node.containerd.pull(IMAGE, timeout=30)
    assert node.world.hub.connections == before


def test_a_new_password_reaches_the_node_without_a_restart(node: Node) -> None:
    in_place(node)
    password = f"Passw0rd-{len(node.world.passwords) + 1}"
    node.world.set_password(password)
    assert node.script("step").stdout.startswith("failing: ")
    (node.login / "password").write_text(password)
    assert node.script("step").stdout.startswith("in-place: ")
    assert node.pulled_through_the_proxy()
    assert node.containerd.restarts == 1


def test_the_login_is_in_a_private_file_and_nowhere_else(node: Node, tmp_path: Path) -> None:
    words = tmp_path / "words"
    done = node.script("once", **node.traced(tmp_path / "traced", words))
    assert done.returncode == 0, done.stdout + done.stderr
    assert node.hosts.stat().st_mode & 0o777 == 0o600
    shown = words.read_text() + done.stdout + done.stderr
    assert "curl" in shown
    assert node.world.passwords[-1] not in shown
    assert node.encoded_login() not in shown
    others = [
        each
        for each in node.config.parent.rglob("*")
        if each.is_file() and each != node.hosts and node.encoded_login() in each.read_text()
    ]
    assert others == []


def test_a_containerd_that_does_not_come_back_gets_its_config_back(node: Node) -> None:
    found = node.config.read_bytes()
    given = {"MIRROR_RESTART": "systemctl stop containerd", "MIRROR_RESTART_SECONDS": "1"}
    done = node.script("once", **given)
    assert done.stdout.startswith("refused: containerd did not come up healthy")
    assert node.config.read_bytes() == found
    assert not node.hosts.exists()
    node.containerd.run(["systemctl", "restart", "containerd"])
    node.containerd.wait_ready()
    assert node.script("once").stdout.startswith("refused: containerd did not come up healthy")
    assert node.containerd.restarts == 1


@pytest.mark.parametrize("next_mode", ["once", "remove", "once while the proxy is down"])
def test_a_run_killed_before_containerd_has_its_own_config_again_is_made_good(
    node: Node, tmp_path: Path, next_mode: str
) -> None:
    found = node.config.read_bytes()
    tried = tmp_path / "tried"
    given = {
        "MIRROR_RESTART": f"[ -f {tried} ] && systemctl restart containerd ||"
        f" {{ touch {tried}; systemctl stop containerd; exit 1; }}"
    }
    words = tmp_path / "words"
    done = node.script("once", **given, **node.traced(tmp_path / "counted", words))
    assert done.stdout.startswith("refused: containerd did not come up healthy")
    commands = [line.split()[0] for line in words.read_text().splitlines()]
    node.containerd.reset(FRESH[node.version])
    tried.unlink()
    last = len(commands) - commands[::-1].index("systemctl")
    node.killed_at(tmp_path / "killed", last, "once", **given)
    assert node.config.read_bytes() == found
    with pytest.raises(NodeError):
        node.containerd.pull(IMAGE, timeout=1)
    mode, _, proxy_is_down = next_mode.partition(" ")
    if proxy_is_down:
        node.world.fault("refuse")
    node.script(mode)
    node.world.fault(None)
    assert node.config.read_bytes() == found
    node.containerd.pull(IMAGE)


def test_a_full_disk_breaks_nothing(node: Node) -> None:
    found = node.config.read_bytes()
    with node.small_disk() as fill:
        fill()
        done = node.script("once")
        assert done.returncode == 1
        assert done.stdout.startswith("refused: cannot write")
        assert node.config.read_bytes() == found
        assert not node.hosts.exists()


@pytest.mark.parametrize("mode", ["once", "remove"])
@pytest.mark.parametrize("containerd", ["1.6", "2.4"], indirect=True)  # 1.7 takes 1.6's steps
def test_a_killed_run_leaves_a_working_node_and_the_next_one_repairs_it(
    node: Node, tmp_path: Path, mode: str
) -> None:
    node.containerd.reset(FRESH[node.version], OWN)
    found = node.tree()
    given = {"MIRROR_RESTART": "true"}
    steps = node.count_steps(tmp_path, mode, **given)
    assert steps > 5
    configs = {node.config.read_bytes()}
    assert node.script("once", **given).returncode == 0
    wanted, hosts = node.config.read_bytes(), node.hosts.read_bytes()
    configs.add(wanted)
    assert node.script("remove", **given).returncode == 0
    for at in range(1, steps + 1):
        if mode == "remove":
            assert node.script("once", **given).returncode == 0
        node.killed_at(tmp_path / str(at), at, mode, **given)
        assert node.config.read_bytes() in configs
        assert node.hosts.read_bytes() in (hosts, OWN_HOSTS.encode())
        assert node.containerd.run(["containerd", "config", "dump"]).returncode == 0
        if mode == "once":
            assert node.script("once", **given).returncode == 0
            assert (node.config.read_bytes(), node.hosts.read_bytes()) == (wanted, hosts)
        assert node.script("remove", **given).returncode == 0
        assert node.tree() == found, f"killed at step {at} of {steps}"


def test_no_pull_bypasses_the_proxy_or_fails_while_the_file_is_rewritten(
    node: Node, while_running: Callable[..., int]
) -> None:
    in_place(node)
    node.containerd.pull(IMAGE)
    before, records = node.world.hub.connections, len(node.world.records())
    ca = str(node.world.ca_certificate)

    def rewrite(turn: int) -> None:
        done = node.script("once", MIRROR_CA_FILE=ca if turn % 2 else "")
        assert done.returncode == 0, done.stdout

    pulls = while_running(rewrite, 50, lambda: node.containerd.pull(IMAGE), 200)
    assert pulls >= 200
    assert node.world.hub.connections == before
    assert len(node.world.records()) - records >= 200
