"""The proof: the vendor's own example, as written, as admitted, and really pulled."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from kubernetes import client
from rich.table import Table

from rehearsal import running, wait
from rehearsal.admit import admit
from rehearsal.cloud.registries.access_log import AccessRecord, Cache
from rehearsal.cloud.registries.client import PullClient, PullError, RegistryLogin
from rehearsal.cloud.registries.images import DOCKER_HUB
from rehearsal.cluster import node as real_node
from rehearsal.cluster.kyverno import ADMISSION
from rehearsal.deploy.stack import stack_config
from rehearsal.errors import RehearsalError
from rehearsal.parts.build import obtain
from rehearsal.progress import Progress
from rehearsal.running import by_containerd, records_of
from rehearsal.stage import Run, api_client

_POD_SECONDS = 60
_GHCR = "ghcr.io"
_OPT_OUT = {"vke-dockerhub-proxy/redirect": "disabled"}
_IN_FORCE_SECONDS = 15


class ProofError(RehearsalError):
    """What should have happened did not; the message says what was seen."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """One container of the example."""

    container: str
    image: str
    host: str = DOCKER_HUB
    """The registry whose image it is."""
    path: str
    """Its name at that registry's proxy, if there is one."""
    init: bool = False

    def expected(self, domains: Mapping[str, str]) -> str:
        """The image as it has to be admitted; `domains` has each registry's proxy, by host."""
        return f"{domains[self.host]}/{self.path}" if self.host in domains else self.image


EXAMPLE: Sequence[Written] = (
    Written(container="prepare", image="busybox", path="library/busybox", init=True),
    Written(container="web", image="nginx:latest", path="library/nginx:latest"),
    Written(container="cache", image="bitnami/redis:7.2", path="bitnami/redis:7.2"),
    Written(
        container="info",
        image="ghcr.io/stefanprodan/podinfo:6.9.0",
        host=_GHCR,
        path="stefanprodan/podinfo:6.9.0",
    ),
    Written(
        container="agent",
        image="quay.io/prometheus/node-exporter:v1.9.1",
        host="quay.io",
        path="prometheus/node-exporter:v1.9.1",
    ),
)
"""The page's `nginx:latest`, an init container, a private namespace, an image of another registry
that has a proxy, and one of a registry that has none."""


@dataclass(frozen=True, kw_only=True)
class Kyverno:
    """Kyverno's own image, and what it takes to pull it."""

    namespace: str
    image: str
    pull_secrets: Sequence[str]


def prove(run: Run, outputs: Mapping[str, Any], progress: Progress) -> None:
    """Deploy the example, show each image as written and as admitted, and pull them.

    Beside them Kyverno's own image, as its Deployment has it.

    Raises:
        ProofError: when an image is not admitted as it should be, or not served by its proxy.
    """
    domains = {str(host): str(domain) for host, domain in outputs["domains"].items()}
    with progress.step("waiting until the API server calls the policy"):
        in_force(run, domains[DOCKER_HUB])
    with progress.step("deploying the example: nginx:latest with an init container"):
        admitted = _deployed(run)
    progress.console.print(_admission_table(admitted))
    _check(admitted, domains)
    kyverno = _kyverno(run, domains)
    if run.node is not None:
        _prove_running(run, run.node, domains, kyverno, progress)
    crane = obtain(("crane",), progress)["crane"]
    puller = PullClient(crane=crane, names_url=run.names_proxy, ca_certificate=run.authority)
    pulled = [(each.host, admitted[each.container]) for each in EXAMPLE if each.host in domains]
    for host, image in (*pulled, *([(_GHCR, kyverno.image)] if kyverno else ())):
        _prove_pull(run, image, puller, login_of(run, outputs, host), progress)


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


