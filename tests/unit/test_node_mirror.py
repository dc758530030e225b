"""NodeMirror under mocks: what it registers, what its Pods may do, and where the login is."""

from __future__ import annotations

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from components import PACKAGE
from components.node_mirror import SCRIPT, probe_image, without_comments
from rehearsal.deploy.embedded import Secret, run
from rehearsal.deploy.stack_file import StackConfig
from tests.support.recorder import Cloud, Monitor, Recording

DAEMON_SET = "kubernetes:apps/v1:DaemonSet"
SECRET = "kubernetes:core/v1:Secret"
CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
ROLE = "kubernetes:rbac.authorization.k8s.io/v1:Role"
PASSWORD = "login-password-1"
ENCODED = base64.b64encode(f"user@1:{PASSWORD}".encode()).decode()
LOGIN: dict[str, Any] = {"username": "user@1", "password": PASSWORD}
PROGRAM = """\
import json
import pulumi
from components.node_mirror import NodeMirror, NodeMirrorArgs
given = json.loads({given!r})
if "password" in given:
    given["password"] = pulumi.Output.secret(given["password"])
mirror = NodeMirror(
    "apps",
    NodeMirrorArgs(domain="hub.example", image="hub.example/library/busybox:1.37", **given),
)
pulumi.export("daemon_set", mirror.daemon_set)
pulumi.export("node_pool_script", mirror.node_pool_script)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Pulumi.yaml").write_text("name: test\nruntime: python\nconfig: {}\n")
    return tmp_path


def declare(folder: Path, *, preview: bool = False, **given: Any) -> Recording:
    """Declare one NodeMirror under mocks."""
    (folder / "__main__.py").write_text(PROGRAM.format(given=json.dumps(given)))
    cloud = Cloud(unknown=preview)
    monitor = Monitor(cloud)
    config = StackConfig(values={}, secret_keys=frozenset())
    monitor.recording.outputs = run(folder, "test", config, cloud, preview=preview, monitor=monitor)
    return monitor.recording


def pod_of(recording: Recording) -> Any:
    return recording.one(DAEMON_SET).inputs["spec"]["template"]["spec"]


def container_of(recording: Recording) -> Any:
    (container,) = pod_of(recording)["containers"]
    return container


def test_it_is_a_daemon_set_with_what_it_needs_and_no_more(folder: Path) -> None:
    recording = declare(folder, **LOGIN)
    assert sorted(each.type for each in recording.resources) == [
        DAEMON_SET,
        CONFIG_MAP,
        "kubernetes:core/v1:Namespace",
        SECRET,
        "kubernetes:core/v1:ServiceAccount",
        ROLE,
        "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding",
        f"{PACKAGE}:index:NodeMirror",
    ]
    assert {each.parent for each in recording.resources if each.custom} == {"apps"}
    assert recording.registered_outputs["NodeMirror", "apps"] == {"daemon_set", "node_pool_script"}


def test_a_preview_shows_every_resource(folder: Path) -> None:
    names = {each.name for each in declare(folder, **LOGIN).resources}
    assert {each.name for each in declare(folder, preview=True, **LOGIN).resources} == names


def test_there_is_no_secret_where_every_namespace_is_public(folder: Path) -> None:
    recording = declare(folder)
    assert recording.of_type(SECRET) == []
    pod = pod_of(recording)
    assert pod["imagePullSecrets"] == []
    assert [each for each in pod["volumes"] if "secret" in each] == []
    assert "MIRROR_LOGIN_DIR" not in {each["name"] for each in container_of(recording)["env"]}


def test_the_login_is_in_the_secret_alone(folder: Path) -> None:
    recording = declare(folder, **LOGIN)
    secret = recording.one(SECRET).inputs["stringData"]
    assert (secret["username"], secret["password"]) == ("user@1", PASSWORD)
    others = [each for each in recording.resources if each.type not in {SECRET, "apps"}]
    text = json.dumps([each.inputs for each in others if each.custom])
    assert PASSWORD not in text
    assert ENCODED not in text


def test_the_login_in_the_secret_is_marked_secret(folder: Path) -> None:
    raw = declare(folder, **LOGIN).one(SECRET).raw
    mark = {"4dabf18193072939515e22adb298388d"}
    data = raw["stringData"]
    parts = data.values() if not mark & set(data) else [data]
    assert all(mark & set(each) for each in parts)


def test_its_pods_have_no_host_network_and_few_capabilities(folder: Path) -> None:
    recording = declare(folder)
    pod, container = pod_of(recording), container_of(recording)
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        assert key not in pod
    context = container["securityContext"]
    assert "privileged" not in context
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"] == {
        "drop": ["ALL"],
        "add": ["SYS_CHROOT", "DAC_OVERRIDE", "CHOWN", "FOWNER"],
    }


def test_only_the_containerd_config_of_a_node_is_mounted_writable(folder: Path) -> None:
    recording = declare(folder)
    paths = {
        each["name"]: each["hostPath"]["path"]
        for each in pod_of(recording)["volumes"]
        if "hostPath" in each
    }
    assert paths == {"node": "/", "containerd-config": "/etc/containerd"}
    writable = {
        each["mountPath"]
        for each in container_of(recording)["volumeMounts"]
        if each["name"] in paths and not each.get("readOnly")
    }
    assert writable == {"/host/etc/containerd"}


def test_its_account_may_read_its_own_daemon_set_hold_one_lease_and_nothing_else(
    folder: Path,
) -> None:
    recording = declare(folder)
    leases = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
    assert recording.one(ROLE).inputs["rules"] == [
        {
            "apiGroups": ["apps"],
            "resources": ["daemonsets"],
            "resourceNames": ["node-mirror"],
            "verbs": ["get"],
        },
        {**leases, "resourceNames": ["node-mirror-restart"], "verbs": ["get", "patch"]},
        {**leases, "verbs": ["create"]},
    ]
    assert not [each for each in recording.resources if "ClusterRole" in each.type]


def test_nodes_change_one_at_a_time_and_all_of_them(folder: Path) -> None:
    recording = declare(folder)
    spec = recording.one(DAEMON_SET).inputs["spec"]
    assert spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == 1
    assert pod_of(recording)["tolerations"] == [{"operator": "Exists"}]
    probe = container_of(recording)["readinessProbe"]
    assert probe["exec"]["command"] == ["sh", "/script/node-mirror.sh", "ready"]


def test_a_pod_knows_its_node_its_lease_and_how_long_it_may_take_to_end(folder: Path) -> None:
    recording = declare(folder)
    given = {each["name"]: each for each in container_of(recording)["env"]}
    assert given["MIRROR_NODE_NAME"]["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
    assert given["MIRROR_LEASE"]["value"] == "node-mirror-restart"
    grace = pod_of(recording)["terminationGracePeriodSeconds"]
    assert given["MIRROR_GRACE_SECONDS"]["value"] == str(int(grace))


def test_the_daemon_set_outlives_nothing_it_asks_when_it_ends(folder: Path) -> None:
    depends = set(declare(folder, **LOGIN).one(DAEMON_SET).depends_on)
    assert {"apps-role-binding", "apps-login", "apps-script"} <= depends


def test_the_config_map_has_the_script_as_it_is_in_the_project(folder: Path) -> None:
    recording = declare(folder, ca_certificate="-----BEGIN-----\n")
    data = recording.one(CONFIG_MAP).inputs["data"]
    assert data == {"node-mirror.sh": SCRIPT.read_text(), "ca.crt": "-----BEGIN-----\n"}
    assert recording.outputs["daemon_set"] == "dockerhub-proxy-nodes/node-mirror"


@pytest.mark.parametrize(
    ("given", "variable", "value"),
    [
        ({"strict": True}, "MIRROR_STRICT", "true"),
        ({}, "MIRROR_STRICT", "false"),
        ({"failures_to_withdraw": 7}, "MIRROR_FAILURES", "7"),
        ({"successes_to_restore": 8}, "MIRROR_SUCCESSES", "8"),
        ({"probe_seconds": 2}, "MIRROR_PROBE_SECONDS", "2"),
        ({"restart_command": "service containerd restart"}, "MIRROR_RESTART", None),
        ({}, "MIRROR_DOMAIN", "hub.example"),
        ({}, "MIRROR_PROBE_IMAGE", "library/busybox:1.37"),
    ],
    ids=str,
)
def test_a_setting_reaches_the_script(
    folder: Path, given: dict[str, Any], variable: str, value: str | None
) -> None:
    environment = {
        each["name"]: each.get("value") for each in container_of(declare(folder, **given))["env"]
    }
    assert environment[variable] == (value or given["restart_command"])


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param("hub.example/library/busybox:1.37", "library/busybox:1.37", id="tag"),
        pytest.param("hub.example/team/tool@sha256:0a", "team/tool@sha256:0a", id="digest"),
        pytest.param("ghcr.io/team/tool:1", "", id="elsewhere"),
        pytest.param("hub.example.org/team/tool:1", "", id="a longer domain"),
    ],
)
def test_the_proxy_is_asked_for_the_image_of_the_pods_if_it_has_it(
    image: str, expected: str
) -> None:
    assert probe_image("hub.example", image) == expected


def test_the_node_pool_script_is_secret_and_valid(folder: Path) -> None:
    output = declare(folder, **LOGIN).outputs["node_pool_script"]
    assert isinstance(output, Secret)
    text = output.value
    assert text.startswith("#!/bin/sh\n")
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0


def test_the_node_pool_script_fits_into_user_data_and_is_always_the_same(
    folder: Path,
) -> None:
    given = {**LOGIN, "ca_certificate": "-----BEGIN CERTIFICATE-----\n" + "A1b+/" * 400}
    text = declare(folder, **given).outputs["node_pool_script"].value
    assert len(text.encode()) <= 16 * 1024
    assert declare(folder, **given).outputs["node_pool_script"].value == text


def test_only_comments_and_empty_lines_are_left_out_of_the_node_pool_script() -> None:
    text = SCRIPT.read_text()
    kept = without_comments(text)
    left = iter(text.splitlines())
    assert all(line in left for line in kept.splitlines())
    gone = set(text.splitlines()) - set(kept.splitlines())
    assert {line.strip()[:1] for line in gone} == {"", "#"}
    assert subprocess.run(["sh", "-n"], input=kept, text=True, check=False).returncode == 0


def test_the_node_pool_script_never_fails_the_start_of_a_node(folder: Path) -> None:
    text = declare(folder, **LOGIN).outputs["node_pool_script"].value
    text = text.replace("/run/node-mirror.given", str(folder / "given"))
    done = subprocess.run(
        ["sh"],
        input=text,
        text=True,
        capture_output=True,
        check=False,
        env={
            "PATH": "/usr/bin:/bin",
            "MIRROR_STATE_DIR": str(folder / "state"),
            "MIRROR_CONTAINERD_CONFIG": str(folder / "config.toml"),
            "MIRROR_LOCK": str(folder / "lock"),
        },
    )
    assert done.returncode == 0
    assert done.stdout
    assert not done.stdout.startswith("in-place")
    assert not (folder / "given").exists()
    assert PASSWORD not in done.stdout + done.stderr
