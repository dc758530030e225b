"""NodeMirror under mocks: what it registers, what its Pods may do, and where the login is."""

from __future__ import annotations

import base64
import datetime as dt
import json
import os
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from components import PACKAGE
from components.labels import LABELS
from components.node_mirror import NODE_POOL_BYTES, SCRIPTS, packed, pem, stripped
from rehearsal.deploy.embedded import Secret, run
from rehearsal.deploy.stack_file import StackConfig
from tests.support.recorder import Cloud, Monitor, Recording

DAEMON_SET = "kubernetes:apps/v1:DaemonSet"
SECRET = "kubernetes:core/v1:Secret"
CONFIG_MAP = "kubernetes:core/v1:ConfigMap"
ROLE = "kubernetes:rbac.authorization.k8s.io/v1:Role"
PASSWORD = "login-password-1"
ENCODED = base64.b64encode(f"user@1:{PASSWORD}".encode()).decode()
LOGIN: dict[str, Any] = {"password": PASSWORD}
USUAL: dict[str, Any] = {
    "restart_command": "systemctl restart containerd",
    "interval_seconds": 30,
    "restart_window_seconds": 300,
    "max_unavailable": 1,
}
"""What the settings say where a stack says nothing."""
PROGRAM = """\
import json
import pulumi
from components.node_mirror import NodeMirror, NodeMirrorArgs
from components.types import Access, Proxy, ProxyLogin
inputs = json.loads({inputs!r})
proxies = [
    Proxy(host=host, domain=domain, namespaces={{"library": Access(access)}})
    for host, domain, access in inputs.pop("proxies", [["docker.io", "hub.example", "Public"]])
]
username, password = inputs.pop("username", "user@1"), inputs.pop("password", None)
logins = {{
    each.host: ProxyLogin(username=username, password=pulumi.Output.secret(password))
    for each in proxies
    if password
}}
mirror = NodeMirror(
    "apps",
    NodeMirrorArgs(
        proxies=proxies, logins=logins, image="hub.example/library/busybox:1.37", **inputs
    ),
)
pulumi.export("daemon_set", mirror.daemon_set)
pulumi.export("node_pool_script", mirror.node_pool_script)
pulumi.export("registry_proxy_configs", mirror.registry_proxy_configs)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "Pulumi.yaml").write_text("name: test\nruntime: python\nconfig: {}\n")
    return tmp_path


def declare(folder: Path, *, preview: bool = False, **inputs: Any) -> Recording:
    """Declare one NodeMirror under mocks."""
    (folder / "__main__.py").write_text(PROGRAM.format(inputs=json.dumps({**USUAL, **inputs})))
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


def proxies_of(recording: Recording) -> list[str]:
    """What the Pods know of hosts, their proxies, and where the login is."""
    environment = {each["name"]: each.get("value") for each in container_of(recording)["env"]}
    return str(environment["POD_PROXIES"]).splitlines()


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
    assert recording.registered_outputs["NodeMirror", "apps"] == {
        "daemon_set",
        "node_pool_script",
        "registry_proxy_configs",
    }


def test_a_preview_shows_every_resource(folder: Path) -> None:
    names = {each.name for each in declare(folder, **LOGIN).resources}
    assert {each.name for each in declare(folder, preview=True, **LOGIN).resources} == names


def test_there_is_no_secret_where_every_namespace_is_public(folder: Path) -> None:
    recording = declare(folder)
    assert recording.of_type(SECRET) == []
    pod = pod_of(recording)
    assert pod["imagePullSecrets"] == []
    assert [each for each in pod["volumes"] if "secret" in each] == []
    assert proxies_of(recording) == [
        "docker.io hub.example -",
        "registry-1.docker.io hub.example -",
        "registry.hub.docker.com hub.example -",
    ]


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


def test_its_account_may_read_its_own_daemon_set_and_nothing_else(folder: Path) -> None:
    recording = declare(folder)
    assert recording.one(ROLE).inputs["rules"] == [
        {
            "apiGroups": ["apps"],
            "resources": ["daemonsets"],
            "resourceNames": ["node-mirror"],
            "verbs": ["get"],
        },
    ]
    assert not [each for each in recording.resources if "ClusterRole" in each.type]


@pytest.mark.parametrize("most", [1, 3, "10%"])
def test_an_update_changes_so_many_nodes_at_a_time(folder: Path, most: int | str) -> None:
    recording = declare(folder, max_unavailable=most)
    spec = recording.one(DAEMON_SET).inputs["spec"]
    assert spec["updateStrategy"]["rollingUpdate"]["maxUnavailable"] == most
    probe = container_of(recording)["readinessProbe"]
    assert probe["exec"]["command"] == ["sh", "/script/pod.sh", "ready"]


NODE = {"kubernetes.io/os": "linux", "node.kubernetes.io/instance-type": "ecs.g3i.xlarge"}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param({}, True, id="an ordinary node"),
        pytest.param({"type": "gpu"}, True, id="another type"),
        pytest.param({"vke-dockerhub-proxy/node-mirror": "enabled"}, True, id="not left out"),
        pytest.param({"vke-dockerhub-proxy/node-mirror": "disabled"}, False, id="left out"),
        pytest.param({"type": "virtual-kubelet"}, False, id="virtual, by type"),
        pytest.param(
            {"node.kubernetes.io/instance-type": "virtual-node"}, False, id="virtual, by size"
        ),
        pytest.param({"vci.vke.volcengine.com/node-type": "vci"}, False, id="VCI"),
        pytest.param({"kubernetes.io/os": "windows"}, False, id="Windows"),
    ],
)
def test_every_node_with_a_containerd_has_a_pod_unless_it_is_left_out(
    folder: Path, labels: dict[str, str], expected: bool
) -> None:
    pod = pod_of(declare(folder))
    affinity = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    (term,) = affinity["nodeSelectorTerms"]
    node = {**NODE, **labels}
    assert {each["operator"] for each in term["matchExpressions"]} == {"NotIn"}
    wanted = all(node.get(key) == value for key, value in pod["nodeSelector"].items())
    unwanted = any(node.get(each["key"]) in each["values"] for each in term["matchExpressions"])
    assert (wanted and not unwanted) == expected
    assert pod["tolerations"] == [{"operator": "Exists"}]


@pytest.mark.parametrize("window", [0, 300, 3600])
def test_it_has_time_for_all_nodes_to_restart_in_turn_and_no_more_than_that(
    folder: Path, window: int
) -> None:
    recording = declare(folder, restart_window_seconds=window)
    assert pod_of(recording)["terminationGracePeriodSeconds"] == window + 180
    assert recording.one(DAEMON_SET).timeouts == ("", "", f"{window + 300}s")


def test_the_pods_start_without_the_proxy_once_a_node_has_their_image(folder: Path) -> None:
    assert container_of(declare(folder))["imagePullPolicy"] == "IfNotPresent"


def test_the_update_waits_by_a_hook_and_the_deletion_by_the_provider(folder: Path) -> None:
    daemon_set = declare(folder).one(DAEMON_SET)
    annotations = daemon_set.inputs["metadata"]["annotations"]
    assert annotations == {"pulumi.com/waitFor": "jsonpath={.status.observedGeneration}"}
    assert len(daemon_set.after_create) == len(daemon_set.after_update) == 1


def test_everything_it_makes_can_be_found_by_its_labels(folder: Path) -> None:
    recording = declare(folder, **LOGIN)
    for each in recording.resources:
        if each.custom:
            labels = each.inputs["metadata"]["labels"]
            assert {key: labels.get(key) for key in LABELS} == dict(LABELS), each.name


def test_further_registries_are_further_entries_with_a_login_each(folder: Path) -> None:
    proxies = [["docker.io", "hub.example", "Private"], ["ghcr.io", "ghcr.example", "Private"]]
    recording = declare(folder, proxies=proxies, **LOGIN)
    assert proxies_of(recording) == [
        "docker.io hub.example /login/docker.io",
        "registry-1.docker.io hub.example /login/docker.io",
        "registry.hub.docker.com hub.example /login/docker.io",
        "ghcr.io ghcr.example /login/ghcr.io",
    ]
    names = {each.inputs["metadata"]["name"] for each in recording.of_type(SECRET)}
    assert names == {"proxy-login", "proxy-login-ghcr.io"}
    mounts = {each["mountPath"] for each in container_of(recording)["volumeMounts"]}
    assert {"/login/docker.io", "/login/ghcr.io"} <= mounts


@pytest.mark.parametrize(
    ("access", "hosts"),
    [
        ("Public", ["docker.io", "registry-1.docker.io", "registry.hub.docker.com"]),
        ("Private", []),
    ],
)
def test_vkes_own_setting_has_the_proxies_that_need_no_login(
    folder: Path, access: str, hosts: list[str]
) -> None:
    recording = declare(folder, proxies=[["docker.io", "hub.example", access]])
    assert recording.outputs["registry_proxy_configs"] == [
        {"Registry": host, "ProxyEndpoints": ["https://hub.example"]} for host in hosts
    ]


def test_the_daemon_set_outlives_nothing_it_asks_when_it_ends(folder: Path) -> None:
    depends = set(declare(folder, **LOGIN).one(DAEMON_SET).depends_on)
    assert {"apps-role-binding", "apps-login", "apps-script"} <= depends


def test_the_config_map_has_the_scripts_as_they_are_in_the_project(folder: Path) -> None:
    recording = declare(folder, ca_certificate="-----BEGIN-----\n")
    data = recording.one(CONFIG_MAP).inputs["data"]
    assert data == {
        "node.sh": (SCRIPTS / "node.sh").read_text(),
        "pod.sh": (SCRIPTS / "pod.sh").read_text(),
        "ca.crt": "-----BEGIN-----\n",
    }
    assert recording.outputs["daemon_set"] == "dockerhub-proxy-nodes/node-mirror"


@pytest.mark.parametrize(
    ("inputs", "variable", "value"),
    [
        ({"strict": True}, "MIRROR_STRICT", "true"),
        ({}, "MIRROR_STRICT", None),
        ({"interval_seconds": 7}, "POD_INTERVAL", "7"),
        ({"restart_window_seconds": 8}, "POD_RESTART_WINDOW", "8"),
        ({"restart_command": "service containerd restart"}, "MIRROR_RESTART", None),
        ({}, "POD_IMAGE", "hub.example/library/busybox:1.37"),
        ({}, "POD_DAEMON_SET", "node-mirror"),
    ],
    ids=str,
)
def test_a_setting_reaches_the_scripts(
    folder: Path, inputs: dict[str, Any], variable: str, value: str | None
) -> None:
    environment = {
        each["name"]: each.get("value") for each in container_of(declare(folder, **inputs))["env"]
    }
    assert environment.get(variable) == (value or inputs.get("restart_command"))


def test_the_node_pool_script_is_secret_and_valid(folder: Path) -> None:
    output = declare(folder, **LOGIN).outputs["node_pool_script"]
    assert isinstance(output, Secret)
    text = output.value
    assert text.startswith("#!/bin/sh\n")
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0


@cache
def certificate(bits: int) -> str:
    """A company's root certificate, with what openssl gives one."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    words = ("CN", "Beijing", "Example Company Ltd", "Example Company Internal Root CA R1")
    kinds = (
        x509.NameOID.COUNTRY_NAME,
        x509.NameOID.STATE_OR_PROVINCE_NAME,
        x509.NameOID.ORGANIZATION_NAME,
        x509.NameOID.COMMON_NAME,
    )
    name = x509.Name([x509.NameAttribute(*each) for each in zip(kinds, words, strict=True)])
    public = key.public_key()
    uses = {"digital_signature", "key_cert_sign", "crl_sign"}
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_BEFORE + dt.timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**{each: each in uses for each in KEY_USES}), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )
    return signed.public_bytes(serialization.Encoding.PEM).decode()


