"""PullCheck: proves from inside a cluster that a proxy serves, before anything depends on it."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pulumi_kubernetes as kubernetes

from components import PACKAGE
from components.api_server import ApiServer, ApiServerError
from components.inputs import NOT_RECORDED, inputs
from components.labels import LABELS, NAMESPACE
from components.pull_causes import cause
from components.types import DOCKER_HUB, ProxyLogin, display_name, name_for

JOB = "pull-check"
"""The name of the Job that pulls through Docker Hub's proxy."""
WAIT_SECONDS = 240
"""How long the proxy may take to serve, from the cluster's first request on; seconds."""


@dataclass(frozen=True, kw_only=True)
class PullCheckArgs:
    """What is pulled, and how."""

    host: str = DOCKER_HUB
    """The registry whose proxy it is."""
    domain: pulumi.Input[str]
    """The proxy's domain."""
    image: str
    """An image the proxy serves, `<namespace>/<name>:<tag>`."""
    arguments: Sequence[str] | None = None
    """What the image's own program is run with; None runs `true` in its place."""
    login: ProxyLogin | None = None
    """The login, for an image in a private namespace."""
    namespace: pulumi.Input[str] = NAMESPACE
    """The namespace it runs in, whose Pod Security level may be `restricted`."""
    kubeconfig: pulumi.Input[str] = field(default="", metadata=NOT_RECORDED)
    """The cluster's kubeconfig, secret: by it the check is looked at while it runs."""


