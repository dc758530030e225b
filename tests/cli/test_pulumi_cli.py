"""The stack's whole life under the Pulumi CLI, the last test its end."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest
from kubernetes import client
from pulumi import automation

from components.labels import NAMESPACE
from components.pull_credentials import SECRET
from rehearsal import wait
from rehearsal.deploy.stack import outputs_of
from rehearsal.proof import login_of
from rehearsal.stage import Run, api_client
from tests.cli.conftest import Cli
from tests.support.kyverno_charts import OTHERS_POLICY
from tests.support.rehearsals import interrupted_at, ran, rehearsal

_DOMAIN = "dockerhub-rehearsal-cn-beijing.cr.volces.com"


@pytest.fixture(autouse=True)
def _config_put_back(cli: Cli) -> Iterator[None]:
    yield
    cli.put_back()


def test_a_preview_from_nothing_says_what_the_first_update_then_does(cli: Cli) -> None:
    preview, up = cli.first["preview"].changes, cli.first["up"].changes
    assert set(preview) == set(up) == {"create"}
    assert preview == up


def test_an_unchanged_stack_is_unchanged_also_after_a_refresh(cli: Cli) -> None:
    assert set(cli.preview().changes) == {"same"}
    assert set(cli.up().changes) == {"same"}
    assert set(cli.refresh().changes) == {"same"}
    assert set(cli.preview().changes) == {"same"}


def test_no_secret_stands_in_plain_in_the_state_or_the_history(cli: Cli) -> None:
    login = login_of(cli.run, outputs_of(cli.run))
    token = re.findall(r"token: (\S+)", cli.run.kubeconfig.read_text())
    plain = [login.password, "made-up-docker-hub-token", cli.run.secret_key, *token]
    assert len(plain) >= 4
    forms = {form for each in plain for form in _encoded(each, login.username)}
    files = [each for each in (cli.run.folder / "pulumi").rglob("*") if each.is_file()]
    assert any("stacks" in each.parts for each in files)
    for path in files:
        text = path.read_text(errors="replace")
        assert not any(form in text for form in forms), path


def test_a_tag_that_would_cost_the_cache_stops_the_preview(cli: Cli) -> None:
    cli.set("registry.tags.team", "platform")
    with pytest.raises(automation.CommandError, match=r"registry\.allowReplacementOn"):
        cli.preview()


def test_a_changed_docker_hub_password_replaces_nothing(cli: Cli) -> None:
    cli.set("dockerhub.password", "another", secret=True)
    assert set(cli.preview().changes) == {"same"}


def test_a_changed_login_is_changed_in_place_and_in_every_copy(cli: Cli) -> None:
    cli.set("login.password", "Another#2026pass", secret=True)
    done = cli.up()
    assert set(done.changes) == {"same", "update"}
    assert set(done.names("update")) == {
        "dockerhub-registry",
        "ghcr.io-registry",
        "rehearsal-kyverno-image-login",
        "rehearsal-node-mirror-login",
        "rehearsal-node-mirror-login-ghcr.io",
        "rehearsal-pull-check-login",
        "rehearsal-pull-check-ghcr.io-login",
        "rehearsal-pull-credentials-login",
        "rehearsal-pull-credentials-policy",  # for Kyverno to look again
    }
    assert "Another#2026pass" in _login_in(cli.run, NAMESPACE)
    wait.until(
        lambda: "Another#2026pass" in _login_in(cli.run, "default"),
        "the changed password is copied",
        timeout=30,
    )
    cli.put_back()
    cli.up()


def test_changed_exclusions_go_through_in_one_update(cli: Cli) -> None:
    """Kyverno refuses changes of what a generate rule excludes (kyverno#17501)."""
    cli.set("redirect.exclude.namespaces[0]", "batch-jobs")
    done = cli.up()
    assert set(done.changes) == {"same", "update"}
    assert "rehearsal-pull-credentials-policy" in done.names("update")
    cli.put_back()
    assert set(cli.up().changes) == {"same", "update"}


def test_an_upstream_that_comes_or_goes_touches_nothing_else(cli: Cli) -> None:
    at = f"upstreams[{len(cli.setting('upstreams'))}]"
    for name, value in (
        ("host", "quay.io"),
        ("name", "quay-rehearsal"),
        ("protection", "false"),
        ("namespaces[0].name", "prometheus"),
        ("namespaces[0].access", "Public"),
        ("pullCheckImage", "prometheus/node-exporter:v1.9.1"),
    ):
        cli.set(f"{at}.{name}", value)
    shown = cli.preview()
    with _Watch(cli.run) as watch:
        come = cli.up()
        cli.put_back()
        gone = cli.up()
    assert shown.changes == come.changes
    assert set(come.changes) == {"same", "create", "update"}
    assert set(gone.changes) == {"same", "update", "delete"}
    changed = {"rehearsal-redirect-policy", "rehearsal-node-mirror-daemon-set"}
    recording = {"rehearsal-redirect", "rehearsal-pull-credentials"}  # components, of their args
    for step in (come, gone):
        assert changed <= set(step.names("update")) <= changed | recording
    assert all("quay.io" in each for each in come.names("create"))
    assert sorted(gone.names("delete")) == sorted(come.names("create"))
    assert watch.admitted > 50
    assert watch.others == []


def test_a_login_deleted_by_hand_is_made_again_and_copied(cli: Cli) -> None:
    core = client.CoreV1Api(api_client(cli.run))
    core.delete_namespaced_secret(SECRET, NAMESPACE)
    core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name="without")))
    cli.refresh()
    assert cli.up().names("create") == ["rehearsal-pull-credentials-login"]
    wait.until(
        lambda: _login_in(cli.run, "without"),
        "the login is copied",
        timeout=30,
        ignoring=client.ApiException,
    )
    core.delete_namespace("without")


