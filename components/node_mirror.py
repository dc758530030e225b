"""NodeMirror: proxies as containerd's mirrors, on every node of a cluster."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.api_server import ApiServer
from components.inputs import NOT_RECORDED
from components.labels import LABELS, NODES_NAMESPACE
from components.node_roll_out import await_nodes
from components.pull_check import docker_config
from components.types import DOCKER_HUB, Access, Proxy, ProxyLogin, name_for

DAEMON_SET = "node-mirror"
"""The DaemonSet's name."""
EXCLUDE_LABEL = "vke-dockerhub-proxy/node-mirror"
"""The label that leaves a node out, by the value `disabled`."""
SCRIPTS = Path(__file__).resolve().parent.parent / "nodes"
"""The scripts that run on nodes and in the Pods; `README.md` there says how and why."""
NODE_POOL_BYTES = 8192
"""How long a node pool's script may be in base64 (NodePool of pulumi-volcenginecc 0.0.64)."""

_HOST = "/host"
_CONFIG_FOLDER = "/etc/containerd"
_DOCKER_HUB_HOSTS = (DOCKER_HUB, "registry-1.docker.io", "registry.hub.docker.com")
"""Docker Hub's names for containerd, which takes index.docker.io for docker.io itself."""
_VIRTUAL_NODES: Mapping[str, str] = {
    "type": "virtual-kubelet",
    "node.kubernetes.io/instance-type": "virtual-node",
    "vci.vke.volcengine.com/node-type": "vci",
}
"""Labels of VKE's virtual nodes (VCI), which have no containerd and take no DaemonSet's Pods."""


@dataclass(frozen=True, kw_only=True)
class NodeMirrorArgs:
    """What nodes pull through, and with what patience."""

    proxies: Sequence[Proxy]
    """The proxies, each of a registry of its own."""
    logins: Mapping[str, ProxyLogin] = field(default_factory=dict)
    """The logins of proxies with private namespaces, by the registry's host: `docker.io`."""
    image: pulumi.Input[str]
    """The image the DaemonSet's Pods run: a busybox, or another with sh, chroot and nslookup."""
    strict: bool = False
    """Whether the registries themselves are not asked for what a proxy does not give."""
    ca_certificate: pulumi.Input[str] | None = None
    """The authority that signed the proxies' certificates, PEM, if nodes do not trust it."""
    restart_command: str
    """How containerd is restarted on a node, where its config.toml has to be changed."""
    interval_seconds: int
    """Time between two looks at the node and the proxies; seconds."""
    restart_window_seconds: int
    """The time over which nodes that have to restart containerd at once spread it; seconds."""
    max_unavailable: int | str
    """How many nodes get an updated Pod at a time: a number, or a percentage such as `10%`."""
    privileged: bool = False
    """Whether Pods run privileged, for nodes whose confinement keeps them from systemd."""
    kubeconfig: pulumi.Input[str] = field(default="", metadata=NOT_RECORDED)
    """The cluster's kubeconfig, secret: by it the roll-out is looked at."""


