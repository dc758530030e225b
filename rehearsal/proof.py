"""The proof: the vendor's own example, as written, as admitted, and really pulled."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from kubernetes import client
from rich.table import Table

from rehearsal import running, wait
from rehearsal.admit import admit
from rehearsal.cloud.registries.access_log import AccessRecord, Cache, parse_line
from rehearsal.cloud.registries.client import PullClient, PullError, RegistryLogin
from rehearsal.deploy.stack import stack_config
from rehearsal.parts.build import obtain
from rehearsal.progress import Progress
from rehearsal.stage import Run, api_client

_POD_SECONDS = 60
_OPT_OUT = {"vke-dockerhub-proxy/redirect": "disabled"}
_IN_FORCE_SECONDS = 15


class ProofError(Exception):
    """What should have happened did not; the message says what was seen."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """One container of the example."""

    container: str
    image: str
    init: bool = False


EXAMPLE: Sequence[Written] = (
    Written(container="prepare", image="busybox", init=True),
    Written(container="web", image="nginx:latest"),
    Written(container="cache", image="bitnami/redis:7.2"),
    Written(container="agent", image="quay.io/prometheus/node-exporter:v1.9.1"),
)
"""The page's `nginx:latest`, an init container, a private namespace, and an image that is not
Docker Hub's."""


def prove(run: Run, outputs: Mapping[str, Any], progress: Progress) -> None:
    """Deploy the example, show each image as written and as admitted, and pull them.

    Raises:
        ProofError: when an image is not admitted as it should be, or not served by the proxy.
    """
    domain = str(outputs["domain"])
    login = login_of(run, outputs)
    with progress.step("waiting until the API server calls the policy"):
        in_force(run, domain)
    with progress.step("deploying the example: nginx:latest with an init container"):
        admitted = _deployed(run)
    progress.console.print(_admission_table(admitted))
    _check(admitted, domain)
    if run.node is not None:
        _prove_running(run, domain, progress)
    crane = obtain(("crane",), progress)["crane"]
    puller = PullClient(crane=crane, names_url=run.names_proxy, ca_certificate=run.authority)
    for written in EXAMPLE:
        image = admitted[written.container]
        if image.startswith(f"{domain}/"):
            _prove_pull(run, domain, image, puller, login, progress)


def in_force(run: Run, domain: str) -> None:
    """Wait until a new policy has reached the API server: less than a second after it is ready.

    Raises:
        NotInTimeError: when it is not in force after `_IN_FORCE_SECONDS`.
    """
    api = api_client(run)

    def redirected() -> bool:
        (answer,) = admit(api, ["nginx"])
        if answer.admitted != f"{domain}/library/nginx":
            raise ProofError(f"it is admitted as {answer.admitted or answer.error}")
        return True

    wait.until(redirected, "nginx is redirected", timeout=_IN_FORCE_SECONDS, ignoring=ProofError)


def login_of(run: Run, outputs: Mapping[str, Any]) -> RegistryLogin:
    """The registry's login: the name from the stack's outputs, the password from its config."""
    (login,) = (
        json.loads(value)
        for name, value in stack_config(run).values.items()
        if name.endswith(":login")
    )
    return RegistryLogin(
        domain=str(outputs["domain"]),
        username=str(outputs["username"]),
        password=str(login["password"]),
    )


def _deployed(run: Run) -> dict[str, str]:
    """Deploy the example and return each container's image as its Pod has it."""
    api = api_client(run)
    name = f"example-{secrets.token_hex(3)}"
    pod = {
        "initContainers": [
            {"name": each.container, "image": each.image} for each in EXAMPLE if each.init
        ],
        "containers": [
            {"name": each.container, "image": each.image} for each in EXAMPLE if not each.init
        ],
    }
    deployment: Any = {
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    }
    client.AppsV1Api(api).create_namespaced_deployment("default", deployment)
    core = client.CoreV1Api(api)
    return wait.until(
        lambda: _images_of_ready_pod(core, name), f"a Pod of {name} runs", timeout=_POD_SECONDS
    )


