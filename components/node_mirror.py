"""NodeMirror: the proxy as containerd's docker.io mirror, on every node of a cluster."""

from __future__ import annotations

import base64
import gzip
import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.inputs import inputs
from components.labels import NODES_NAMESPACE
from components.pull_check import docker_config

DAEMON_SET = "node-mirror"
"""The DaemonSet's name."""
LEASE = "node-mirror-restart"
"""The Lease that a Pod holds while its node's containerd is restarted; Pods make it themselves."""
GRACE_SECONDS = 600
"""How long a Pod may take to end; seconds. Two thirds of it are for waiting for the Lease."""
SCRIPT = Path(__file__).resolve().parent.parent / "nodes" / "node-mirror.sh"
"""The one script that changes nodes; `nodes/README.md` says how and why."""

_LOGIN = "proxy-login"
_HOST = "/host"
_CONFIG_FOLDER = "/etc/containerd"


@dataclass(frozen=True, kw_only=True)
class NodeMirrorArgs:
    """What nodes pull Docker Hub images through, and with what patience."""

    domain: pulumi.Input[str]
    """The proxy's domain."""
    image: pulumi.Input[str]
    """The image the DaemonSet's Pods run: a busybox, or another with sh, chroot and nslookup."""
    username: pulumi.Input[str] | None = None
    """The registry user's name, if there are private namespaces."""
    password: pulumi.Input[str] | None = None
    """The registry user's password; secret."""
    strict: bool = False
    """Whether Docker Hub itself is no longer asked when the proxy fails."""
    ca_certificate: pulumi.Input[str] | None = None
    """The authority that signed the proxy's certificate, PEM, if nodes do not trust it already."""
    restart_command: str = "systemctl restart containerd"
    """How containerd is restarted on a node, where its config.toml has to be changed."""
    interval_seconds: int = 10
    """Time between two looks at the node and the proxy; seconds."""
    probe_seconds: int = 5
    """How long the proxy may take to answer; seconds."""
    failures_to_withdraw: int = 3
    """How many times in a row the proxy must fail before nodes stop asking it."""
    successes_to_restore: int = 3
    """How many times in a row it must answer before they ask it again."""
    privileged: bool = False
    """Whether Pods run privileged, for nodes whose confinement keeps them from systemd."""


class NodeMirror(pulumi.ComponentResource):
    """A DaemonSet that makes the proxy every node's docker.io mirror, and keeps it so.

    A Pod is ready while its node pulls through the proxy; the readiness event has the reason when
    it does not. Deleting the DaemonSet puts every node back as it was found.
    """

    daemon_set: pulumi.Output[str]
    """The DaemonSet's name, `<namespace>/<name>`, known once it is rolled out."""
    node_pool_script: pulumi.Output[str]
    """The script for a VKE node pool's `initialize_script`, before its base64; secret."""

    def __init__(
        self, name: str, args: NodeMirrorArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:NodeMirror", name, inputs(args), opts)
        options = pulumi.ResourceOptions(parent=self, delete_before_replace=True)
        script = SCRIPT.read_text()
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={
                "name": NODES_NAMESPACE,
                "labels": {"pod-security.kubernetes.io/enforce": "privileged"},
            },
            opts=options,
        )
        files = kubernetes.core.v1.ConfigMap(
            f"{name}-script",
            metadata={
                "name": f"node-mirror-{hashlib.sha256(script.encode()).hexdigest()[:10]}",
                "namespace": namespace.metadata.name,
            },
            data={
                "node-mirror.sh": script,
                **({"ca.crt": args.ca_certificate} if args.ca_certificate is not None else {}),
            },
            # A changed script is a new name: Pods of before keep theirs until they are replaced.
            opts=pulumi.ResourceOptions(parent=self),
        )
        login = self._login(name, args, namespace, options)
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-account",
            metadata={"name": DAEMON_SET, "namespace": namespace.metadata.name},
            automount_service_account_token=False,
            opts=options,
        )
        role = kubernetes.rbac.v1.Role(
            f"{name}-role",
            metadata={"name": DAEMON_SET, "namespace": namespace.metadata.name},
            rules=role_rules(),
            opts=options,
        )
        binding = kubernetes.rbac.v1.RoleBinding(
            f"{name}-role-binding",
            metadata={"name": DAEMON_SET, "namespace": namespace.metadata.name},
            role_ref={
                "api_group": "rbac.authorization.k8s.io",
                "kind": "Role",
                "name": role.metadata.name,
            },
            subjects=[
                {
                    "kind": "ServiceAccount",
                    "name": account.metadata.name,
                    "namespace": namespace.metadata.name,
                }
            ],
            opts=options,
        )
        daemon_set = kubernetes.apps.v1.DaemonSet(
            f"{name}-daemon-set",
            metadata={"name": DAEMON_SET, "namespace": namespace.metadata.name},
            spec=daemon_set_spec(args, script=files.metadata.name, account=account.metadata.name),
            # A Pod that ends must still be allowed to ask whether its DaemonSet is going, and to
            # take the Lease. Nodes that restart containerd one by one take longer than 10 minutes.
            opts=pulumi.ResourceOptions.merge(
                options,
                pulumi.ResourceOptions(
                    depends_on=[binding, *([login] if login else [])],
                    custom_timeouts=pulumi.CustomTimeouts(create="30m", update="30m", delete="15m"),
                ),
            ),
        )
        self.daemon_set = daemon_set.metadata.apply(
            lambda metadata: f"{metadata.namespace}/{metadata.name}"
        )
        self.node_pool_script = node_pool_script(args, script)
        self.register_outputs(
            {"daemon_set": self.daemon_set, "node_pool_script": self.node_pool_script}
        )

    @staticmethod
    def _login(
        name: str,
        args: NodeMirrorArgs,
        namespace: kubernetes.core.v1.Namespace,
        options: pulumi.ResourceOptions,
    ) -> kubernetes.core.v1.Secret | None:
        """The login, for the script and for the kubelet that pulls the Pods' own image."""
        if args.username is None or args.password is None:
            return None
        return kubernetes.core.v1.Secret(
            f"{name}-login",
            metadata={"name": _LOGIN, "namespace": namespace.metadata.name},
            type="kubernetes.io/dockerconfigjson",
            string_data={
                ".dockerconfigjson": docker_config(args.domain, args.username, args.password),
                "username": pulumi.Output.secret(args.username),
                "password": pulumi.Output.secret(args.password),
            },
            opts=options,
        )


