"""What the inventory reads of a real cluster, and with which permissions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from inventory import clusters
from inventory.cli import PARTIAL, app
from inventory.workloads import Found
from rehearsal import wait
from rehearsal.cluster import control_plane
from tests.support.harness import Cluster
from tests.support.pods import pod, workload

NAMESPACE = "inventoried"
CRD = yaml.safe_load("""
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: databases.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: databases, singular: database, kind: Database}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties:
            spec: {type: object, properties: {imageName: {type: string}}}
""")


@pytest.fixture(scope="module")
def inventoried(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster with a workload of each kind, and Pods of them."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.await_service_account(NAMESPACE)
    web = workload("Deployment", "web", pod("nginx:1"))
    web["spec"]["replicas"] = 3
    controller = workload("Deployment", "rc", pod("bitnami/rc"))
    controller |= {"apiVersion": "v1", "kind": "ReplicationController"}
    controller["spec"]["selector"] = {"test": "rc"}
    original = {"original.vke-dockerhub-proxy/c0": "bitnami/bare"}
    objects = [
        web,
        workload("StatefulSet", "db", pod("bitnami/db")),
        workload("DaemonSet", "agent", pod("bitnami/agent")),
        controller,
        workload("Job", "job", pod("bitnami/job")),
        workload("CronJob", "cron", pod("bitnami/job")),
        pod("proxy.example/bitnami/bare", metadata={"name": "redirected", "annotations": original}),
        CRD,
    ]
    for each in objects:
        cluster.apply(each, NAMESPACE)
    cluster.kubectl("wait", "--for=condition=Established", "crd/databases.example.com")
    database = {"apiVersion": "example.com/v1", "kind": "Database", "metadata": {"name": "main"},
                "spec": {"imageName": "ghcr.io/x/db:1"}}  # fmt: skip
    cluster.apply(database, NAMESPACE)
    wait.until(lambda: len(cluster.pods("test=web", NAMESPACE)) == 3, "the Deployment has its Pods")
    yield cluster
    cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    cluster.kubectl("delete", "crd", "databases.example.com")


def read(cluster: Cluster, **options: Any) -> Found:
    kubeconfig = cluster.plane.kubeconfig
    _, current = clusters.contexts(kubeconfig)
    options = {"namespaces": (NAMESPACE,), **options}
    return clusters.read(current, kubeconfig, clusters.Reading(label_keys=(), **options))


def seen(found: Found) -> dict[str, tuple[set[str], int]]:
    return {
        f"{each.place.kind} {each.place.name}": ({i.reference for i in each.images}, each.pods)
        for each in found.workloads
    }


@pytest.mark.parametrize("page", [1, 500])
def test_every_kind_is_read_and_pods_count_for_what_made_them(
    inventoried: Cluster, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(clusters, "PAGE", page)
    found = read(inventoried)
    assert found.missing == []
    workloads = seen(found)
    assert workloads["Deployment web"] == ({"nginx:1"}, 3)
    assert workloads["Pod redirected"] == ({"bitnami/bare"}, 1)
    assert {name: images for name, (images, _) in workloads.items()} == {
        "Deployment web": {"nginx:1"},
        "StatefulSet db": {"bitnami/db"},
        "DaemonSet agent": {"bitnami/agent"},
        "ReplicationController rc": {"bitnami/rc"},
        "Job job": {"bitnami/job"},
        "CronJob cron": {"bitnami/job"},
        "Pod redirected": {"bitnami/bare"},
    }


def test_custom_resources_are_read_when_asked_for(inventoried: Cluster) -> None:
    assert seen(read(inventoried, custom_resources=True))["Database main"] == (
        {"ghcr.io/x/db:1"}, 0
    )  # fmt: skip


def run(kubeconfig: Path, *options: str) -> Result:
    arguments = ["--kubeconfig", str(kubeconfig), "--format", "json", *options]
    return CliRunner().invoke(app, arguments)


@pytest.fixture
def reader(inventoried: Cluster, tmp_path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Someone with the ClusterRole that `--rbac` prints, and that role."""
    role = CliRunner().invoke(app, ["--rbac"]).stdout
    (tmp_path / "role.yaml").write_text(role)
    name = "vke-dockerhub-proxy-inventory"
    inventoried.kubectl("apply", "-f", str(tmp_path / "role.yaml"))
    inventoried.kubectl("create", "serviceaccount", "reader", "-n", NAMESPACE)
    inventoried.kubectl(
        "create", "clusterrolebinding", name, f"--clusterrole={name}",
        f"--serviceaccount={NAMESPACE}:reader",
    )  # fmt: skip
    token = inventoried.kubectl("create", "token", "reader", "-n", NAMESPACE).stdout.strip()
    plane = inventoried.plane
    kubeconfig = tmp_path / "kubeconfig"
    text = control_plane.kubeconfig(url=plane.url, authority=plane.authority, token=token)
    kubeconfig.write_text(text)
    found = inventoried.kubectl("get", "clusterrole", name, "-o", "json").stdout
    yield kubeconfig, json.loads(found)
    inventoried.kubectl("delete", "clusterrolebinding", name)
    inventoried.kubectl("delete", "clusterrole", name)
    inventoried.kubectl("delete", "serviceaccount", "reader", "-n", NAMESPACE)


def test_the_printed_permissions_are_enough(reader: tuple[Path, dict[str, Any]]) -> None:
    kubeconfig, _ = reader
    wait.until(lambda: run(kubeconfig).exit_code == 0, "the cluster is read in full", timeout=20)
    answer = json.loads(run(kubeconfig).stdout)
    assert answer["complete"]
    assert {"nginx:1", "bitnami/db"} <= {each["image"] for each in answer["uses"]}


def test_what_may_not_be_read_is_said_and_the_rest_is_there(
    inventoried: Cluster, reader: tuple[Path, dict[str, Any]]
) -> None:
    kubeconfig, role = reader
    for rule in role["rules"]:
        rule["resources"] = [
            each for each in rule["resources"] if each not in {"pods", "namespaces"}
        ]
    inventoried.kubectl("replace", "-f", "-", document=role)

    def partial() -> Result | None:
        done = run(kubeconfig)
        return done if done.exit_code == PARTIAL else None

    done = wait.until(partial, "the answer is partial", timeout=20)
    answer = json.loads(done.stdout)
    assert [each["what"] for each in answer["missing"]] == ["namespaces", "pods (v1)"]
    assert all("403" in each["why"] for each in answer["missing"])
    assert "nginx:1" in {each["image"] for each in answer["uses"]}
    assert "not read" in done.stderr


def test_a_cluster_that_does_not_answer_is_said(inventoried: Cluster, tmp_path: Path) -> None:
    plane = inventoried.plane
    text = control_plane.kubeconfig(
        url="https://127.0.0.1:1", authority=plane.authority, token="none"
    )
    (tmp_path / "kubeconfig").write_text(text)
    done = run(tmp_path / "kubeconfig")
    assert done.exit_code == PARTIAL
    assert "no answer" in done.stderr