KEY_USES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
NOT_BEFORE = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
HOSTS = ("ghcr.io", "quay.io", "registry.k8s.io", "gcr.io", "nvcr.io", "mcr.microsoft.com")
"""Of the proxies beside Docker Hub's."""


def proxies(upstreams: int) -> list[list[str]]:
    """Docker Hub's proxy and those of so many upstreams, with names as long as they are."""
    names = {"docker.io": "dockerhub", **{each: each.partition(".")[0] for each in HOSTS}}
    return [
        [host, f"{name}-production-cn-shanghai.cr.volces.com", "Private"]
        for host, name in list(names.items())[: upstreams + 1]
    ]


@pytest.mark.parametrize(
    ("bits", "upstreams"),
    [
        pytest.param(4096, 0, id="an authority of RSA-4096"),
        pytest.param(4096, 3, id="an authority of RSA-4096 and three upstreams"),
        pytest.param(2048, 6, id="an authority of RSA-2048 and six upstreams"),
        pytest.param(None, 6, id="six upstreams"),
    ],
)
@pytest.mark.parametrize("strict", [False, True], ids=["", "strict"])
def test_the_node_pool_script_fits_into_what_vke_takes_and_is_always_the_same(
    folder: Path, bits: int | None, upstreams: int, strict: bool
) -> None:
    inputs: dict[str, Any] = {
        "ca_certificate": f"Root CA\n{certificate(bits)}" if bits else None,
        "proxies": proxies(upstreams),
        "username": "registry-user@2100012345",
        "password": "Passw0rd-" * 3,
        "strict": strict,
    }
    text = declare(folder, **inputs).outputs["node_pool_script"].value
    assert len(base64.b64encode(text.encode())) <= NODE_POOL_BYTES
    assert declare(folder, **inputs).outputs["node_pool_script"].value == text


