"""PullCheck: proves from inside a cluster that the proxy serves, before anything depends on it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.inputs import inputs
from components.labels import NAMESPACE


@dataclass(frozen=True, kw_only=True)
class PullCheckArgs:
    """What is pulled, and how."""

    domain: pulumi.Input[str]
    """The proxy's domain."""
    image: str
    """An image the proxy serves, `<namespace>/<name>:<tag>`, that has a program `true`."""
    username: pulumi.Input[str] | None = None
    """The registry user's name, for an image in a private namespace."""
    password: pulumi.Input[str] | None = None
    """The registry user's password; secret."""
    namespace: pulumi.Input[str] = NAMESPACE
    """The namespace it runs in, whose Pod Security level may be `restricted`."""


class PullCheck(pulumi.ComponentResource):
    """A Job whose image comes through the proxy; the update waits until it has run.

    What the kubelet needs to pull is what the check needs: the domain resolves from the nodes, the
    network lets them in, the proxy reaches Docker Hub, the login is right. If one is missing the
    update stops here, before Pods are redirected. A changed domain runs the check again.
    """

    image: pulumi.Output[str]
    """The image that was pulled, known once it was."""

    def __init__(
        self, name: str, args: PullCheckArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:PullCheck", name, inputs(args), opts)
        options = pulumi.ResourceOptions(parent=self, delete_before_replace=True)
        secrets: list[dict[str, Any]] = []
        if args.password is not None and args.username is not None:
            login = kubernetes.core.v1.Secret(
                f"{name}-login",
                metadata={"name": "proxy-login", "namespace": args.namespace},
                type="kubernetes.io/dockerconfigjson",
                string_data={
                    ".dockerconfigjson": docker_config(args.domain, args.username, args.password)
                },
                opts=options,
            )
            secrets.append({"name": login.metadata.name})
        container: dict[str, Any] = {
            "name": "pull",
            "image": pulumi.Output.concat(args.domain, "/", args.image),
            "image_pull_policy": "Always",
            "command": ["true"],
            "security_context": {
                "allow_privilege_escalation": False,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        pod: Any = {
            "restart_policy": "Never",
            "automount_service_account_token": False,
            "image_pull_secrets": secrets,
            "containers": [container],
        }
        job = kubernetes.batch.v1.Job(
            f"{name}-job",
            metadata={"name": "pull-check", "namespace": args.namespace},
            spec={
                "backoff_limit": 3,
                "active_deadline_seconds": 300,
                "template": {"spec": pod},
            },
            opts=options,
        )
        self.image = pulumi.Output.all(container["image"], job.urn).apply(lambda made: str(made[0]))
        self.register_outputs({"image": self.image})


def docker_config(
    domain: pulumi.Input[str], username: pulumi.Input[str], password: pulumi.Input[str]
) -> pulumi.Output[str]:
    """A Docker config that logs in to one registry, secret, as kubelets read it."""

    def written(parts: list[str]) -> str:
        auth = base64.b64encode(f"{parts[1]}:{parts[2]}".encode()).decode()
        login = {"username": parts[1], "password": parts[2], "auth": auth}
        return json.dumps({"auths": {parts[0]: login}})

    return pulumi.Output.secret(pulumi.Output.all(domain, username, password).apply(written))
