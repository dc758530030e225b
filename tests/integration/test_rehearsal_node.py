"""The rehearsal with a real node: its default where the machine can have one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import pytest
import yaml
from kubernetes import client

from rehearsal import cli, wait
from rehearsal.cluster import chart
from rehearsal.cluster import node as real_node
from rehearsal.cluster.kyverno import ADMISSION
from rehearsal.cluster.node import Containerd, Network, cgroups
from rehearsal.deploy.stack import outputs_of
from rehearsal.parts.build import obtain
from rehearsal.progress import Progress
from rehearsal.running import by_containerd, records_of
from rehearsal.stage import CHART, Run, api_client
from tests.support.machine import Machine, need, processes_with
from tests.support.rehearsals import interrupted_at, ran, rehearsal, run_of, up_interrupted_at


@pytest.fixture
def machine() -> Machine:
    """This machine before the test, if it can have a real node."""
    need(real_node.supported())
    return Machine()


@pytest.fixture(scope="class")
def deployed() -> Iterator[Run]:
    """The stack on a rehearsal whose real node has containerd 2.4."""
    need(real_node.supported())
    before = Machine()
    run = run_of(rehearsal("up", "--containerd=2.4"))
    try:
        rehearsal("deploy", "--runner", "embedded", folder=run.folder)
        yield run
    finally:
        rehearsal("down", folder=run.folder)
    assert Machine().changes_since(before) == {}


def shows_the_three_ways(said: str, agent: str) -> None:
    for way, repository in (
        ("domain", "library/nginx"),
        ("admission", "library/nginx"),
        ("nodes", "library/nginx"),
        ("admission, ghcr.io", "stefanprodan/podinfo"),
        ("Kyverno's own", "kyverno/kyverno"),
    ):
        shown = said.partition(f"\n{way}: ")[2].partition("\n\n")[0]
        assert "is Ready on the real node after" in shown
        assert f"GET /v2/{repository}/blobs/" in shown
        assert agent in shown


class TestWithContainerd24:
    def test_it_shows_the_three_ways(self, deployed: Run) -> None:
        shows_the_three_ways(ran("prove", folder=deployed.folder).stderr, "containerd/2.4.")

    def test_every_image_of_kyvernos_release_is_pulled_through_the_proxy_with_no_other_way_out(
        self, deployed: Run
    ) -> None:
        """Those of its hook Jobs too, by the names that the deployed release has."""
        run = deployed
        domain = outputs_of(run)["domains"]["ghcr.io"]
        helm = obtain(("helm",), Progress())["helm"]
        images = sorted(_images_of_the_release(run, helm))
        assert images == [
            f"{domain}/{each.removeprefix('ghcr.io/')}" for each in chart.images(helm, CHART)
        ]
        assert run.node is not None
        behind = [str(urlsplit(url).hostname) for url in run.upstreams.values()]
        with real_node.cut_off(run.node, behind):
            _pull_all(run, images)
        pulled = {
            each.path
            for each in by_containerd(records_of(run, domain))
            if (each.method, each.status) == ("GET", 200)
        }
        for image in images:
            repository = image.removeprefix(f"{domain}/").partition(":")[0]
            assert any(each.startswith(f"/v2/{repository}/manifests/") for each in pulled), image


def _images_of_the_release(run: Run, helm: Path) -> set[str]:
    """What the manifests and hooks of the release that Helm deployed name."""
    texts = [
        subprocess.run(
            [helm, "get", what, "kyverno", "--namespace=kyverno"],
            env={**os.environ, "KUBECONFIG": str(run.kubeconfig), "HOME": str(run.folder)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for what in ("manifest", "hooks")
    ]
    return {
        image
        for text in texts
        for manifest in yaml.load_all(text, Loader=yaml.CSafeLoader)
        for image in chart.images_in(manifest)
    }


def _pull_all(run: Run, images: Sequence[str]) -> None:
    """Run a Pod of Kyverno's namespace on the real node, one container an image after the other.

    It has the login that the release's own Pods have.
    """
    api = client.CoreV1Api(api_client(run))
    deployments = client.AppsV1Api(api_client(run))
    controller: Any = deployments.read_namespaced_deployment(ADMISSION.deployment, "kyverno")
    secrets = controller.spec.template.spec.image_pull_secrets
    containers = [
        {"name": f"c{at}", "image": image, "command": ["true"], "imagePullPolicy": "Always"}
        for at, image in enumerate(images)
    ]
    pod: Any = {
        "metadata": {"name": "every-image"},
        "spec": {
            "nodeSelector": dict(real_node.LABELS),
            "tolerations": [{"operator": "Exists"}],
            "restartPolicy": "Never",
            "imagePullSecrets": [{"name": each.name} for each in secrets or []],
            "initContainers": containers[:-1],
            "containers": containers[-1:],
        },
    }
    api.create_namespaced_pod("kyverno", pod)

    def succeeded() -> bool:
        found: Any = api.read_namespaced_pod("every-image", "kyverno")
        statuses = [
            *(found.status.init_container_statuses or []),
            *(found.status.container_statuses or []),
        ]
        waiting = [each.state.waiting.reason for each in statuses if each.state.waiting]
        assert found.status.phase == "Succeeded", f"{found.status.phase} {waiting}"
        return True

    wait.until(succeeded, "every image has run", timeout=90, ignoring=AssertionError)


def test_a_rehearsal_shows_the_three_ways_on_a_real_node(machine: Machine) -> None:
    """With Debian's containerd, as nothing else was asked for."""
    done = ran("run", "--runner", "embedded")
    assert done.returncode == 0, done.stderr
    shows_the_three_ways(done.stderr, "containerd/1.6.")
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
    """Why no real node can be had, in an environment changed so."""
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
    done = ran(*words)
    assert done.returncode == 1
    assert "rehearsal: " in done.stderr
    assert reason in done.stderr
    assert "starting" not in done.stderr


def test_no_node_is_tried_where_none_is_wanted(reason: str) -> None:
    del reason
    assert cli._node(False, Containerd.V2_4, Progress()) is None