def test_a_switched_engine_leaves_no_moment_without_a_policy(cli: Cli) -> None:
    registries = {"registry": cli.setting("registry"), "upstreams[0]": cli.setting("upstreams")[0]}
    for path, registry in registries.items():  # the native engine brings Pods no login
        for at in range(len(registry["namespaces"])):
            cli.set(f"{path}.namespaces[{at}].access", "Public")
    cli.up()
    cli.set("clusters[0].kubernetesVersion", "1.37")
    for engine in ("MutatingPolicy", "MutatingAdmissionPolicy", "ClusterPolicy"):
        cli.set("redirect.engine", engine)
        with _Watch(cli.run) as watch:
            done = cli.up()
        assert watch.admitted > 50
        assert watch.others == []
        if engine == "MutatingAdmissionPolicy":  # which needs no Kyverno
            _assert_policy_before_kyverno(done.names("delete"))
    cli.put_back()
    cli.up()


def test_a_patch_by_hand_stops_no_update_and_a_refresh_takes_it_back(cli: Cli) -> None:
    policies = client.CustomObjectsApi(api_client(cli.run))
    policy = ("kyverno.io", "v1", "clusterpolicies", "dockerhub-image-redirect")

    def failure_policy() -> str:
        found: Any = policies.get_cluster_custom_object(*policy)
        return str(found["spec"]["failurePolicy"])

    for seconds in ("3", "4"):  # the second change was the one that met a conflict
        patch = {"spec": {"failurePolicy": "Fail"}}
        policies.patch_cluster_custom_object(*policy, patch)
        cli.set("redirect.timeoutSeconds", seconds)
        cli.up()
    policies.patch_cluster_custom_object(*policy, {"spec": {"failurePolicy": "Fail"}})
    cli.refresh()
    cli.put_back()
    cli.up()
    assert failure_policy() == "Ignore"


def test_switching_the_redirect_off_leaves_the_policies_of_others(cli: Cli) -> None:
    policies = client.CustomObjectsApi(api_client(cli.run))
    others = ("kyverno.io", "v1", "clusterpolicies")
    policies.create_cluster_custom_object(*others, OTHERS_POLICY)
    cli.set("redirect.enabled", "false")
    assert "rehearsal-kyverno-release" in cli.up().names("delete")
    found: Any = policies.list_cluster_custom_object(*others)
    assert [each["metadata"]["name"] for each in found["items"]] == ["team-b-require-labels"]
    cli.put_back()
    cli.up()
    policies.delete_cluster_custom_object(*others, "team-b-require-labels")


