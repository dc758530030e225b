"""Installing Kyverno beside others, and taking it away, with Helm on a real API server."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from components.api_server import ApiServer
from components.kyverno import RELEASE, KyvernoArgs, chart_values, check_free
from components.labels import LABELS
from rehearsal import wait
from rehearsal.parts.build import obtain
from rehearsal.progress import Progress
from tests.support.harness import Cluster
from tests.support.kyverno_charts import OTHERS_POLICY, chart

VERSION = "1.19.1"


class Helm:
    """Kyverno's release as the provider plugin installs and uninstalls it."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._binary = obtain(("helm",), Progress())["helm"]
        args = KyvernoArgs(
            chart="kyverno",
            version=chart(VERSION, folder / "chart"),
            namespace="kyverno",
            webhook_timeout_seconds=2,
            replicas=1,
        )
        (folder / "values.yaml").write_text(yaml.safe_dump(chart_values(args)))

    def install(self, namespace: str) -> None:
        self._run(
            *("install", RELEASE, self._folder / "chart", "--namespace", namespace),
            *("--create-namespace", "--values", self._folder / "values.yaml", "--take-ownership"),
            # Not --wait: on kwok's node no Kyverno ever answers.
        )

    def uninstall(self, namespace: str) -> None:
        self._run("uninstall", RELEASE, "--namespace", namespace, "--wait", "--timeout=120s")

    def _run(self, *words: str | Path) -> None:
        kubeconfig = str(self._cluster.plane.kubeconfig)
        done = subprocess.run(
            [self._binary, *words],
            env={**os.environ, "KUBECONFIG": kubeconfig, "HOME": str(self._folder)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def helm(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm(cluster, tmp_path_factory.mktemp("helm"))


def test_a_cluster_without_a_kyverno_is_free(api_server: ApiServer) -> None:
    check_free(api_server, "kyverno")


def test_a_namespace_that_is_there_already_is_named_with_what_to_do(
    cluster: Cluster, api_server: ApiServer
) -> None:
    cluster.kubectl("create", "namespace", "kyverno")
    try:
        with pytest.raises(pulumi.RunError, match=r"namespace 'kyverno' already") as refused:
            check_free(api_server, "kyverno")
        assert "kyverno.install to false" in str(refused.value)
    finally:
        cluster.kubectl("delete", "namespace", "kyverno")


def test_kyverno_goes_and_comes_again_elsewhere_and_the_policies_of_others_stay(
    cluster: Cluster, api_server: ApiServer, helm: Helm
) -> None:
    helm.install("security")
    with pytest.raises(pulumi.RunError, match=r"has a Kyverno already \(security/kyverno-adm"):
        check_free(api_server, "kyverno", preview=True)
    # As where kyverno.namespace changes: the update takes the stack's own Kyverno away first.
    labels = [f"{key}={value}" for key, value in LABELS.items()]
    cluster.kubectl("label", "namespace", "security", *labels)
    for namespace in ("kyverno", "security"):
        check_free(api_server, namespace, preview=True)
    with pytest.raises(pulumi.RunError, match="has a Kyverno already"):
        check_free(api_server, "kyverno")
    _delete_webhooks(cluster)  # kwok's Pods answer none
    apply = ("apply", "-f", "-")
    wait.until(
        lambda: cluster.kubectl(*apply, document=OTHERS_POLICY, check=False).returncode == 0,
        "Kyverno's CRDs are served",
    )
    helm.uninstall("security")
    assert _policies(cluster) == ["team-b-require-labels"]
    check_free(api_server, "kyverno")
    helm.install("kyverno")
    assert _policies(cluster) == ["team-b-require-labels"]


def _policies(cluster: Cluster) -> list[str]:
    found: Any = yaml.safe_load(cluster.kubectl("get", "clusterpolicies", "-o", "json").stdout)
    return [each["metadata"]["name"] for each in found["items"]]


def _delete_webhooks(cluster: Cluster) -> None:
    for kind in ("validatingwebhookconfigurations", "mutatingwebhookconfigurations"):
        cluster.kubectl("delete", kind, "--all")