def _images_of_ready_pod(api: client.CoreV1Api, app: str) -> dict[str, str]:
    found: Any = api.list_namespaced_pod("default", label_selector=f"app={app}")
    for pod in found.items:
        if pod.status.phase == "Running":
            containers = [*(pod.spec.init_containers or []), *pod.spec.containers]
            return {each.name: each.image for each in containers}
    return {}


def _admission_table(admitted: Mapping[str, str]) -> Table:
    table = Table("container")
    table.add_column("image as written", overflow="fold")
    table.add_column("image as admitted", overflow="fold")
    for each in EXAMPLE:
        kind = f"{each.container} (init)" if each.init else each.container
        table.add_row(kind, each.image, admitted[each.container])
    return table


def _check(admitted: Mapping[str, str], domain: str) -> None:
    expected = {
        "prepare": f"{domain}/library/busybox",
        "web": f"{domain}/library/nginx:latest",
        "cache": f"{domain}/bitnami/redis:7.2",
        "agent": "quay.io/prometheus/node-exporter:v1.9.1",
    }
    wrong = {name: image for name, image in admitted.items() if image != expected[name]}
    if wrong:
        raise ProofError(f"admitted {wrong}, expected {expected}")


def _prove_pull(
    run: Run,
    domain: str,
    image: str,
    puller: PullClient,
    login: RegistryLogin,
    progress: Progress,
) -> None:
    """Pull an image twice: through the proxy, then from its cache."""
    progress.say(f"\npulling {image}")
    for attempt, wanted in (("first", None), ("second", Cache.HIT)):
        before = len(_records(run, domain))
        try:
            digest = puller.pull(image, login)
        except PullError as error:
            raise ProofError(f"{image} cannot be pulled: {error}") from error
        served = _content(_records(run, domain)[before:])
        if not served:
            raise ProofError(f"{image} was pulled, but the proxy's access log does not show it")
        progress.say(f"  {attempt} pull, {digest}")
        for record in served:
            progress.say(f"    {record.line()}")
        if wanted and any(record.cache is not wanted for record in served):
            raise ProofError(f"the second pull of {image} was not served from the proxy's cache")


def _prove_running(run: Run, domain: str, progress: Progress) -> None:
    """The vendor page's three ways, each with a Pod that really runs on the real node."""
    ways: Sequence[tuple[str, str, Mapping[str, str]]] = (
        ("domain", f"{domain}/library/nginx:1.26", {}),
        ("admission", "nginx:latest", {}),
        ("nodes", "nginx:1.27", _OPT_OUT),
    )
    for way, image, labels in ways:
        before = len(_records(run, domain))
        ran = running.run(api_client(run), image, labels=labels)
        pulled = running.by_containerd(_records(run, domain)[before:])
        if not any("/blobs/" in each.path for each in _content(pulled)):
            raise ProofError(f"{way}: {image} runs, but the proxy did not serve its content")
        progress.say(f"\n{way}: {image} is Ready on the real node after {ran.seconds:.1f} s")
        progress.say(f"  as {ran.image}, {ran.image_id}")
        for record in pulled:
            progress.say(f"    {record.line()}")


def _content(records: Sequence[AccessRecord]) -> list[AccessRecord]:
    """The requests that carried content: manifests and blobs."""
    return [each for each in records if each.method == "GET" and each.cache is not Cache.NONE]


def _records(run: Run, domain: str) -> list[AccessRecord]:
    registries = httpx.get(f"http://{run.volcengine}/-/registries", trust_env=False).json()
    (log,) = (Path(each["access_log"]) for each in registries if each["domain"] == domain)
    lines = log.read_text().splitlines() if log.is_file() else []
    return [parse_line(line) for line in lines]
