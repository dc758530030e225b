"""Kyverno's controllers as local processes, in place of their Pods on kwok nodes.

`python -m rehearsal.cluster.kyverno` watches the Deployments of the Helm release and does what
a kubelet would: it runs a controller while its Deployment wants replicas, with the container's own
arguments and ServiceAccount, starts it again when it ends, and stops it when the Deployment is
scaled to zero (the chart's pre-delete hook) or gone. The admission controller's webhooks are then
taken away, as the chart's hook Job does where Jobs really run. Nothing here knows when a stack is
deployed or destroyed.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import typer
import urllib3
import yaml
from kubernetes import client
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_fixed

from rehearsal import wait
from rehearsal.cluster import chart
from rehearsal.cluster.control_plane import (
    PLAYED_BY_PROCESS,
    ControlPlane,
    client_of,
    kubeconfig,
)
from rehearsal.locations import write_private
from rehearsal.processes import ProcessError, Processes, free_port

_WEBHOOKS = "webhook.kyverno.io/managed-by=kyverno"
_INTERVAL_SECONDS = 0.3
_TOKEN_SECONDS = 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Controller:
    """One of Kyverno's controllers."""

    name: str
    """Its process and log."""
    deployment: str
    """The Deployment of the Helm release `kyverno`."""
    serves_webhooks: bool = False


ADMISSION = Controller(
    name="kyverno", deployment="kyverno-admission-controller", serves_webhooks=True
)
BACKGROUND = Controller(
    name="kyverno-background-controller", deployment="kyverno-background-controller"
)