def test_the_node_pool_script_shows_itself_as_its_first_lines_say(folder: Path) -> None:
    text = declare(folder, **LOGIN).outputs["node_pool_script"].value
    shown = text.replace("| sh\n", "| cat\n")
    done = subprocess.run(["sh"], input=shown, capture_output=True, text=True, check=True)
    assert "with cat for the last sh" in text.splitlines()[1]
    assert stripped((SCRIPTS / "node.sh").read_text()) in done.stdout
    assert f"\ndocker.io hub.example {ENCODED}\n" in done.stdout


def test_a_certificate_that_is_too_long_for_a_node_pool_is_said(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", said.append)
    declare(folder, ca_certificate=certificate(2048) + certificate(4096))
    (warning,) = said
    assert "nodePoolScripts" in warning
    assert "nodeMirror.caCertificate" in warning


def test_the_node_pool_script_lacks_only_what_a_new_node_does_not_need() -> None:
    text = (SCRIPTS / "node.sh").read_text()
    kept = stripped(text)
    left = iter(line.strip() for line in text.splitlines())
    assert all(line in left for line in kept.splitlines())
    assert "remove() {" not in kept
    assert "put_back" not in kept
    assert "main apply" not in kept
    assert subprocess.run(["sh", "-n"], input=kept, text=True, check=False).returncode == 0


def test_turns_are_spread_over_the_window_evenly_and_are_always_the_same() -> None:
    functions, _, _ = (SCRIPTS / "pod.sh").read_text().rpartition("case ${1:-} in")
    names = "for i in $(seq 300); do spread 300 cn-beijing-192.168.0.$i; done"
    done = subprocess.run(
        ["sh", "-c", f"{functions}\n{names}", "sh"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "POD_PROXIES": ""},
    )
    turns = [int(each) for each in done.stdout.split()]
    per_minute = [sum(turn // 60 == minute for turn in turns) for minute in range(5)]
    assert sum(per_minute) == 300
    assert min(per_minute) > 30


def test_only_certificates_are_left_of_a_pem_file() -> None:
    one = "-----BEGIN CERTIFICATE-----\nAAA\n-----END CERTIFICATE-----"
    assert pem(f"subject=x\n{one}\ntext\n{one}\n") == f"{one}\n{one}"
    assert pem("") == ""


def test_the_node_pool_script_never_fails_the_start_of_a_node(tmp_path: Path) -> None:
    """As on a node whose containerd is not one: a stand-in, so that no real one is ever changed."""
    containerd = tmp_path / "containerd"
    containerd.write_text("#!/bin/sh\necho nothing to read\n")
    containerd.chmod(0o755)
    script = (SCRIPTS / "node.sh").read_text()
    done = subprocess.run(
        ["sh"],
        input=packed(script, {}, f"docker.io hub.example {ENCODED}"),
        text=True,
        capture_output=True,
        check=False,
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0
    assert done.stdout.startswith("refused: containerd 1.6 or later is needed")
    assert PASSWORD not in done.stdout + done.stderr
    assert ENCODED not in done.stdout + done.stderr
