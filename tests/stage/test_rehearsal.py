"""The rehearsal itself: its commands, what it leaves, and how it fails."""

from __future__ import annotations

import json
import stat
from typing import Any

import httpx
import psutil
import pytest
from kubernetes import client, dynamic

from components.labels import NAMESPACE, NODES_NAMESPACE
from components.policy import redirect
from components.pull_credentials import SECRET
from components.types import DOCKER_HUB, Access, Engine, Proxy
from rehearsal import wait
from rehearsal.admit import admit
from rehearsal.cluster.control_plane import client_of
from rehearsal.deploy import embedded
from rehearsal.deploy.stack import Runner, deploy, outputs_of, stack_config
from rehearsal.progress import Progress
from rehearsal.proof import login_of
from rehearsal.stage import KWOK_NODES, Run, api_client
from tests.support.harness import kubectl
from tests.support.machine import processes_with
from tests.support.policies import values
from tests.support.rehearsals import (
    DOMAIN,
    GHCR_DOMAIN,
    asking,
    ran,
    rehearsal,
    run_of,
)


def test_the_stack_is_deployed_through_the_emulated_api(deployed: Run) -> None:
    calls = _calls(deployed)
    actions = [each["Action"] for each in calls]
    for action in ("CreateRegistry", "CreateNamespace", "UpdateVpcEndpoint", "ListKubeconfigs"):
        assert action in actions
    assert all(each["Status"] == 200 for each in calls)


def test_the_outputs_are_those_of_the_stack(deployed: Run) -> None:
    outputs = outputs_of(deployed)
    assert outputs["domain"] == DOMAIN
    assert outputs["image"] == f"{DOMAIN}/library/nginx:latest"
    assert outputs["namespaces"] == ["bitnami", "library"]
    assert outputs["domains"] == {DOCKER_HUB: DOMAIN, "ghcr.io": GHCR_DOMAIN}
    assert outputs["vpcs"] == ["vpc-rehearsal0001"]
    assert outputs["policies"] == {"rehearsal": "dockerhub-image-redirect"}
    assert outputs["username"]
    assert "login" not in outputs


def test_the_proof_shows_images_as_admitted_and_the_proxys_own_log(deployed: Run) -> None:
    shown = ran("prove", folder=deployed.folder).stderr
    for manifest in (
        "library/nginx/manifests/latest",
        "stefanprodan/podinfo/manifests/6.9.0",
        "kyverno/kyverno/manifests/v",
    ):
        assert f"GET /v2/{manifest}" in shown
    assert "cache=miss" in shown
    assert "cache=hit upstream=-" in shown


def test_admit_answers_each_line_in_order(deployed: Run) -> None:
    written = ["nginx", "quay.io/a/b:1", "not//valid", "bitnami/redis:7.2", "grafana/grafana"]
    count = 20
    answers = [
        json.loads(line)
        for line in rehearsal(
            "admit", folder=deployed.folder, stdin="\n".join(written * count) + "\n"
        ).splitlines()
    ]
    assert [each["image"] for each in answers] == written * count
    assert [each["admitted"] for each in answers[: len(written)]] == [
        f"{DOMAIN}/library/nginx",
        "quay.io/a/b:1",
        "not//valid",
        f"{DOMAIN}/bitnami/redis:7.2",
        "grafana/grafana",
    ]
    assert all(each["error"] is None for each in answers)


def test_an_image_the_api_server_refuses_is_answered_with_its_reason(deployed: Run) -> None:
    (answer,) = rehearsal("admit", folder=deployed.folder, stdin=" \n").splitlines()
    assert json.loads(answer)["admitted"] is None
    assert "image" in json.loads(answer)["error"]


