"""The login for Pods under mocks: what copies it, and what its copies depend on."""

from __future__ import annotations

from typing import Any

import pytest

from components.labels import LABELS
from components.pull_credentials import ROLE, SECRET, await_collected, copying_policy
from components.types import Engine
from tests.support.configs import ENTERPRISE, changed, config
from tests.support.recorder import Recording, record

COPYING = {
    Engine.CLUSTER_POLICY: "kubernetes:kyverno.io/v1:ClusterPolicy",
    Engine.MUTATING_POLICY: "kubernetes:policies.kyverno.io/v1:GeneratingPolicy",
}


@pytest.fixture(scope="module", params=COPYING)
def recording(request: pytest.FixtureRequest) -> tuple[Recording, Any]:
    """The program with private namespaces, and what it registers to copy the login in `apps`."""
    found = record(config(changed(ENTERPRISE, "redirect.engine", request.param.value)))
    (policy,) = (
        each
        for each in found.of_type(COPYING[request.param])
        if each.name == "apps-pull-credentials-policy"
    )
    return found, policy


def test_the_copies_are_owned_by_the_role_and_their_deletion_is_waited_for() -> None:
    """So none is left when the stack takes the role away, whether Kyverno is there or not."""
    for engine in COPYING:
        (manifest,) = [copying_policy(engine, [], "1")]
        text = repr(manifest["spec"])
        assert "ownerReferences" in text
        assert ROLE in text
        assert "blockOwnerDeletion" in text


def test_a_policy_that_goes_leaves_the_copies() -> None:
    """So it can be created again, or in the other kind, without a moment without logins."""
    (rule,) = copying_policy(Engine.CLUSTER_POLICY, [], "1")["spec"]["rules"]
    assert rule["generate"]["orphanDownstreamOnPolicyDelete"] is True
    evaluation = copying_policy(Engine.MUTATING_POLICY, [], "1")["spec"]["evaluation"]
    assert evaluation["orphanDownstreamOnPolicyDelete"] == {"enabled": True}


def test_exclusions_stand_where_kyverno_lets_them_change() -> None:
    """Kyverno refuses other changes of a generate rule that keeps what it generates in step."""
    one = copying_policy(Engine.CLUSTER_POLICY, [], "1")
    other = copying_policy(Engine.CLUSTER_POLICY, ["batch-jobs", "security"], "2")
    for each in (one, other):
        (rule,) = each["spec"]["rules"]
        foreach = rule["generate"].pop("foreach")
        assert len(foreach) == 1
    assert one == other


def test_the_policy_changes_with_the_secret_and_the_role(recording: tuple[Recording, Any]) -> None:
    _, policy = recording
    assert "1 apps-pull-credentials-role-uid" in repr(policy.inputs["spec"])


def test_the_policy_comes_after_the_secret_and_the_role_and_goes_before(
    recording: tuple[Recording, Any],
) -> None:
    _, policy = recording
    assert {"apps-pull-credentials-login", "apps-pull-credentials-role"} <= set(policy.depends_on)
    assert not policy.delete_before_replace


def test_kyverno_may_keep_secrets_and_its_admission_controller_at_most_read_them(
    recording: tuple[Recording, Any],
) -> None:
    found, policy = recording
    roles = found.of_type("kubernetes:rbac.authorization.k8s.io/v1:ClusterRole")
    verbs = {
        label.removeprefix("rbac.kyverno.io/aggregate-to-"): each.inputs["rules"][0]["verbs"]
        for each in roles
        if each.name.startswith("apps-pull-credentials-")
        for label in set(each.inputs["metadata"]["labels"]) - set(LABELS)
    }
    keeps = ["get", "list", "watch", "create", "update", "delete"]
    if policy.inputs["kind"] == "ClusterPolicy":  # which Kyverno refuses otherwise
        assert verbs == {"background-controller": keeps, "admission-controller": ["get", "list"]}
    else:
        assert verbs == {"background-controller": keeps}


def test_the_copies_and_the_policy_are_found_by_their_labels(
    recording: tuple[Recording, Any],
) -> None:
    _, policy = recording
    assert policy.inputs["metadata"]["labels"] == LABELS
    assert policy.inputs["metadata"]["name"] == SECRET
    assert "app.kubernetes.io/part-of: vke-dockerhub-proxy" in repr(policy.inputs["spec"]).replace(
        "'", ""
    )


def test_excluded_namespaces_get_no_login(recording: tuple[Recording, Any]) -> None:
    _, policy = recording
    for name in ("kube-system", "kyverno", "dockerhub-proxy", "dockerhub-proxy-nodes"):
        assert name in repr(policy.inputs["spec"])


LABEL = "rbac.kyverno.io/aggregate-to-background-controller"


class Answering:
    """An API server that has these cluster roles, one look after the other."""

    def __init__(self, *looks: list[dict[str, Any]]) -> None:
        self.looks = list(looks)
        self.asked = 0

    def get(self, path: str) -> Any:
        assert path.endswith("/clusterroles")
        self.asked += 1
        return {"items": self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]}


def collecting(*verbs: str, label: str = LABEL) -> dict[str, Any]:
    """A role that collects others' rights, with these to Secrets."""
    rules = [{"resources": ["configmaps"], "verbs": ["*"]}]
    return {
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]},
        "rules": [*rules, *([{"resources": ["secrets"], "verbs": list(verbs)}] if verbs else [])],
    }


@pytest.mark.parametrize(
    ("looks", "asked"),
    [
        pytest.param([[collecting("get", "create")]], 1, id="there"),
        pytest.param([[collecting()], [collecting("get", "create")]], 2, id="a-moment-later"),
        pytest.param([[collecting("get")], [collecting("get", "create")]], 2, id="not-all-yet"),
        pytest.param([[collecting(label="x"), {"rules": None}]], 1, id="nobody-collects"),
    ],
)
def test_the_policy_waits_until_kyverno_has_its_rights(
    looks: list[list[dict[str, Any]]], asked: int
) -> None:
    api: Any = Answering(*looks)
    await_collected(api, LABEL, ["get", "create"])
    assert api.asked == asked


def test_rights_that_never_come_are_left_to_kyverno_to_miss() -> None:
    api: Any = Answering([collecting()])
    await_collected(api, LABEL, ["get"], seconds=0.3)
    assert api.asked >= 1
