"""What node.sh does to real containerd, proven by the proxy's access log."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rehearsal import wait
from rehearsal.cloud.registries.certificates import Authority
from tests.support.containerd import NodeError
from tests.support.node_stage import FRESH, HOSTS, IMAGE, PATCHES, STATE, Node

pytest_plugins = ("tests.support.volcengine_fixtures", "tests.support.node_fixtures")

OWN_HOSTS = 'server = "https://registry-1.docker.io"\n# by hand\n'
OWN = {"certs.d/docker.io/hosts.toml": OWN_HOSTS}


def in_place(node: Node) -> None:
    done = node.apply()
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("in-place: ")


def test_a_fresh_node_pulls_through_the_proxy_after_one_restart(node: Node) -> None:
    assert not node.pulled_through_the_proxy()
    in_place(node)
    before = node.world.asked_upstream()
    assert node.pulled_through_the_proxy()
    assert node.world.asked_upstream() == before
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
        pytest.param("version = 2\n[debug]\nlevel = 'info'", {}, id="no newline at the end"),
        pytest.param("version = 2\n\n# a\\nb: '\\t'\n\n\n", {}, id="backslashes and empty lines"),
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
    done = node.remove()
    assert done.returncode == 0, done.stdout + done.stderr
    assert node.tree() == found
    assert not node.pulled_through_the_proxy()


@pytest.mark.parametrize("name", ["config.toml", "certs.d/docker.io/hosts.toml"])
def test_removal_leaves_symbolic_links_and_what_they_lead_to_as_they_were(
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
    assert node.config.is_symlink() == (name == "config.toml")
    assert node.apply("").stdout == "in-place: no mirrors\n"
    assert (node.hosts.is_symlink(), node.hosts.read_text()) == (link == node.hosts, OWN_HOSTS)
    assert node.remove().returncode == 0
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
    note = node.containerd.root / "run/restarts"
    for _ in range(3):
        assert node.apply(MIRROR_RESTART="echo restart >>/run/restarts").returncode == 0
    assert note.read_text() == "restart\n"
    note.unlink()


def test_a_config_of_others_that_containerd_does_not_come_up_with_is_left_alone(
    node: Node,
) -> None:
    text = PATCHES[node.version].format(path="/etc/containerd/certs.d")
    node.config.write_text(text)
    note = node.containerd.root / "run/restarts"
    variables = {
        "MIRROR_RESTART": "echo restart >>/run/restarts; systemctl stop containerd",
        "MIRROR_RESTART_SECONDS": "1",
    }
    for _ in range(2):
        done = node.apply(**variables)
        assert done.stdout.startswith("refused: containerd did not come up healthy"), done.stdout
        node.containerd.socket.unlink(missing_ok=True)  # a containerd that ends by itself has none
    # Once with the config, once more since a containerd that is down helps nobody.
    assert note.read_text() == "restart\n" * 2
    note.unlink()
    assert node.config.read_text() == text
    assert not node.hosts.exists()


def test_a_conflicting_config_is_refused_with_its_reason(node: Node) -> None:
    config = FRESH[node.version] + PATCHES["mirrors " + node.version]
    node.containerd.reset(config)
    done = node.apply()
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
    done = node.apply(node.mirrors(ca=other.read_text()))
    assert done.stdout == f"waiting: {node.world.domain} answers 000\n"
    assert not node.hosts.exists()
    assert not node.pulled_through_the_proxy()


def test_the_right_certificate_authority_is_kept_on_the_node(node: Node) -> None:
    done = node.apply(node.mirrors(ca=node.world.ca_certificate.read_text()))
    assert done.returncode == 0, done.stdout
    assert 'ca = "/etc/containerd/dockerhub-mirror/ca.crt"' in node.hosts.read_text()
    assert node.pulled_through_the_proxy()


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param({"kind": "refuse"}, id="down"),
        pytest.param({"kind": "drop"}, id="dropped"),
        pytest.param({"kind": "status", "status": 403}, id="403"),
        pytest.param({"kind": "status", "status": 429}, id="429"),
        pytest.param({"kind": "status", "status": 503}, id="503"),
    ],
)
def test_nothing_is_written_while_the_proxy_fails(node: Node, fault: dict[str, Any]) -> None:
    found = node.tree()
    node.world.fault(**fault)
    done = node.apply()
    assert done.returncode == 1
    assert done.stdout == f"waiting: {node.world.domain} answers {fault.get('status', '000')}\n"
    node.remove()
    assert node.tree() == found
    assert node.containerd.restarts == 0


def test_a_host_that_is_no_longer_listed_has_its_own_hosts_file_again(node: Node) -> None:
    node.containerd.reset(FRESH[node.version], OWN)
    in_place(node)
    assert node.apply("").stdout == "in-place: no mirrors\n"
    assert node.hosts.read_text() == OWN_HOSTS
    assert not node.pulled_through_the_proxy()
    in_place(node)
    assert node.pulled_through_the_proxy()
    assert node.containerd.restarts == 1


@pytest.mark.parametrize("host", ["registry-1.docker.io", "index.docker.io"])
def test_docker_hubs_other_names_come_through_the_proxy_too(node: Node, host: str) -> None:
    in_place(node)
    assert node.pulled_through_the_proxy(f"{host}/library/nginx:latest")


@pytest.mark.parametrize("own", [OWN, {}], ids=["one was there", "none was there"])
def test_what_somebody_else_wrote_later_is_left_alone_and_outlives_removal(
    node: Node, own: dict[str, str]
) -> None:
    node.containerd.reset(FRESH[node.version], own)
    in_place(node)
    theirs = 'server = "https://registry-1.docker.io"\n[host."http://127.0.0.1:30020"]\n'
    node.hosts.write_text(theirs)
    for _ in range(2):
        done = node.apply()
        assert done.stdout.startswith("refused: somebody else wrote"), done.stdout
        assert "docker.io/hosts.toml" in done.stdout
        assert node.hosts.read_text() == theirs
    assert node.remove().returncode == 0
    assert node.hosts.read_text() == theirs
    assert "certs.d/registry-1.docker.io" not in node.tree()


def test_a_mirror_that_somebody_deleted_is_put_in_place_again(node: Node) -> None:
    in_place(node)
    node.hosts.unlink()
    in_place(node)
    assert node.pulled_through_the_proxy()


GPU = {
    "conf.d/99-nvidia.toml": """\
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd]
default_runtime_name = "nvidia"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
BinaryName = "/usr/bin/nvidia-container-runtime"
"""
}


def test_a_gpu_node_whose_drop_in_decides_keeps_its_runtime_and_pulls_through_the_proxy(
    node: Node,
) -> None:
    node.containerd.reset('version = 2\nimports = ["/etc/containerd/conf.d/*.toml"]\n', GPU)
    found = node.tree()
    in_place(node)
    assert node.pulled_through_the_proxy()
    dump = node.containerd.run(["containerd", "config", "dump"]).stdout
    assert "nvidia-container-runtime" in dump
    # The toolkit writes its file anew, and restarts containerd.
    (node.config.parent / "conf.d/99-nvidia.toml").write_text(GPU["conf.d/99-nvidia.toml"])
    node.containerd.run(["systemctl", "restart", "containerd"])
    node.containerd.wait_ready()
    in_place(node)
    assert node.pulled_through_the_proxy()
    assert node.remove().returncode == 0
    assert node.tree() == found


def test_what_somebody_changed_in_the_config_meanwhile_stays_on_removal(node: Node) -> None:
    in_place(node)
    node.config.write_text(f"{node.config.read_text()}[debug]\n  level = 'info'\n")
    assert node.remove().returncode == 0
    assert node.config.read_text() == f"{FRESH[node.version]}[debug]\n  level = 'info'\n"


@pytest.mark.parametrize(
    "unit",
    [
        pytest.param("HTTPS_PROXY=http://127.0.0.1:9", id="one that is not there"),
        pytest.param('"HTTPS_PROXY=http://127.0.0.1:9" NO_PROXY=localhost,10.0.0.0/8', id="quoted"),
    ],
)
def test_a_proxy_that_containerd_cannot_reach_is_no_mirror(node: Node, unit: str) -> None:
    environment = node.containerd.environment
    environment.write_text(unit)
    try:
        assert node.apply().stdout.startswith("waiting: ")
        assert not node.hosts.exists()
        environment.write_text(f"{unit} NO_PROXY=localhost,{node.world.domain}")
        in_place(node)
    finally:
        environment.unlink()


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
    in_place(node)
    assert node.remove().returncode == 0
    wait.until(lambda: pulls(node), "it is pulled", timeout=30)


def test_strict_asks_the_proxy_alone(node: Node) -> None:
    done = node.apply(MIRROR_STRICT="true")
    assert done.returncode == 0, done.stdout + done.stderr
    before = node.world.asked_upstream()
    assert node.pulled_through_the_proxy()
    node.world.fault("status", status=503)
    for image in (IMAGE, "registry-1.docker.io/library/nginx:latest"):
        node.containerd.remove(image)
        with pytest.raises(NodeError):
            node.containerd.pull(image, timeout=30)
    assert node.world.asked_upstream() == before


def test_a_new_password_reaches_the_node_without_a_restart(node: Node) -> None:
    in_place(node)
    password = f"Passw0rd-{len(node.world.passwords) + 1}"
    node.world.set_password(password)
    (node.login / "password").write_text(password)
    assert node.apply(node.mirrors(kind="basic")).stdout.startswith("in-place: ")
    assert node.pulled_through_the_proxy()
    assert node.containerd.restarts == 1


def test_the_login_is_in_a_private_file_and_nowhere_else(node: Node, tmp_path: Path) -> None:
    words = tmp_path / "words"
    done = node.apply(**node.traced(tmp_path / "traced", words))
    assert done.returncode == 0, done.stdout + done.stderr
    shown = words.read_text() + done.stdout + done.stderr
    assert "curl" in shown
    assert node.world.passwords[-1] not in shown
    assert node.encoded_login() not in shown
    holding = [
        each
        for each in node.config.parent.rglob("*")
        if each.is_file() and node.encoded_login() in each.read_text()
    ]
    assert {each.parent.name for each in holding} == set(HOSTS)
    assert {each.stat().st_mode & 0o777 for each in holding} == {0o600}


def test_a_containerd_that_does_not_come_back_gets_its_config_back(node: Node) -> None:
    found = node.config.read_bytes()
    variables = {"MIRROR_RESTART": "systemctl stop containerd", "MIRROR_RESTART_SECONDS": "1"}
    done = node.apply(**variables)
    assert done.stdout.startswith("refused: containerd did not come up healthy")
    assert node.config.read_bytes() == found
    assert not node.hosts.exists()
    node.containerd.run(["systemctl", "restart", "containerd"])
    node.containerd.wait_ready()
    assert node.apply().stdout.startswith("refused: containerd did not come up healthy")
    assert node.containerd.restarts == 1


@pytest.mark.parametrize("next_mode", ["apply", "remove", "apply while the proxy is down"])
def test_a_run_killed_before_containerd_has_its_own_config_again_is_made_good(
    node: Node, tmp_path: Path, next_mode: str
) -> None:
    found = node.config.read_bytes()
    tried = tmp_path / "tried"
    variables = {
        "MIRROR_RESTART": f"[ -f {tried} ] && systemctl restart containerd ||"
        f" {{ touch {tried}; systemctl stop containerd; exit 1; }}"
    }
    words = tmp_path / "words"
    done = node.apply(**variables, **node.traced(tmp_path / "counted", words))
    assert done.stdout.startswith("refused: containerd did not come up healthy")
    commands = [line.split()[0] for line in words.read_text().splitlines()]
    node.containerd.reset(FRESH[node.version])
    tried.unlink()
    last = len(commands) - commands[::-1].index("systemctl")
    node.killed_at(tmp_path / "killed", last, "apply", **variables)
    assert node.config.read_bytes() == found
    with pytest.raises(NodeError):
        node.containerd.pull(IMAGE, timeout=1)
    mode, _, proxy_is_down = next_mode.partition(" ")
    if proxy_is_down:
        node.world.fault("refuse")
    node.remove() if mode == "remove" else node.apply()
    node.world.fault(None)
    assert node.config.read_bytes() == found
    node.containerd.pull(IMAGE)


def test_a_full_disk_breaks_nothing(node: Node) -> None:
    found = node.config.read_bytes()
    with node.small_disk() as fill:
        fill()
        done = node.apply()
        assert done.returncode == 1
        assert done.stdout.startswith("refused: cannot ")
        assert node.config.read_bytes() == found
        assert not node.hosts.exists()


@pytest.mark.parametrize("mode", ["apply", "remove"])
def test_a_killed_run_leaves_a_working_node_and_the_next_one_repairs_it(
    node: Node, tmp_path: Path, mode: str
) -> None:
    node.containerd.reset(FRESH[node.version], OWN)
    found = node.tree()
    variables = {"MIRROR_RESTART": "true"}
    steps = node.count_steps(tmp_path, mode, **variables)
    assert steps > 5
    configs = {node.config.read_bytes()}
    assert node.apply(**variables).returncode == 0
    wanted, hosts = node.config.read_bytes(), node.hosts.read_bytes()
    configs.add(wanted)
    assert node.remove(**variables).returncode == 0
    for at in range(1, steps + 1):
        if mode == "remove":
            assert node.apply(**variables).returncode == 0
        node.killed_at(tmp_path / str(at), at, mode, **variables)
        assert node.config.read_bytes() in configs
        assert node.hosts.read_bytes() in (hosts, OWN_HOSTS.encode())
        assert node.containerd.run(["containerd", "config", "dump"]).returncode == 0
        if mode == "apply":
            assert node.apply(**variables).returncode == 0
            assert (node.config.read_bytes(), node.hosts.read_bytes()) == (wanted, hosts)
        assert node.remove(**variables).returncode == 0
        assert node.tree() == found, f"killed at step {at} of {steps}"


def test_no_pull_bypasses_the_proxy_or_fails_while_the_file_is_rewritten(
    node: Node, while_running: Callable[..., int]
) -> None:
    in_place(node)
    node.containerd.pull(IMAGE)
    before, records = node.world.asked_upstream(), len(node.world.records())
    ca = node.world.ca_certificate.read_text()

    def rewrite(turn: int) -> None:
        done = node.apply(node.mirrors(ca=ca if turn % 2 else ""))
        assert done.returncode == 0, done.stdout

    pulls = while_running(rewrite, 50, lambda: node.containerd.pull(IMAGE), 200)
    assert pulls >= 200
    assert node.world.asked_upstream() == before
    assert len(node.world.records()) - records >= 200


def test_a_run_that_may_not_restart_containerd_stops_before_anything_changes(node: Node) -> None:
    config = node.config.read_bytes()
    done = node.apply(MIRROR_MAY_RESTART="false")
    assert done.returncode == 1
    assert done.stdout.startswith("restart-needed: /etc/containerd/config.toml")
    assert node.config.read_bytes() == config
    assert not node.hosts.exists()
    in_place(node)
    placed = node.tree()
    assert node.remove(MIRROR_MAY_RESTART="false").stdout.startswith("restart-needed: ")
    assert node.tree() == placed
    assert node.containerd.restarts == 1


def test_a_restart_that_is_due_waits_until_it_may_be_made(node: Node) -> None:
    in_place(node)
    (node.containerd.root / STATE / "restart").touch()
    assert node.apply(MIRROR_MAY_RESTART="false").stdout.startswith("restart-needed: ")
    assert node.containerd.restarts == 1
    in_place(node)
    assert node.containerd.restarts == 2