class StandIn:
    """Keeps one controller's process in step with its Deployment."""

    def __init__(
        self,
        processes: Processes,
        binary: Path,
        folder: Path,
        admin_kubeconfig: Path,
        controller: Controller = ADMISSION,
        *,
        flags: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._flags = flags or {}
        self._environment = environment or {}
        self._controller = controller
        self._processes = processes
        self._binary = binary
        self._folder = folder
        self._api = client_of(admin_kubeconfig)
        self._running = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._namespace = ""
        self._service_account = ""
        self._arguments: list[str] = []
        self._variables: dict[str, str] = {}
        self._webhook = 0

    def step(self) -> None:
        """Look once, and start or stop the process if need be."""
        wanted = self._wanted()
        ended = self._process is not None and self._process.poll() is not None
        if wanted == self._running and not ended:
            if wanted and self._controller.serves_webhooks:
                self._make_pods_ready()
            return
        if self._running:
            if ended:
                logging.warning("%s has ended", self._controller.name)
            self._processes.stop(self._controller.name)
            self._process = None
            if self._controller.serves_webhooks and wanted != self._running:
                self._remove_webhooks()
            self._running = ""
        if wanted and self._policies_are_served():
            self._start()
            self._running = wanted

    @retry(
        retry=retry_if_exception_type(ProcessError),
        stop=stop_after_attempt(20),
        wait=wait_fixed(1),
        reraise=True,
    )
    def bring_up(self) -> None:
        """`step`, again until the controller runs: its rights may not be aggregated yet."""
        self.step()
        if not self._running:
            raise ProcessError(f"{self._controller.name} has no Deployment, or no policies to read")

    def kill(self) -> None:
        """End the process at once, as when its node dies: its webhooks stay registered."""
        if self._process is not None:
            self._process.kill()
            self._processes.stop(self._controller.name)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """A controller that accepts connections and answers none."""
        if self._process is None:
            raise ProcessError(f"{self._controller.name} does not run")
        self._process.send_signal(signal.SIGSTOP)
        threads = Path(f"/proc/{self._process.pid}/task")
        wait.until(
            lambda: all(") T " in each.read_text() for each in threads.glob("*/stat")),
            f"every thread of {self._controller.name} is stopped",
        )
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def _wanted(self) -> str:
        """The UID of the Deployment that wants a controller; empty when none does."""
        found: Any = client.AppsV1Api(self._api).list_deployment_for_all_namespaces(
            field_selector=f"metadata.name={self._controller.deployment}"
        )
        for each in found.items:
            if each.spec.replicas and not each.metadata.deletion_timestamp:
                self._namespace = str(each.metadata.namespace)
                pod = each.spec.template.spec
                self._service_account = str(pod.service_account_name)
                self._arguments = list(pod.containers[0].args)
                self._variables = {
                    each.name: each.value for each in pod.containers[0].env or [] if each.value
                }
                return str(each.metadata.uid)
        return ""

    def _policies_are_served(self) -> bool:
        """Whether the API server serves the policies whose CRDs came with the Deployment.

        A controller that does not find them looks again after 1, 2, 4 and 8 seconds.
        """
        api = client.CustomObjectsApi(self._api)
        try:
            for plural in ("policies", "clusterpolicies"):
                api.list_cluster_custom_object("kyverno.io", "v1", plural, limit=1)
        except client.ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return False
        return True

    def _make_pods_ready(self) -> None:
        """Say of the Deployment's Pods, as a kubelet would, that the controller answers."""
        pods = client.CoreV1Api(self._api)
        found: Any = pods.list_namespaced_pod(
            self._namespace,
            label_selector=f"app.kubernetes.io/component={PLAYED_BY_PROCESS}",
            field_selector="status.phase=Pending",
        )
        scheduled = [pod for pod in found.items if pod.spec.node_name]
        if scheduled and _serves(self._webhook):
            for pod in scheduled:
                names = [each.name for each in pod.spec.containers]
                pods.patch_namespaced_pod_status(
                    pod.metadata.name, self._namespace, _ready_status(names)
                )

    def _remove_webhooks(self) -> None:
        registrations = client.AdmissionregistrationV1Api(self._api)
        registrations.delete_collection_mutating_webhook_configuration(label_selector=_WEBHOOKS)
        registrations.delete_collection_validating_webhook_configuration(label_selector=_WEBHOOKS)

    def _start(self) -> None:
        namespace, account = self._namespace, self._service_account
        token: Any = client.CoreV1Api(self._api).create_namespaced_service_account_token(
            account,
            namespace,
            client.AuthenticationV1TokenRequest(
                spec=client.V1TokenRequestSpec(audiences=[], expiration_seconds=_TOKEN_SECONDS)
            ),
        )
        configuration = self._api.configuration
        own = self._folder / f"{self._controller.name}.kubeconfig"
        write_private(
            own,
            kubeconfig(
                url=configuration.host,
                authority=Path(configuration.ssl_ca_cert),
                token=token.status.token,
            ),
        )
        webhook = self._webhook = free_port()
        here = {
            "kubeconfig": str(own),
            "metricsPort": str(free_port()),
            "controllerRuntimeMetricsAddress": "0",
        }
        if self._controller.serves_webhooks:
            here |= {
                "serverIP": f"127.0.0.1:{webhook}",
                "webhookServerHost": "127.0.0.1",
                "webhookServerPort": str(webhook),
                "servicePort": str(webhook),
                "tlsKeyAlgorithm": "ECDSA",
                "admissionReports": "false",
            }
        self._process = self._processes.start(
            self._controller.name,
            [self._binary, *with_flags(self._arguments, {**here, **self._flags})],
            environment={
                **self._variables,
                **self._environment,
                "KYVERNO_NAMESPACE": namespace,
                "KYVERNO_SERVICEACCOUNT_NAME": account,
                "KYVERNO_DEPLOYMENT": self._controller.deployment,
                "KYVERNO_POD_NAME": f"{self._controller.deployment}-0",
                "KYVERNO_ROLE_NAME": "kyverno:admission-controller",
                "KYVERNO_SVC": "kyverno-svc",
                "INIT_CONFIG": "kyverno",
                "METRICS_CONFIG": "kyverno-metrics",
                "TUF_ROOT": str(self._folder / "tuf"),
                "HOME": str(self._folder),
            },
            ready=lambda: not self._controller.serves_webhooks or _serves(webhook),
            timeout=120,
        )


def install(
    processes: Processes,
    parts: Mapping[str, Path],
    folder: Path,
    plane: ControlPlane,
    *,
    flags: Mapping[str, str],
    environment: Mapping[str, str],
) -> StandIn:
    """Kyverno without a Helm release: its chart's manifests and the admission controller alone.

    For tests and measurements of policies. `flags` and `environment` are further ones of the
    controller, which leaves the namespaces `kube-system` and `kyverno` alone.

    Raises:
        ProcessError: when the controller does not become ready.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chart.of_parts(parts, folder / "chart")
    excluded = {
        "key": "kubernetes.io/metadata.name",
        "operator": "NotIn",
        "values": ["kube-system", "kyverno"],
    }
    webhooks = {"namespaceSelector": {"matchExpressions": [excluded]}}
    values = folder / "values.yaml"
    values.write_text(yaml.safe_dump({"config": {"webhooks": webhooks}}))
    manifests = subprocess.run(
        [
            *(parts["helm"], "template", "kyverno", folder / "chart", "--namespace=kyverno"),
            *("--no-hooks", "--include-crds", f"--values={values}", "--kube-version=1.37.2"),
        ],
        check=True,
        capture_output=True,
    ).stdout
    kubectl = (parts["kubectl"], f"--kubeconfig={plane.kubeconfig}")
    for words, document in (
        (("create", "namespace", "kyverno"), b""),
        (("apply", "--server-side", "-f", "-"), manifests),
    ):
        subprocess.run([*kubectl, *words], input=document, check=True, capture_output=True)
    stand_in = StandIn(
        processes,
        parts["kyverno"],
        folder,
        plane.kubeconfig,
        flags=flags,
        environment=environment,
    )
    stand_in.bring_up()
    return stand_in


def _serves(port: int) -> bool:
    """Whether the controller answers its readiness probe."""
    try:
        answer = httpx.get(
            f"https://127.0.0.1:{port}/health/readiness",
            verify=False,  # noqa: S501 - a kubelet's probe does not verify either
            trust_env=False,
            timeout=2,
        )
    except httpx.HTTPError:
        return False
    return answer.is_success


def _ready_status(containers: Iterable[str]) -> dict[str, Any]:
    """The status of a Pod whose containers all run."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "status": {
            "phase": "Running",
            "podIP": "127.0.0.1",
            "startTime": now,
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": now}
                for kind in ("Initialized", "ContainersReady", "Ready")
            ],
            "containerStatuses": [
                {
                    "name": name,
                    "image": "local-process",
                    "imageID": "",
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": now}},
                }
                for name in containers
            ],
        }
    }


def with_flags(arguments: Iterable[str], flags: Mapping[str, str]) -> list[str]:
    """A container's arguments, with these flags set in place of its own."""
    own = [each for each in arguments if each.lstrip("-").partition("=")[0] not in flags]
    return [*own, *(f"--{name}={value}" for name, value in flags.items())]


def main(
    admission: Path, background: Path, folder: Path, logs: Path, admin_kubeconfig: Path
) -> None:
    """Run until asked to stop; `admission` and `background` are the controllers' binaries."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: sys.exit())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Processes(logs) as processes:
        stand_ins = [
            StandIn(processes, binary, folder, admin_kubeconfig, controller)
            for controller, binary in ((ADMISSION, admission), (BACKGROUND, background))
        ]
        try:
            while True:
                time.sleep(_INTERVAL_SECONDS)
                for stand_in in stand_ins:
                    try:
                        stand_in.step()
                    except (urllib3.exceptions.HTTPError, client.ApiException, ProcessError) as no:
                        logging.warning("will look again: %s", no)
        finally:
            for stand_in in stand_ins:  # a controller takes seconds to end by itself
                stand_in.kill()


if __name__ == "__main__":
    typer.run(main)