_LABELS = {"app.kubernetes.io/name": DAEMON_SET}


def settings(args: NodeMirrorArgs) -> dict[str, pulumi.Input[str]]:
    """The script's settings that a Pod and a node pool share, as environment variables."""
    return {
        "MIRROR_DOMAIN": args.domain,
        "MIRROR_STRICT": "true" if args.strict else "false",
        "MIRROR_RESTART": args.restart_command,
        "MIRROR_PROBE_SECONDS": str(args.probe_seconds),
        "MIRROR_PROBE_IMAGE": pulumi.Output.all(args.domain, args.image).apply(
            lambda given: probe_image(*given)
        ),
    }


def probe_image(domain: str, image: str) -> str:
    """The image that the proxy is asked for, as it names it; empty if it is another registry's."""
    return image.removeprefix(f"{domain}/") if image.startswith(f"{domain}/") else ""


def role_rules() -> list[Any]:
    """What the Pods may do, all of it in their own namespace.

    RBAC cannot limit `create` by name, since a new object's name is not in the request's path:
    https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources
    """
    leases = {"api_groups": ["coordination.k8s.io"], "resources": ["leases"]}
    return [
        {
            "api_groups": ["apps"],
            "resources": ["daemonsets"],
            "resource_names": [DAEMON_SET],
            "verbs": ["get"],
        },
        {**leases, "resource_names": [LEASE], "verbs": ["get", "patch"]},
        {**leases, "verbs": ["create"]},
    ]


def daemon_set_spec(
    args: NodeMirrorArgs, *, script: pulumi.Input[str], account: pulumi.Input[str]
) -> Any:
    """The DaemonSet's spec.

    An update replaces the Pod of one node at a time, and the next one once that is ready. Pods
    restart containerd on one node at a time in any case, also when they all start or end at once.
    """
    return {
        "selector": {"match_labels": _LABELS},
        "update_strategy": {"type": "RollingUpdate", "rolling_update": {"max_unavailable": 1}},
        "template": {
            "metadata": {"labels": _LABELS},
            "spec": pod(args, script=script, account=account),
        },
    }