class PullCheck(pulumi.ComponentResource):
    """A Job whose image comes through the proxy; the update waits until it has run.

    What the kubelet needs to pull is what the check needs: the domain resolves from the nodes, the
    network lets them in, the proxy reaches its upstream, the login is right. If one is missing the
    update stops here, before Pods are redirected, and says which. A changed domain runs the check
    again, and so does every update while it has not succeeded.
    """

    image: pulumi.Output[str]
    """The image that was pulled, known once it was."""

    def __init__(
        self, name: str, args: PullCheckArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(f"{PACKAGE}:index:PullCheck", name, inputs(args), opts)
        options = pulumi.ResourceOptions(parent=self, delete_before_replace=True)
        secrets: list[dict[str, Any]] = []
        if args.login:
            login = kubernetes.core.v1.Secret(
                f"{name}-login",
                metadata={
                    "name": name_for("proxy-login", args.host),
                    "namespace": args.namespace,
                    "labels": LABELS,
                },
                type="kubernetes.io/dockerconfigjson",
                string_data={".dockerconfigjson": docker_config([(args.domain, args.login)])},
                opts=options,
            )
            secrets.append({"name": login.metadata.name})
        image = pulumi.Output.concat(args.domain, "/", args.image)
        spec = pod_spec(image, secrets, args.arguments)
        template: Any = {"metadata": {"labels": LABELS}, "spec": spec}

        async def succeeded(_: pulumi.ResourceHookArgs) -> None:
            kubeconfig = await pulumi.Output.from_input(args.kubeconfig).future()
            namespace = await pulumi.Output.from_input(args.namespace).future()
            api = ApiServer(kubeconfig or "")
            await asyncio.to_thread(await_job, api, namespace or "", args.host)

        job = kubernetes.batch.v1.Job(
            f"{name}-job",
            metadata={
                "name": name_for(JOB, args.host),
                "namespace": args.namespace,
                "labels": LABELS,
                "annotations": {
                    # The hook below waits, and can say why. One that failed is created anew.
                    "pulumi.com/skipAwait": "true",
                    "pulumi.com/replaceUnready": "true",
                    # A Pod on a node that is gone must not hold the deletion.
                    "pulumi.com/deletionPropagationPolicy": "background",
                },
            },
            spec={
                "backoff_limit": 3,
                "active_deadline_seconds": WAIT_SECONDS + 60,
                "template": template,
            },
            opts=pulumi.ResourceOptions.merge(
                options,
                pulumi.ResourceOptions(
                    hooks=pulumi.ResourceHookBinding(after_create=[succeeded]),
                ),
            ),
        )
        self.image = pulumi.Output.all(image, job.urn).apply(lambda known: str(known[0]))
        self.register_outputs({"image": self.image})


def pod_spec(
    image: pulumi.Input[str], secrets: Sequence[Any] = (), arguments: Sequence[str] | None = None
) -> dict[str, Any]:
    """The check's Pod: as the level `restricted` of Pod Security wants it, on any node in service.

    Nodes of special pools are tainted NoSchedule. Those that are not ready are too, and the Pod
    leaves such a one again after a few seconds.
    """
    not_ready = [
        {"key": f"node.kubernetes.io/{state}", "operator": "Exists", "effect": "NoExecute"}
        for state in ("not-ready", "unreachable")
    ]
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "imagePullSecrets": [*secrets],
        "tolerations": [
            {"operator": "Exists", "effect": "NoSchedule"},
            *({**each, "tolerationSeconds": 20} for each in not_ready),
        ],
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65534,
            "runAsGroup": 65534,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "pull",
                "image": image,
                "imagePullPolicy": "Always",
                **({"command": ["true"]} if arguments is None else {"args": [*arguments]}),
                "resources": {
                    "requests": {"cpu": "10m", "memory": "16Mi"},
                    "limits": {"cpu": "100m", "memory": "64Mi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }


def await_job(
    api: ApiServer, namespace: str, host: str = DOCKER_HUB, *, seconds: float = WAIT_SECONDS
) -> None:
    """Wait until the check of a registry's proxy has succeeded.

    Raises:
        pulumi.RunError: when it has not after `seconds`, or for good; the message says why.
    """
    deadline = time.monotonic() + seconds
    reason = "nothing is known of it"
    while True:
        over: set[str] = set()
        try:
            over, found = _look(api, namespace, host)
            reason = found or reason
        except ApiServerError as error:
            reason = f"it could not be looked at: {error}"
        if "Complete" in over:
            return
        if over or time.monotonic() > deadline:
            raise pulumi.RunError(
                f"the pull check of {display_name(host)}'s proxy failed, and nothing was redirected"
                f" to it: {reason}\n"
                f"  see:  kubectl -n {namespace} describe pods -l job-name={name_for(JOB, host)}\n"
                "  then: `pulumi up` runs the check again; pullCheck.enabled false leaves it out"
            )
        time.sleep(1)


def _look(api: ApiServer, namespace: str, host: str) -> tuple[set[str], str | None]:
    """How the Job ended, as its conditions say, nothing while it runs; and why it does not run."""
    name = name_for(JOB, host)
    core = f"/api/v1/namespaces/{namespace}"
    job = api.get(f"/apis/batch/v1/namespaces/{namespace}/jobs/{name}")
    conditions = job["status"].get("conditions") or []
    over = {each["type"] for each in conditions if each["status"] == "True"}
    uid = job["metadata"]["uid"]
    pods = [
        each
        for each in api.get(f"{core}/pods", labelSelector=f"job-name={name}")["items"]
        if uid in {owner["uid"] for owner in each["metadata"].get("ownerReferences") or []}
    ]
    known = {uid, *(each["metadata"]["uid"] for each in pods)}
    events = [
        each
        for each in api.get(f"{core}/events")["items"]
        if each["involvedObject"].get("uid") in known
    ]
    image = job["spec"]["template"]["spec"]["containers"][0]["image"]
    return over & {"Complete", "Failed"}, cause(image, pods, events, host)


def docker_config(
    logins: Sequence[tuple[pulumi.Input[str], ProxyLogin]],
) -> pulumi.Output[str]:
    """A Docker config with the logins to these domains, secret, as kubelets read it."""
    known = pulumi.Output.all(
        *(pulumi.Output.all(domain, each.username, each.password) for domain, each in logins)
    )
    return pulumi.Output.secret(
        known.apply(lambda each: json.dumps({"auths": {one[0]: _auth(*one[1:]) for one in each}}))
    )


def _auth(username: str, password: str) -> dict[str, str]:
    auth = base64.b64encode(f"{username}:{password}".encode()).decode()
    return {"username": username, "password": password, "auth": auth}