def test_a_failed_update_ends_the_rehearsal_with_the_clis_own_words(cli: Cli) -> None:
    faults = f"http://{cli.run.volcengine}/-/faults"
    fault = {"action": "ListKubeconfigs", "code": "AccessDenied", "status": 403}
    assert httpx.post(faults, json=fault, trust_env=False).is_success
    try:
        done = ran("deploy", "--runner", "pulumi", folder=cli.run.folder)
    finally:
        httpx.delete(faults, trust_env=False)
    assert done.returncode == 1
    assert "AccessDenied" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("rehearsal: the Pulumi CLI could not update")


def test_ctrl_c_ends_the_cli_with_its_plugins() -> None:
    before = {each.pid for each in psutil.process_iter()}
    folder = interrupted_at(
        "kubernetes:helm.sh/v3:Release rehearsal-kyverno-release", "--no-node", runner="pulumi"
    )
    left = [each for each in psutil.process_iter(["name"]) if each.pid not in before]
    assert [each for each in left if each.info["name"].startswith("pulumi")] == []
    rehearsal("down", folder=folder)


def test_a_destroy_takes_the_policy_first_and_leaves_nothing(cli: Cli) -> None:
    done = cli.destroy()
    assert set(done.changes) == {"delete"}
    _assert_policy_before_kyverno(done.names("delete"))
    assert done.names("delete").index("dockerhub-registry") > done.names("delete").index(
        "rehearsal-kyverno-release"
    )
    api = api_client(cli.run)
    namespaces: Any = client.CoreV1Api(api).list_namespace()
    assert {each.metadata.name for each in namespaces.items} == {
        "default",
        "kube-node-lease",
        "kube-public",
        "kube-system",
    }
    named = f"metadata.name={SECRET}"
    copies: Any = client.CoreV1Api(api).list_secret_for_all_namespaces(field_selector=named)
    assert copies.items == []
    hooks = client.AdmissionregistrationV1Api(api)
    left: Any = hooks.list_mutating_webhook_configuration()
    assert left.items == []
    calls = httpx.get(f"http://{cli.run.volcengine}/-/calls", trust_env=False).json()
    assert "DeleteRegistry" in [each["Action"] for each in calls]


class _Watch:
    """Asks in a thread of its own, again and again, what a Pod's image is admitted as."""

    def __init__(self, run: Run) -> None:
        self.admitted = 0
        self.others: list[str] = []
        self._pods = client.CoreV1Api(api_client(run))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        pod: Any = {
            "metadata": {"name": "watched"},
            "spec": {"containers": [{"name": "one", "image": "nginx:1"}]},
        }
        while not self._over.is_set():
            try:
                created: Any = self._pods.create_namespaced_pod("default", pod, dry_run="All")
                image = str(created.spec.containers[0].image)
            except client.ApiException as error:
                image = str(error)
            self.admitted += 1
            if image != f"{_DOMAIN}/library/nginx:1":
                self.others.append(image)
            time.sleep(0.02)


def _encoded(secret: str, username: str) -> Iterator[str]:
    """The forms a secret may have: its own, and those of kubelets, Kubernetes and the API."""
    once = base64.b64encode(secret.encode()).decode()
    yield secret
    yield once
    yield base64.b64encode(once.encode()).decode()
    yield base64.b64encode(f"{username}:{secret}".encode()).decode()


def _login_in(run: Run, namespace: str) -> str:
    found: Any = client.CoreV1Api(api_client(run)).read_namespaced_secret(SECRET, namespace)
    return base64.b64decode(found.data[".dockerconfigjson"]).decode()


def _assert_policy_before_kyverno(deleted: list[str]) -> None:
    assert deleted.index("rehearsal-redirect-policy") < deleted.index("rehearsal-kyverno-release")