def test_what_was_applied_reads_back_as_it_was_written(deployed: Run) -> None:
    """What a refresh would compare: a value the cluster changed would be a change on every run."""
    words = ("get", "clusterpolicy", "dockerhub-image-redirect", "--show-managed-fields")
    written: Any = json.loads(kubectl(deployed.kubeconfig, *words, "-o", "json").stdout)
    (manifest,) = redirect(
        values(
            Engine.CLUSTER_POLICY,
            [
                Proxy(
                    host=DOCKER_HUB,
                    domain=DOMAIN,
                    namespaces={"bitnami": Access.PRIVATE, "library": Access.PUBLIC},
                ),
                Proxy(
                    host="ghcr.io",
                    domain=GHCR_DOMAIN,
                    namespaces={"kyverno": Access.PRIVATE, "stefanprodan": Access.PUBLIC},
                ),
            ],
            pull_secret="dockerhub-proxy-login",
        )
    )
    spec = {**manifest["spec"], "rules": None}
    live = {key: written["spec"][key] for key in spec}
    live["rules"] = None
    assert live == spec
    for name, value in manifest["spec"]["rules"][0].items():
        assert written["spec"]["rules"][0][name] == value, name


def test_secrets_are_private_files_and_in_no_log_and_no_command_line(deployed: Run) -> None:
    password = login_of(deployed, outputs_of(deployed)).password
    secrets = (password, "made-up-docker-hub-token", deployed.secret_key)
    for process in psutil.process_iter(["cmdline"]):
        line = " ".join(process.info["cmdline"] or ())
        assert not any(secret in line for secret in secrets), process.pid
    for path in deployed.folder.rglob("*"):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if any(secret.encode() in content for secret in secrets) and "etcd" not in path.parts:
            assert path.suffix != ".log", path
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_resource_that_cannot_be_applied_is_named(run: Run) -> None:
    url = f"http://{run.volcengine}/-/faults"
    fault = {"action": "CreateRegistry", "code": "QuotaExceeded", "status": 400}
    assert httpx.post(url, json=fault, trust_env=False).is_success
    with pytest.raises(embedded.ApplyError, match=r"(?s)dockerhub-registry.*QuotaExceeded"):
        deploy(run, Runner.EMBEDDED, Progress(), {"registry.name": "second"})
    httpx.delete(url, trust_env=False)


def test_a_second_deployment_deletes_what_it_does_not_declare(deployed: Run) -> None:
    mirrors = (deployed.kubeconfig, "get", "daemonset", "--all-namespaces", "-o", "name")
    assert kubectl(*mirrors).stdout
    config = {
        "clusters[0].ways": "[admission]",
        "registry.namespaces": "[{name: library, access: Public}]",
        "upstreams[0].namespaces[0].access": "Public",  # else Pods need its login
    }
    outputs = deploy(deployed, Runner.EMBEDDED, Progress(), config)
    assert outputs["namespaces"] == ["library"]
    assert kubectl(*mirrors).stdout == ""
    assert _copied_logins(deployed) == []
    assert deploy(deployed, Runner.EMBEDDED, Progress())["namespaces"] == ["bitnami", "library"]
    assert kubectl(*mirrors).stdout
    wait.until(lambda: _copied_logins(deployed), "the login is copied again")


QUAY = {
    "host": "quay.io",
    "name": "quay-rehearsal",
    "protection": False,
    "namespaces": [{"name": "prometheus", "access": "Public"}],
    "pullCheckImage": "prometheus/node-exporter:v1.9.1",
}
"""One more upstream, whose registry is a Micro one."""


