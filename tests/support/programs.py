"""Small programs, deployed by the embedded applier as a stack's own is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from rehearsal.cloud.registries.client import RegistryLogin
from rehearsal.deploy import embedded
from rehearsal.deploy.kubernetes_applier import KubernetesApplier
from rehearsal.deploy.stack_file import StackConfig
from rehearsal.deploy.volcengine_applier import VolcengineApplier
from rehearsal.parts.build import obtain
from rehearsal.progress import Progress

NO_ACCOUNT = {
    "VOLCENGINE_ACCESS_KEY": "none",
    "VOLCENGINE_SECRET_KEY": "none",
    "VOLCENGINE_REGION": "cn-beijing",
    "VOLCENGINE_ENDPOINT": "127.0.0.1:9",
}
_NODE_MIRROR = """\
import json
import pulumi
import pulumi_kubernetes
from components.node_mirror import NodeMirror, NodeMirrorArgs
from components.types import Access, Proxy, ProxyLogin
has = json.loads({has!r})
access = {{"library": Access.PUBLIC}}
logins = {{}}
if has["username"]:
    access["bitnami"] = Access.PRIVATE
    password = pulumi.Output.secret(has["password"])
    logins["docker.io"] = ProxyLogin(username=has["username"], password=password)
args = NodeMirrorArgs(
    proxies=[Proxy(host="docker.io", domain=has["domain"], namespaces=access)],
    logins=logins,
    image=has["image"],
    kubeconfig=has["kubeconfig"],
    restart_command="systemctl restart containerd",
    interval_seconds=30,
    restart_window_seconds=5,
    max_unavailable=1,
)
provider = pulumi_kubernetes.Provider("nodes", kubeconfig=has["kubeconfig"])
NodeMirror("nodes", args, pulumi.ResourceOptions(providers=[provider]))
"""


def deploy(
    program: str,
    folder: Path,
    *,
    config: Mapping[str, str] | None = None,
    parts: Mapping[str, Path] | None = None,
    environment: Mapping[str, str] = NO_ACCOUNT,
) -> None:
    """Deploy the text of a program from a folder, which remembers what was deployed."""
    folder.mkdir(exist_ok=True)
    (folder / "Pulumi.yaml").write_text("name: test\nruntime: python\nconfig: {}\n")
    (folder / "__main__.py").write_text(program)
    applier = embedded.Applier(
        KubernetesApplier(parts or {}, folder / "kubernetes"),
        VolcengineApplier(environment),
        Progress(),
        folder / "deployed.json",
    )
    stack = StackConfig(values=config or {}, secret_keys=frozenset())
    embedded.deploy(folder, "test", stack, applier)


def roll_out_node_mirror(
    folder: Path, kubeconfig: Path, login: RegistryLogin, *, image: str = "busybox:stable"
) -> None:
    """Roll a NodeMirror out, as a stack does; its hook waits for the nodes.

    `image` is one of the proxy's namespace `library`. With a login without a username the proxy
    has no private namespace.
    """
    has = {
        "kubeconfig": kubeconfig.read_text(),
        "domain": login.domain,
        "image": f"{login.domain}/library/{image}",
        "username": login.username,
        "password": login.password,
    }
    parts = obtain(("kubernetes", "helm"), Progress())
    deploy(_NODE_MIRROR.format(has=json.dumps(has)), folder, parts=parts)