def login_of(run: Run, outputs: Mapping[str, Any], host: str = DOCKER_HUB) -> RegistryLogin:
    """A proxy's login: its name from the stack's outputs, the password from the stack's config."""
    (login,) = (
        json.loads(value)
        for name, value in stack_config(run).values.items()
        if name.endswith(":login")
    )
    return RegistryLogin(
        domain=str(outputs["domains"][host]),
        username=str(outputs["usernames"][host]),
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
    body = running.deployment(name, pod)
    client.AppsV1Api(api).create_namespaced_deployment("default", body)
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


def _check(admitted: Mapping[str, str], domains: Mapping[str, str]) -> None:
    expected = {each.container: each.expected(domains) for each in EXAMPLE}
    wrong = {name: image for name, image in admitted.items() if image != expected[name]}
    if wrong:
        raise ProofError(f"admitted {wrong}, expected {expected}")


def _kyverno(run: Run, domains: Mapping[str, str]) -> Kyverno | None:
    """Kyverno's own image, as the Deployment of its release has it; None if it has no proxy's."""
    api = client.AppsV1Api(api_client(run))
    found: Any = api.list_deployment_for_all_namespaces(
        field_selector=f"metadata.name={ADMISSION.deployment}"
    )
    for deployment in found.items:
        pod = deployment.spec.template.spec
        image = pod.containers[0].image
        if image.startswith(f"{domains.get(_GHCR)}/"):
            return Kyverno(
                namespace=deployment.metadata.namespace,
                image=image,
                pull_secrets=[each.name for each in pod.image_pull_secrets or []],
            )
    return None


def _prove_pull(
    run: Run, image: str, puller: PullClient, login: RegistryLogin, progress: Progress
) -> None:
    """Pull an image twice: through the proxy, then from its cache."""
    progress.say(f"\npulling {image}")
    for attempt, wanted in (("first", None), ("second", Cache.HIT)):
        before = len(records_of(run, login.domain))
        try:
            digest = puller.pull(image, login)
        except PullError as error:
            raise ProofError(f"{image} cannot be pulled: {error}") from error
        served = _content(records_of(run, login.domain)[before:])
        if not served:
            raise ProofError(f"{image} was pulled, but its proxy's access log does not show it")
        progress.say(f"  {attempt} pull, {digest}")
        for record in (served[0], served[-1]):
            progress.say(f"    {record.line()}")
        if wanted and any(record.cache is not wanted for record in served):
            raise ProofError(f"the second pull of {image} was not served from the proxy's cache")


def _prove_running(
    run: Run,
    node: int,
    domains: Mapping[str, str],
    kyverno: Kyverno | None,
    progress: Progress,
) -> None:
    """The vendor page's three ways, another registry and Kyverno's own, each with a Pod that runs.

    On the real node, which reaches the proxies and no registry behind them.
    """
    hub, ghcr = domains[DOCKER_HUB], domains.get(_GHCR)
    ways: list[tuple[str, str, str, Mapping[str, Any]]] = [
        ("domain", f"{hub}/library/nginx:1.26", hub, {}),
        ("admission", "nginx:latest", hub, {}),
        ("nodes", "nginx:1.27", hub, {"labels": _OPT_OUT}),
    ]
    if ghcr:
        ways.append(("admission, ghcr.io", "ghcr.io/stefanprodan/podinfo:6.9.0", ghcr, {}))
    if ghcr and kyverno:
        own = {"namespace": kyverno.namespace, "pull_secrets": kyverno.pull_secrets}
        ways.append(("Kyverno's own", kyverno.image, ghcr, own))
    behind = [str(urlsplit(url).hostname) for url in run.upstreams.values()]
    with real_node.cut_off(node, behind):
        for way, image, domain, options in ways:
            before = len(records_of(run, domain))
            ran = running.run(api_client(run), image, **options)
            pulled = by_containerd(records_of(run, domain)[before:])
            if not any("/blobs/" in each.path for each in _content(pulled)):
                raise ProofError(f"{way}: {image} runs, but its proxy did not serve its content")
            progress.say(f"\n{way}: {image} is Ready on the real node after {ran.seconds:.1f} s")
            progress.say(f"  as {ran.image}, {ran.image_id}")
            for record in pulled:
                progress.say(f"    {record.line()}")


def _content(records: Sequence[AccessRecord]) -> list[AccessRecord]:
    """The requests that carried content: manifests and blobs."""
    return [each for each in records if each.method == "GET" and each.cache is not Cache.NONE]
