"""The control plane and the Kyverno process as the tests use them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kubernetes import client, dynamic
from kubernetes.dynamic.exceptions import NotFoundError

from components.policy import redirect
from components.types import DOCKER_HUB, Access, Engine, FailurePolicy, Proxy
from rehearsal import wait
from rehearsal.admit import admit
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cluster import control_plane
from rehearsal.cluster.kyverno import StandIn
from rehearsal.parts.build import obtain
from rehearsal.processes import Processes
from rehearsal.progress import Progress
from tests.support import policies

DOMAIN = "dockerhub-proxy.example.com"
WEBHOOK_TIMEOUT_SECONDS = 2


def docker_hub(*public: str, private: Sequence[str] = ()) -> Proxy:
    """A proxy of Docker Hub with these namespaces."""
    access = dict.fromkeys(public, Access.PUBLIC) | dict.fromkeys(private, Access.PRIVATE)
    return Proxy(host=DOCKER_HUB, domain=DOMAIN, namespaces=access)


LIBRARY = docker_hub("library")


def kubectl(
    kubeconfig: Path, *arguments: str, document: Any = None, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run kubectl, with a document on its standard input if there is one."""
    done = subprocess.run(
        [obtain(("kubernetes",), Progress())["kubectl"], f"--kubeconfig={kubeconfig}", *arguments],
        input=None if document is None else json.dumps(document),
        check=False, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0 or not check, f"kubectl {arguments}: {done.stderr[:2000]}"
    return done


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """The control plane and the ways the tests use it."""

    plane: control_plane.ControlPlane
    authority: Authority
    processes: Processes
    api: client.ApiClient

    @cached_property
    def resources(self) -> dynamic.DynamicClient:
        """Objects of every kind the API server serves."""
        return dynamic.DynamicClient(self.api)  # type: ignore[no-untyped-call]

    def apply(self, document: Mapping[str, Any], namespace: str | None = None) -> None:
        """Apply an object; with a namespace, in that."""
        self._kind(document).server_side_apply(
            body=dict(document),
            name=document["metadata"]["name"],
            namespace=namespace,
            field_manager="tests",
            force_conflicts=True,
        )

    def delete(self, document: Mapping[str, Any], namespace: str | None = None) -> None:
        """Delete an object at once, what it owns after it; one that is not there is no error."""
        with suppress(NotFoundError):
            self._kind(document).delete(
                name=document["metadata"]["name"],
                namespace=namespace,
                grace_period_seconds=0,
                propagation_policy="Background",
            )

    def warnings(self, document: Mapping[str, Any], namespace: str) -> str:
        """The header `Warning` of the answer to a server-side dry run that creates an object."""
        answer = self._kind(document).create(
            body=dict(document), namespace=namespace, dry_run="All", serialize=False
        )
        return str(answer.headers.get("Warning", ""))

    def _kind(self, document: Mapping[str, Any]) -> Any:
        return self.resources.resources.get(
            api_version=document["apiVersion"], kind=document["kind"]
        )

    def await_service_account(self, namespace: str) -> None:
        """Wait until Pods can be created in a namespace."""
        accounts = client.CoreV1Api(self.api)
        wait.until(
            lambda: accounts.read_namespaced_service_account("default", namespace),
            f"namespace {namespace} has its service account",
            ignoring=client.ApiException,
        )

    def kubectl(
        self, *arguments: str, document: Any = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as an administrator of the cluster."""
        return kubectl(self.plane.kubeconfig, *arguments, document=document, check=check)

    def create(self, pod: Mapping[str, Any], namespace: str = "default") -> dict[str, Any]:
        """The Pod as it would be stored, by server-side dry run."""
        return self.stored(pod, namespace, dry_run="All")

    def stored(
        self, pod: Mapping[str, Any], namespace: str = "default", **options: Any
    ) -> dict[str, Any]:
        """The Pod as the API server answers it."""
        pods: Any = client.CoreV1Api(self.api)
        answer = pods.create_namespaced_pod(namespace, dict(pod), _preload_content=False, **options)
        found: dict[str, Any] = json.loads(answer.data)
        return found

    def pod(self, name: str, namespace: str = "default") -> dict[str, Any]:
        """A stored Pod."""
        answer: Any = client.CoreV1Api(self.api).read_namespaced_pod(
            name, namespace, _preload_content=False
        )
        found: dict[str, Any] = json.loads(answer.data)
        return found

    def pods(self, selector: str, namespace: str = "default") -> list[dict[str, Any]]:
        """Stored Pods with a label."""
        answer: Any = client.CoreV1Api(self.api).list_namespaced_pod(
            namespace, label_selector=selector, _preload_content=False
        )
        found: list[dict[str, Any]] = json.loads(answer.data)["items"]
        return found

    def admitted(self, image: str) -> str | None:
        """What an image of a Pod is admitted as."""
        return next(iter(admit(self.api, [image], namespace="default"))).admitted

    @contextmanager
    def policy(
        self,
        engine: Engine,
        proxies: Sequence[Proxy] = (LIBRARY,),
        **values: Any,
    ) -> Iterator[list[dict[str, Any]]]:
        """A policy in force while the context lasts, and gone after it; `values` as of `Redirect`.

        The last namespace of the first proxy shows whether it is.
        """
        given = {"failure_policy": FailurePolicy.FAIL, **values}
        documents = redirect(policies.values(engine, proxies, **given))
        probe = f"{proxies[0].host}/{list(proxies[0].namespaces)[-1]}/probe"
        try:
            for each in documents:
                self.apply(each)
            wait.until(lambda: self.admitted(probe) not in {probe, None}, f"{engine} takes effect")
            yield documents
        finally:
            for each in reversed(documents):
                self.delete(each)
            wait.until(lambda: self.admitted(probe) == probe, f"{engine} is gone")


@contextmanager
def bare_cluster(folder: Path, **settings: Any) -> Iterator[Cluster]:
    """A control plane without any node; `settings` as of its start()."""
    with Processes(folder / "logs") as processes:
        parts = obtain(control_plane.PARTS, Progress())
        authority = Authority.create(folder / "authority")
        plane = control_plane.start(processes, parts, folder / "plane", authority, **settings)
        with control_plane.client_of(plane.kubeconfig) as api:
            yield Cluster(
                plane=plane,
                authority=authority,
                processes=processes,
                api=api,
            )


@contextmanager
def small_cluster(folder: Path, **settings: Any) -> Iterator[Cluster]:
    """A control plane with one node of kwok's, and no Kyverno; `settings` as of its start()."""
    with bare_cluster(folder, **settings) as cluster:
        cluster.apply(control_plane.node("node-a"))
        cluster.await_service_account("default")
        yield cluster


@dataclass(frozen=True)
class KyvernoProcess:
    """Kyverno's admission controller, which a test can stop, start and freeze."""

    stand_in: StandIn

    def stop(self) -> None:
        """End it at once, its webhooks left registered, as a node that dies would."""
        self.stand_in.kill()

    def start(self) -> None:
        """Start it again."""
        self.stand_in.bring_up()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it accept connections but answer none."""
        with self.stand_in.frozen():
            yield

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """No Kyverno while the context lasts: what would call it is not admitted by policies whose
        `failurePolicy` is `Fail`."""
        self.stop()
        try:
            yield
        finally:
            self.start()