def pod(
    args: NodeMirrorArgs, *, script: pulumi.Input[str], account: pulumi.Input[str]
) -> dict[str, Any]:
    """The Pods' spec.

    The node's root is mounted read-only: its containerd, ctr, curl and systemctl are run in it.
    Its /etc/containerd is mounted writable over that: config.toml, hosts.toml and what was there
    before. The capabilities are for chroot and for files to keep their owners.
    """
    has_login = args.username is not None and args.password is not None
    environment: dict[str, pulumi.Input[str]] = {
        **settings(args),
        "MIRROR_HOST_ROOT": _HOST,
        "MIRROR_DAEMON_SET": DAEMON_SET,
        "MIRROR_LEASE": LEASE,
        "MIRROR_GRACE_SECONDS": str(GRACE_SECONDS),
        "MIRROR_INTERVAL": str(args.interval_seconds),
        "MIRROR_FAILURES": str(args.failures_to_withdraw),
        "MIRROR_SUCCESSES": str(args.successes_to_restore),
        **({"MIRROR_LOGIN_DIR": "/login"} if has_login else {}),
        **({"MIRROR_CA_FILE": "/script/ca.crt"} if args.ca_certificate is not None else {}),
    }
    node_name = {"value_from": {"field_ref": {"field_path": "spec.nodeName"}}}
    mounts: list[dict[str, Any]] = [
        {"name": "node", "mount_path": _HOST, "read_only": True},
        {"name": "containerd-config", "mount_path": f"{_HOST}{_CONFIG_FOLDER}"},
        {"name": "script", "mount_path": "/script", "read_only": True},
        {"name": "status", "mount_path": "/run/node-mirror"},
    ]
    volumes: list[dict[str, Any]] = [
        {"name": "node", "host_path": {"path": "/", "type": "Directory"}},
        {
            "name": "containerd-config",
            "host_path": {"path": _CONFIG_FOLDER, "type": "DirectoryOrCreate"},
        },
        {"name": "script", "config_map": {"name": script}},
        {"name": "status", "empty_dir": {"medium": "Memory", "size_limit": "1Mi"}},
    ]
    if has_login:
        mounts.append({"name": "login", "mount_path": "/login", "read_only": True})
        volumes.append(
            {
                "name": "login",
                "secret": {
                    "secret_name": _LOGIN,
                    "default_mode": 0o400,
                    "items": [{"key": key, "path": key} for key in ("username", "password")],
                },
            }
        )
    command = ["sh", "/script/node-mirror.sh"]
    return {
        "service_account_name": account,
        "automount_service_account_token": True,
        "enable_service_links": False,
        "priority_class_name": "system-node-critical",
        # The node's own resolvers: the proxy must resolve as it does for containerd.
        "dns_policy": "Default",
        "tolerations": [{"operator": "Exists"}],
        "node_selector": {"kubernetes.io/os": "linux"},
        "termination_grace_period_seconds": GRACE_SECONDS,
        "image_pull_secrets": [{"name": _LOGIN}] if has_login else [],
        "volumes": volumes,
        "containers": [
            {
                "name": DAEMON_SET,
                "image": args.image,
                "command": [*command, "run"],
                "env": [
                    *({"name": name, "value": value} for name, value in environment.items()),
                    {"name": "MIRROR_NODE_NAME", **node_name},
                ],
                "readiness_probe": {
                    "exec_": {"command": [*command, "ready"]},
                    "period_seconds": args.interval_seconds,
                    "timeout_seconds": 5,
                    "failure_threshold": 1,
                },
                "resources": {
                    "requests": {"cpu": "10m", "memory": "32Mi"},
                    "limits": {"memory": "256Mi"},
                },
                "security_context": security(privileged=args.privileged),
                "volume_mounts": mounts,
            }
        ],
    }


def security(*, privileged: bool) -> dict[str, Any]:
    """The container's security context: root, since the node's files and systemd are root's."""
    if privileged:
        return {"run_as_user": 0, "privileged": True, "read_only_root_filesystem": True}
    return {
        "run_as_user": 0,
        "read_only_root_filesystem": True,
        "allow_privilege_escalation": False,
        "capabilities": {
            "drop": ["ALL"],
            "add": ["SYS_CHROOT", "DAC_OVERRIDE", "CHOWN", "FOWNER"],
        },
        "seccomp_profile": {"type": "RuntimeDefault"},
        "app_armor_profile": {"type": "Unconfined"},
        "se_linux_options": {"type": "spc_t"},
    }


def node_pool_script(args: NodeMirrorArgs, script: str) -> pulumi.Output[str]:
    """The script with its settings and login, for a new node to run once; secret.

    It never fails a node's start: a node on which it cannot work pulls as before.
    """
    has_login = args.username is not None and args.password is not None
    files = {
        "username": args.username if has_login else None,
        "password": args.password if has_login else None,
        "ca.crt": args.ca_certificate,
    }
    values: pulumi.Output[Any] = pulumi.Output.all(settings=settings(args), files=files)
    return pulumi.Output.secret(
        values.apply(lambda known: packed(script, known["settings"], known["files"]))
    )


_PACKED = """\
#!/bin/sh
packed='
{packed}'
folder=/run/node-mirror.given
(
umask 077
mkdir -p $folder && printf %s "$packed" | base64 -d | gzip -dc >$folder/run &&
  sh $folder/run $folder
)
rm -rf $folder
exit 0
"""


def packed(script: str, settings: Mapping[str, str], files: Mapping[str, str | None]) -> str:
    """The script with its settings and the files that they stand for, in one script.

    By gzip and base64, without comments: user data may have 16 KB, says
    https://www.volcengine.com/docs/6396/79337. The same input gives the same script.
    """
    lines = [f"export {key}={shlex.quote(value)}" for key, value in settings.items()]
    for file, content in files.items():
        if content is not None:
            encoded = base64.b64encode(content.encode()).decode()
            lines.append(f'printf %s {encoded} | base64 -d >"$1"/{file}')
    if files.get("password") is not None:
        lines.append('export MIRROR_LOGIN_DIR="$1"')
    if files.get("ca.crt") is not None:
        lines.append('export MIRROR_CA_FILE="$1"/ca.crt')
    text = "\n".join([*lines, "set -- once", without_comments(script)])
    return _PACKED.format(
        packed=base64.encodebytes(gzip.compress(text.encode(), mtime=0)).decode().strip()
    )


def without_comments(script: str) -> str:
    """A shell script without its empty lines and those that are comments as a whole.

    In its awk programs they are the same, and no text that it writes has such a line.
    """
    lines = (line for line in script.splitlines() if not line.lstrip().startswith("#"))
    return "\n".join(line for line in lines if line.strip()) + "\n"