def test_an_upstream_that_comes_or_goes_in_a_live_stack_touches_nothing_else(
    deployed: Run,
) -> None:
    run = deployed
    before, called = _live(run), len(_calls(run))
    upstreams = json.loads(stack_config(run).values["vke-dockerhub-proxy:upstreams"])
    with asking(run, ["nginx", "ghcr.io/kyverno/kyverno"]) as admitted:
        more = {"upstreams": json.dumps([*upstreams, QUAY])}
        outputs = deploy(run, Runner.EMBEDDED, Progress(), more)
        with_quay = _live(run)
        domain = outputs["domains"]["quay.io"]
        images = ["quay.io/prometheus/node-exporter:v1.9.1", "quay.io/ceph/ceph"]
        found = [each.admitted for each in admit(api_client(run), images)]
        deploy(run, Runner.EMBEDDED, Progress())
    assert found == [f"{domain}/prometheus/node-exporter:v1.9.1", "quay.io/ceph/ceph"]
    changed = {
        "ClusterPolicy dockerhub-image-redirect",
        f"DaemonSet {NODES_NAMESPACE}/node-mirror",
    }
    assert {name for name in before if with_quay.get(name) != before[name]} == changed
    assert with_quay.keys() - before.keys() == {
        f"Job {NAMESPACE}/pull-check-quay.io",
        f"Secret {NAMESPACE}/proxy-login-quay.io",
    }
    after = _live(run)
    assert after.keys() == before.keys()
    assert {name for name in before if after[name] != before[name]} == set()
    touched = [each for each in _calls(run)[called:] if each["Action"][:6] in ("Create", "Delete")]
    assert [f"{each['Action']} {each['Subject']}" for each in touched] == [
        "CreateRegistry quay-rehearsal",
        "CreateNamespace quay-rehearsal/prometheus",
        "DeleteNamespace quay-rehearsal/prometheus",
        "DeleteRegistry quay-rehearsal",
    ]
    assert len(admitted) > 100
    assert set(admitted) == {f"{DOMAIN}/library/nginx", f"{GHCR_DOMAIN}/kyverno/kyverno"}


def _calls(run: Run) -> list[dict[str, Any]]:
    """The calls of the emulated API so far."""
    found: list[dict[str, Any]] = httpx.get(
        f"http://{run.volcengine}/-/calls", trust_env=False
    ).json()
    return found


def _live(run: Run) -> dict[str, tuple[str, Any]]:
    """What the stack has in its cluster, Kyverno's Deployments with it: uid and content."""
    record = json.loads((run.folder / "embedded" / "deployed.json").read_text())
    api: Any = dynamic.DynamicClient(api_client(run))  # type: ignore[no-untyped-call]
    deployments = api.resources.get(api_version="apps/v1", kind="Deployment")
    found = deployments.get(namespace="kyverno").to_dict()["items"]
    for kind, cluster, identity in record:
        if cluster and not kind.endswith(":Release"):
            _, version, word = kind.split(":")
            resource = api.resources.get(api_version=version.removeprefix("core/"), kind=word)
            namespace, _, name = identity.rpartition("/")
            found.append(resource.get(name=name, namespace=namespace or None).to_dict())
    live = {}
    for each in found:
        metadata = each.pop("metadata")
        each.pop("status", None)
        name = "/".join(filter(None, (metadata.get("namespace"), metadata["name"])))
        live[f"{each['kind']} {name}"] = (metadata["uid"], each)
    return live


def _copied_logins(run: Run) -> list[str]:
    """The namespaces with a copy of the login for Pods."""
    secrets: Any = client.CoreV1Api(api_client(run)).list_secret_for_all_namespaces(
        field_selector=f"metadata.name={SECRET}"
    )
    namespaces = [each.metadata.namespace for each in secrets.items]
    return [each for each in namespaces if each != NAMESPACE]


def test_the_nodes_of_a_stage_stay_ready(run: Run) -> None:
    """A node whose Lease nobody renews is no longer ready after 40 s."""
    nodes = client.CoordinationV1Api(api_client(run))
    found: Any = nodes.list_namespaced_lease("kube-node-lease")
    held = {each.metadata.name: each.spec.renew_time for each in found.items}
    assert len([name for name in held if name.startswith("kwok-")]) == KWOK_NODES

    def renewed() -> bool:
        again: Any = nodes.list_namespaced_lease("kube-node-lease")
        return all(each.spec.renew_time > held[each.metadata.name] for each in again.items)

    wait.until(renewed, "every node renews its Lease")


def test_two_rehearsals_at_once_do_not_meet(run: Run) -> None:
    exports = rehearsal("up", "--no-node")
    second = run_of(exports)
    try:
        assert second.volcengine != run.volcengine
        assert client_of(second.kubeconfig) is not None
        refused = ran("prove")
        assert refused.returncode == 1
        assert "set REHEARSAL_RUN" in refused.stderr
    finally:
        rehearsal("down", folder=second.folder)
    assert not second.folder.exists()
    assert processes_with(str(second.folder)) == []
    assert processes_with(str(run.folder)) != []
