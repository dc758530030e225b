"""Kyverno's admission controller as a local process, in place of its Pod on a kwok node.

`python -m rehearsal.kyverno_stand_in` watches the Deployment the Helm release makes and does what a
kubelet would: it runs the controller while the Deployment wants replicas, under the release's own
ServiceAccount, and stops it when the Deployment is scaled to zero (the chart's
pre-delete hook) or gone. It then takes the controller's webhooks away, as the chart's hook Job
does where Jobs really run.
Nothing here knows when a stack is deployed or destroyed.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer
import urllib3
from kubernetes import client

from rehearsal.control_plane import client_of, kubeconfig, write_private
from rehearsal.processes import ProcessError, Processes, answers, free_port

DEPLOYMENT = "kyverno-admission-controller"
_WEBHOOKS = "webhook.kyverno.io/managed-by=kyverno"
_INTERVAL_SECONDS = 0.3
_TOKEN_SECONDS = 24 * 3600


class StandIn:
    """Keeps one Kyverno process in step with the Deployment."""

    def __init__(
        self, processes: Processes, binary: Path, folder: Path, admin_kubeconfig: Path
    ) -> None:
        self._processes = processes
        self._binary = binary
        self._folder = folder
        self._api = client_of(admin_kubeconfig)
        self._running = ""
        self._namespace = ""
        self._service_account = ""
        self._arguments: list[str] = []

    def step(self) -> None:
        """Look once, and start or stop the process if need be."""
        wanted = self._wanted()
        if wanted == self._running:
            return
        if self._running:
            self._processes.stop("kyverno")
            self._remove_webhooks()
            self._running = ""
        if wanted:
            self._start()
            self._running = wanted

    def _wanted(self) -> str:
        """The UID of the Deployment that wants a controller; empty when none does."""
        found: Any = client.AppsV1Api(self._api).list_deployment_for_all_namespaces(
            field_selector=f"metadata.name={DEPLOYMENT}"
        )
        for each in found.items:
            if each.spec.replicas and not each.metadata.deletion_timestamp:
                self._namespace = str(each.metadata.namespace)
                pod = each.spec.template.spec
                self._service_account = str(pod.service_account_name)
                self._arguments = list(pod.containers[0].args)
                return str(each.metadata.uid)
        return ""

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
        own = self._folder / "kyverno.kubeconfig"
        write_private(
            own,
            kubeconfig(
                url=configuration.host,
                authority=Path(configuration.ssl_ca_cert),
                token=token.status.token,
            ),
        )
        webhook = free_port()
        here = {
            "kubeconfig": str(own),
            "serverIP": f"127.0.0.1:{webhook}",
            "webhookServerHost": "127.0.0.1",
            "webhookServerPort": str(webhook),
            "servicePort": str(webhook),
            "metricsPort": str(free_port()),
            "controllerRuntimeMetricsAddress": "0",
            "tlsKeyAlgorithm": "ECDSA",
            "admissionReports": "false",
        }
        self._processes.start(
            "kyverno",
            [self._binary, *with_flags(self._arguments, here)],
            environment={
                "KYVERNO_NAMESPACE": namespace,
                "KYVERNO_SERVICEACCOUNT_NAME": account,
                "KYVERNO_DEPLOYMENT": DEPLOYMENT,
                "KYVERNO_POD_NAME": f"{DEPLOYMENT}-0",
                "KYVERNO_ROLE_NAME": "kyverno:admission-controller",
                "KYVERNO_SVC": "kyverno-svc",
                "INIT_CONFIG": "kyverno",
                "METRICS_CONFIG": "kyverno-metrics",
                "TUF_ROOT": str(self._folder / "tuf"),
                "HOME": str(self._folder),
            },
            ready=lambda: answers(webhook),
            timeout=120,
        )


def with_flags(arguments: Iterable[str], flags: Mapping[str, str]) -> list[str]:
    """A container's arguments, with these flags set in place of its own."""
    own = [each for each in arguments if each.lstrip("-").partition("=")[0] not in flags]
    return [*own, *(f"--{name}={value}" for name, value in flags.items())]


def main(binary: Path, folder: Path, logs: Path, admin_kubeconfig: Path) -> None:
    """Run until asked to stop."""
    stopped = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: stopped.set())
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with Processes(logs) as processes:
        stand_in = StandIn(processes, binary, folder, admin_kubeconfig)
        while not stopped.wait(_INTERVAL_SECONDS):
            try:
                stand_in.step()
            except (urllib3.exceptions.HTTPError, client.ApiException, ProcessError) as error:
                logging.warning("will look again: %s", error)


if __name__ == "__main__":
    typer.run(main)
