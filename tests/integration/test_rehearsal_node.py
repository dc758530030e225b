"""The rehearsal with a real node: its default where the machine can have one."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from rehearsal import cli
from rehearsal.cluster import node as real_node
from rehearsal.cluster.node import Containerd, Network, cgroups
from rehearsal.locations import CHECKOUT
from rehearsal.progress import Progress
from tests.support.machine import Machine, need, processes_with
from tests.support.rehearsals import interrupted_at, rehearsal, run_of, up_interrupted_at


@pytest.fixture
def machine() -> Machine:
    """This machine before the test, if it can have a real node."""
    need(real_node.supported())
    return Machine()


@pytest.mark.parametrize(
    ("asked", "agent"),
    [
        pytest.param([], "containerd/1.6.", id="Debian's containerd"),
        pytest.param(["--containerd=2.4"], "containerd/2.4.", id="containerd 2.4"),
    ],
)
def test_a_rehearsal_shows_the_three_ways_on_a_real_node(
    asked: list[str], agent: str, machine: Machine
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rehearsal", "run", "--runner", "embedded", *asked],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    for way in ("domain", "admission", "nodes"):
        shown = done.stderr.partition(f"\n{way}: ")[2].partition("\n\n")[0]
        assert "is Ready on the real node after" in shown
        assert "GET /v2/library/nginx/blobs/" in shown
        assert agent in shown
    assert Machine().changes_since(machine) == {}


def test_two_rehearsals_with_real_nodes_at_once_do_not_meet(machine: Machine) -> None:
    with ThreadPoolExecutor(2) as pool:
        runs = [run_of(each) for each in pool.map(rehearsal, ["up", "up"])]
    try:
        inside = [each.node for each in runs]
        assert None not in inside
        assert len(set(inside)) == 2
        networks = [Network.load(each.folder / "real-node") for each in runs]
        subnets = {network.subnet for network in networks if network}
        assert len(subnets) == 2
        rehearsal("down", folder=runs[0].folder)
        assert [psutil.pid_exists(pid) for pid in inside if pid] == [False, True]
    finally:
        for each in runs:
            rehearsal("down", folder=each.folder)
    assert Machine().changes_since(machine) == {}


def test_ctrl_c_ends_a_real_node_that_is_starting(machine: Machine) -> None:
    folder = interrupted_at("starting a real node", "--node")
    network = Network.load(folder / "real-node")
    assert network is not None
    assert processes_with(str(folder)) == []
    assert not cgroups.found(f"vke-rehearsal-{network.name}")
    rehearsal("down", folder=folder)
    assert Machine().changes_since(machine) == {}


def test_an_up_that_is_interrupted_ends_a_real_node_that_is_starting(machine: Machine) -> None:
    folder = up_interrupted_at("starting a real node", "--node")
    assert processes_with(str(folder)) == []
    assert not folder.exists()
    assert Machine().changes_since(machine) == {}


def no_apt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH that has what a node needs, but not apt-get."""
    for tool in ("unshare", "mount", "ip", "dpkg-deb", "sh"):
        (folder / tool).symlink_to(Path("/bin/sh"))
    monkeypatch.setenv("PATH", str(folder))


def no_lists(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An apt-get that was never updated and has no network."""
    settings = folder / "apt.conf"
    settings.write_text(f'Dir::State::lists "{folder}/lists";\n')
    monkeypatch.setenv("APT_CONFIG", str(settings))


@pytest.fixture(
    params=[
        pytest.param((no_apt, "apt-get on PATH"), id="no apt-get"),
        pytest.param((no_lists, "try `apt-get update`"), id="no package lists"),
    ]
)
def reason(
    request: pytest.FixtureRequest,
    machine: Machine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Why no real node can be had, in an environment made so."""
    del machine
    change, expected = request.param
    change(tmp_path, monkeypatch)
    return str(expected)


def test_where_no_real_node_can_be_had_the_rehearsal_says_so_and_goes_on(
    reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli._node(None, None, Progress()) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rehearsal: no real node, only kwok's: ")
    assert reason in line


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("run", "--node"), id="run"),
        pytest.param(("up", "--node"), id="up"),
        pytest.param(("up", "--containerd=1.6"), id="a version"),
    ],
)
def test_where_no_real_node_can_be_had_asking_for_one_is_an_error(
    reason: str, words: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rehearsal", *words],
        cwd=CHECKOUT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "rehearsal: " in done.stderr
    assert reason in done.stderr
    assert "starting" not in done.stderr


def test_no_node_is_tried_where_none_is_wanted(reason: str) -> None:
    del reason
    assert cli._node(False, Containerd.V2_4, Progress()) is None