class NodeMirror(pulumi.ComponentResource):
    """A DaemonSet that makes proxies every node's mirrors of their registries, and keeps it so.

    A Pod is ready while its node pulls through the proxies; the readiness event has the reason when
    it does not. An update waits until every node does, or names those that do not; the others are
    served all the same. Deleting the DaemonSet puts every node back as it was found.
    """

    daemon_set: pulumi.Output[str]
    """The DaemonSet's name, `<namespace>/<name>`, known once it is rolled out."""
    node_pool_script: pulumi.Output[str]
    """The script for a VKE node pool's `initialize_script`, before its base64; secret."""
    registry_proxy_configs: pulumi.Output[list[dict[str, Any]]]
    """VKE's own mirror setting for whoever owns a node pool, see registry_proxy_configs()."""

    def __init__(
        self, name: str, args: NodeMirrorArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:NodeMirror", name, None, opts)
        options = pulumi.ResourceOptions(parent=self, delete_before_replace=True)
        files = {each: (SCRIPTS / each).read_text() for each in ("node.sh", "pod.sh")}
        namespace = kubernetes.core.v1.Namespace(
            f"{name}-namespace",
            metadata={
                "name": NODES_NAMESPACE,
                "labels": {**LABELS, "pod-security.kubernetes.io/enforce": "privileged"},
            },
            opts=options,
        )

        def metadata(object_name: str) -> Any:
            return {
                "name": object_name,
                "namespace": namespace.metadata.name,
                "labels": dict(LABELS),
            }

        digest = hashlib.sha256("".join(files.values()).encode()).hexdigest()
        scripts = kubernetes.core.v1.ConfigMap(
            f"{name}-script",
            metadata=metadata(f"node-mirror-{digest[:10]}"),
            data={
                **files,
                **({"ca.crt": args.ca_certificate} if args.ca_certificate is not None else {}),
            },
            # Changed scripts are a new name: Pods of before keep theirs until they are replaced.
            opts=pulumi.ResourceOptions(parent=self),
        )
        logins = [
            kubernetes.core.v1.Secret(
                name_for(f"{name}-login", each.host),
                metadata=metadata(_secret(each.host)),
                type="kubernetes.io/dockerconfigjson",
                string_data={
                    ".dockerconfigjson": docker_config([(each.domain, login)]),
                    "username": pulumi.Output.secret(login.username),
                    "password": pulumi.Output.secret(login.password),
                },
                opts=options,
            )
            for each, login in _with_login(args)
        ]
        account = kubernetes.core.v1.ServiceAccount(
            f"{name}-account",
            metadata=metadata(DAEMON_SET),
            automount_service_account_token=False,
            opts=options,
        )
        role = kubernetes.rbac.v1.Role(
            f"{name}-role", metadata=metadata(DAEMON_SET), rules=role_rules(), opts=options
        )
        binding = kubernetes.rbac.v1.RoleBinding(
            f"{name}-role-binding",
            metadata=metadata(DAEMON_SET),
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
        seconds = args.restart_window_seconds + 120

        async def rolled_out(_: pulumi.ResourceHookArgs) -> None:
            kubeconfig = await pulumi.Output.from_input(args.kubeconfig).future()
            await asyncio.to_thread(
                await_nodes,
                ApiServer(kubeconfig or ""),
                NODES_NAMESPACE,
                DAEMON_SET,
                f"{EXCLUDE_LABEL}=disabled",
                seconds=seconds,
            )

        described: Any = {
            **metadata(DAEMON_SET),
            # The hook waits, and can say for which node and why. `skipAwait` is no way to say so:
            # the provider would not wait for Pods that leave, either.
            "annotations": {"pulumi.com/waitFor": "jsonpath={.status.observedGeneration}"},
        }
        daemon_set = kubernetes.apps.v1.DaemonSet(
            f"{name}-daemon-set",
            metadata=described,
            spec=daemon_set_spec(args, script=scripts.metadata.name, account=account.metadata.name),
            # A Pod that ends must still be allowed to ask whether its DaemonSet is going.
            opts=pulumi.ResourceOptions.merge(
                options,
                pulumi.ResourceOptions(
                    depends_on=[binding, *logins],
                    custom_timeouts=pulumi.CustomTimeouts(delete=f"{seconds + 180}s"),
                    hooks=pulumi.ResourceHookBinding(
                        after_create=[rolled_out], after_update=[rolled_out]
                    ),
                ),
            ),
        )
        self.daemon_set = daemon_set.metadata.apply(
            lambda metadata: f"{metadata.namespace}/{metadata.name}"
        )
        self.node_pool_script = node_pool_script(args, files["node.sh"])
        self.registry_proxy_configs = registry_proxy_configs(args.proxies)
        self.register_outputs(
            {
                "daemon_set": self.daemon_set,
                "node_pool_script": self.node_pool_script,
                "registry_proxy_configs": self.registry_proxy_configs,
            }
        )


_POD_LABELS = {"app.kubernetes.io/name": DAEMON_SET}


def containerd_hosts(host: str) -> tuple[str, ...]:
    """The names by which containerd knows a registry: a hosts.toml each."""
    return _DOCKER_HUB_HOSTS if host == DOCKER_HUB else (host,)


def registry_proxy_configs(proxies: Sequence[Proxy]) -> pulumi.Output[list[dict[str, Any]]]:
    """The same mirrors as VKE's own setting `RegistryProxyConfigs` of a node pool.

    A list as UpdateNodePoolConfig takes it in `KubernetesConfig.ContainerdConfig`. It has no
    logins, so only proxies with a public namespace are in it.
    """
    public = [each for each in proxies if Access.PUBLIC in each.namespaces.values()]
    return pulumi.Output.all(*(each.domain for each in public)).apply(
        lambda domains: [
            {"Registry": host, "ProxyEndpoints": [f"https://{domain}"]}
            for each, domain in zip(public, domains, strict=True)
            for host in containerd_hosts(each.host)
        ]
    )


def role_rules() -> list[Any]:
    """What the Pods may do: ask for their own DaemonSet, when they end."""
    return [
        {
            "api_groups": ["apps"],
            "resources": ["daemonsets"],
            "resource_names": [DAEMON_SET],
            "verbs": ["get"],
        }
    ]


def daemon_set_spec(
    args: NodeMirrorArgs, *, script: pulumi.Input[str], account: pulumi.Input[str]
) -> Any:
    """The DaemonSet's spec."""
    return {
        "selector": {"match_labels": _POD_LABELS},
        "update_strategy": {
            "type": "RollingUpdate",
            "rolling_update": {"max_unavailable": args.max_unavailable},
        },
        "template": {
            "metadata": {"labels": {**LABELS, **_POD_LABELS}},
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
    with_login = [each.host for each, _ in _with_login(args)]
    proxies = [
        pulumi.Output.concat(host, " ", each.domain, " ", login)
        for each in args.proxies
        for login in ["/login/" + each.host if each.host in with_login else "-"]
        for host in containerd_hosts(each.host)
    ]
    environment: dict[str, pulumi.Input[str]] = {
        **node_settings(args),
        "POD_NODE_ROOT": _HOST,
        "POD_PROXIES": pulumi.Output.all(*proxies).apply("\n".join),
        "POD_IMAGE": args.image,
        "POD_DAEMON_SET": DAEMON_SET,
        "POD_INTERVAL": str(args.interval_seconds),
        "POD_RESTART_WINDOW": str(args.restart_window_seconds),
        **({"POD_CA": "/script/ca.crt"} if args.ca_certificate is not None else {}),
    }
    node_name = {"value_from": {"field_ref": {"field_path": "spec.nodeName"}}}
    mounts: list[dict[str, Any]] = [
        {"name": "node", "mount_path": _HOST, "read_only": True},
        {"name": "containerd-config", "mount_path": f"{_HOST}{_CONFIG_FOLDER}"},
        {"name": "script", "mount_path": "/script", "read_only": True},
        {"name": "run", "mount_path": "/run/node-mirror"},
        *(
            {"name": _secret(host, "-"), "mount_path": f"/login/{host}", "read_only": True}
            for host in with_login
        ),
    ]
    volumes: list[dict[str, Any]] = [
        {"name": "node", "host_path": {"path": "/", "type": "Directory"}},
        {
            "name": "containerd-config",
            "host_path": {"path": _CONFIG_FOLDER, "type": "DirectoryOrCreate"},
        },
        {"name": "script", "config_map": {"name": script}},
        {"name": "run", "empty_dir": {"medium": "Memory", "size_limit": "1Mi"}},
        *(
            {
                "name": _secret(host, "-"),
                "secret": {
                    "secret_name": _secret(host),
                    "default_mode": 0o400,
                    "items": [{"key": key, "path": key} for key in ("username", "password")],
                },
            }
            for host in with_login
        ),
    ]
    command = ["sh", "/script/pod.sh"]
    return {
        "service_account_name": account,
        "automount_service_account_token": True,
        "enable_service_links": False,
        "priority_class_name": "system-node-critical",
        # The node's own resolvers: the proxy must resolve as it does for containerd.
        "dns_policy": "Default",
        "tolerations": [{"operator": "Exists"}],
        "node_selector": {"kubernetes.io/os": "linux"},
        "affinity": {"node_affinity": _nodes()},
        # Nodes that are put back restart containerd in turn, too.
        "termination_grace_period_seconds": args.restart_window_seconds + 180,
        "image_pull_secrets": [{"name": _secret(host)} for host in with_login],
        "volumes": volumes,
        "containers": [
            {
                "name": DAEMON_SET,
                "image": args.image,
                # Also for `latest`: a node that starts again needs no proxy for its Pod.
                "image_pull_policy": "IfNotPresent",
                "command": [*command, "run"],
                "env": [
                    *({"name": name, "value": value} for name, value in environment.items()),
                    {"name": "POD_NODE_NAME", **node_name},
                ],
                "readiness_probe": {
                    "exec_": {"command": [*command, "ready"]},
                    "period_seconds": 5,
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


def _nodes() -> Any:
    """The affinity for nodes that have a containerd and are not left out."""
    unwanted = {**_VIRTUAL_NODES, EXCLUDE_LABEL: "disabled"}
    return {
        "required_during_scheduling_ignored_during_execution": {
            "node_selector_terms": [
                {
                    "match_expressions": [
                        {"key": key, "operator": "NotIn", "values": [value]}
                        for key, value in unwanted.items()
                    ]
                }
            ]
        }
    }


def _with_login(args: NodeMirrorArgs) -> list[tuple[Proxy, ProxyLogin]]:
    return [(each, args.logins[each.host]) for each in args.proxies if each.host in args.logins]


def _secret(host: str, dot: str = ".") -> str:
    """The name of the Secret with a proxy's login; with `dot="-"` that of its volume."""
    return name_for("proxy-login", host).replace(".", dot)


def node_settings(args: NodeMirrorArgs) -> dict[str, str]:
    """The settings of node.sh, as environment variables."""
    return {
        **({"MIRROR_STRICT": "true"} if args.strict else {}),
        "MIRROR_RESTART": args.restart_command,
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
    """node.sh with its settings and list, for a new node to run once; secret.

    It never fails a node's start: a node on which it cannot work pulls as before.
    """
    proxies = [
        pulumi.Output.all(
            each.domain,
            *((login.username, login.password) if (login := args.logins.get(each.host)) else ()),
        )
        for each in args.proxies
    ]

    def script_for(known: Sequence[Any]) -> str:
        *domains, authority = known
        lines = [
            f"{host} {domain} {encoded_login(*login)}".rstrip()
            for each, (domain, *login) in zip(args.proxies, domains, strict=True)
            for host in containerd_hosts(each.host)
        ]
        text = packed(script, node_settings(args), "\n".join([*lines, pem(authority or "")]))
        length = len(base64.b64encode(text.encode()))
        if length > NODE_POOL_BYTES:
            pulumi.log.warn(
                f"the output nodePoolScripts: a script is {length} bytes long in base64, and VKE"
                f" takes {NODE_POOL_BYTES}. Shorten nodeMirror.caCertificate to the one root that"
                " signed the proxies' certificates, or give node pools none: the DaemonSet does the"
                " same to a new node, after its first pulls."
            )
        return text

    return pulumi.Output.secret(pulumi.Output.all(*proxies, args.ca_certificate).apply(script_for))


def encoded_login(username: str = "", password: str = "") -> str:
    """A login as an Authorization header takes it; empty for none."""
    return base64.b64encode(f"{username}:{password}".encode()).decode() if password else ""


def pem(text: str) -> str:
    """The certificates in a PEM file, without what is written around them."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    return "\n".join(
        f"{begin}{each.partition(end)[0]}{end}" for each in text.split(begin)[1:] if end in each
    )


def packed(script: str, settings: Mapping[str, str], mirrors: str) -> str:
    """node.sh, its settings and its list in one script; the same input gives the same text.

    By gzip and base64: in plain it would be longer than NODE_POOL_BYTES allows. Program and list
    are compressed each for itself, since certificates have other letters than programs.
    """
    lines = [f"export {key}={shlex.quote(value)}" for key, value in settings.items()]
    program = "\n".join([*lines, stripped(script), "main apply <<'LIST'", ""])
    parts = (program, f"{mirrors.strip()}\nLIST\n")
    zipped = b"".join(gzip.compress(each.encode(), mtime=0) for each in parts)
    return (
        "#!/bin/sh\n# nodes/node.sh, packed: with cat for the last sh it shows itself.\n"
        f"echo {base64.b64encode(zipped).decode()} | base64 -d | gzip -dc | sh\nexit 0\n"
    )


def stripped(script: str) -> str:
    """node.sh without what a new node does not need.

    That is comments, indentation, the command line, and what is for nodes that it changed before.
    """
    script, _, _ = script.partition("# ---- the command line ----\n")
    kept, _, rest = script.partition("# ---- nodes that were changed before ----\n")
    left_out, _, rest = rest.partition("# ---- end of nodes that were changed before ----\n")
    calls = re.findall(r"^(\w+)\(\)", left_out, re.MULTILINE)
    lines = [line.strip() for line in (kept + rest).splitlines()]
    return "\n".join(
        line
        for line in lines
        if line and not line.startswith("#") and line.partition(" ")[0] not in calls
    )
