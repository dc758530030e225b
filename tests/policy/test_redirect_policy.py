"""The policy files given a stack's values."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml

from components.redirect_policy import (
    FOLDER,
    OPT_OUT_LABEL,
    ORIGINALS_ANNOTATION,
    RedirectValues,
    render,
    unavailable,
)
from components.types import Engine, FailurePolicy

VALUES = RedirectValues(
    domain="team-cn-beijing.cr.volces.com",
    namespaces=["library", "bitnami"],
    private_namespaces=["bitnami"],
    pull_secret="proxy-login",
    excluded_namespaces=["infra"],
    excluded_pod_labels=["example.com/operated"],
    failure_policy=FailurePolicy.FAIL,
    timeout_seconds=7,
    name="to-the-proxy",
)
NEW = {"kubernetes_version": "v1.36.1-vke.2", "kyverno_version": "1.19"}


def rendered(
    engine: Engine, values: RedirectValues = VALUES, **options: Any
) -> list[dict[str, Any]]:
    return render(engine, values, **{**NEW, **options})


@pytest.mark.parametrize("engine", Engine)
def test_every_value_is_in_the_manifest(engine: Engine) -> None:
    documents = rendered(engine)
    text = json.dumps(documents)
    for value in (
        "team-cn-beijing.cr.volces.com", "bitnami", "proxy-login", "infra", "kube-system",
        "kyverno", "example.com/operated", "cnpg.io/cluster", OPT_OUT_LABEL, ORIGINALS_ANNOTATION,
    ):  # fmt: skip
        assert value in text, value
    assert "example.com'" not in text.replace("example.com/operated", "")
    assert documents[0]["metadata"]["name"] == "to-the-proxy"
    assert documents[0]["spec"]["failurePolicy"] == "Fail"


@pytest.mark.parametrize("engine", Engine)
def test_without_values_set_the_file_is_what_is_rendered(engine: Engine) -> None:
    """The defaults of the code and of the files are the same."""
    values = RedirectValues(domain="dockerhub-proxy.example.com", namespaces=["library"])
    files = {
        Engine.CLUSTER_POLICY: "cluster-policy.yaml",
        Engine.MUTATING_POLICY: "mutating-policy.yaml",
        Engine.MUTATING_ADMISSION_POLICY: "mutating-admission-policy.yaml",
    }
    stand = list(yaml.safe_load_all((FOLDER / files[engine]).read_text(encoding="utf-8")))
    old: dict[str, Any] = {"kyverno_version": "1.11"} if engine is Engine.CLUSTER_POLICY else {}
    assert rendered(engine, values, **old) == stand


@pytest.mark.parametrize("engine", Engine)
def test_a_domain_not_known_yet_is_lifted(engine: Engine) -> None:
    lifted: list[Any] = []

    def lift(value: Any, function: Any) -> Any:
        lifted.append((value, function))
        return "later"

    unknown = object()
    values = RedirectValues(domain=unknown, namespaces=["library"])
    documents = rendered(engine, values, lift=lift)
    ((value, function),) = lifted
    assert value is unknown
    assert function("a.example") in {"'a.example'", "a.example"}
    assert "later" in json.dumps(documents)
    with pytest.raises(ValueError, match="not a registry's host name"):
        function("a.example'; x")


def test_match_conditions_are_only_for_versions_that_have_them() -> None:
    new = rendered(Engine.CLUSTER_POLICY)[0]["spec"]
    assert new["webhookConfiguration"]["timeoutSeconds"] == 7
    left_alone, writes = (
        each["expression"] for each in new["webhookConfiguration"]["matchConditions"]
    )
    assert "' library bitnami '.contains(" in writes
    assert "'kube-node-lease', 'kyverno', 'infra']" in left_alone
    assert "['cnpg.io/cluster', " in left_alone
    olds: list[dict[str, Any]] = [{"kyverno_version": "1.11"}, {"kubernetes_version": "1.27"}]
    for old in olds:
        spec = rendered(Engine.CLUSTER_POLICY, **old)[0]["spec"]
        assert "webhookConfiguration" not in spec
        assert spec["webhookTimeoutSeconds"] == 7


@pytest.mark.parametrize(
    ("kyverno", "kubernetes", "conditions"),
    [
        ("1.11", "1.32", []),
        ("1.12", "1.27", []),
        ("1.12", "1.32", ["is-not-left-alone", "writes-an-image", "has-images-kyverno-can-read"]),
        ("1.13", "1.32", ["is-not-left-alone", "writes-an-image"]),
        (None, None, ["is-not-left-alone", "writes-an-image"]),
    ],
)
def test_kyverno_1_12_is_not_asked_about_images_it_cannot_read(
    kyverno: str | None, kubernetes: str | None, conditions: list[str]
) -> None:
    (policy,) = rendered(
        Engine.CLUSTER_POLICY, kyverno_version=kyverno, kubernetes_version=kubernetes
    )
    found = policy["spec"].get("webhookConfiguration", {}).get("matchConditions", [])
    assert [each["name"] for each in found] == conditions


def test_the_condition_of_a_policy_and_of_its_mutation_are_the_same() -> None:
    """The predicate stands twice in each of the CEL policies: word for word."""
    found = []
    for file in ("mutating-policy.yaml", "mutating-admission-policy.yaml"):
        for text in re.findall(
            r"c\.image\.size\(\) <= 700.*?\.exists\(o, o\.name == c\.name.*?\)",
            (FOLDER / file).read_text(encoding="utf-8"),
            re.DOTALL,
        ):
            # The condition leaves volumes out of its list on an update, the mutation says so here.
            volumes = "!c.path.startsWith('/spec/volumes/') && "
            words = " ".join(text.split()).replace(volumes, "")
            found += [words.replace("variables.served", "served")]
    assert len(found) == 4
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("kubernetes", "version"),
    [("1.34", "v1beta1"), ("v1.35.9-vke.1", "v1beta1"), ("1.36", "v1"), (None, "v1")],
)
def test_the_native_policy_has_the_version_kubernetes_has(
    kubernetes: str | None, version: str
) -> None:
    documents = rendered(Engine.MUTATING_ADMISSION_POLICY, kubernetes_version=kubernetes)
    assert {each["apiVersion"] for each in documents} == {f"admissionregistration.k8s.io/{version}"}


@pytest.mark.parametrize(
    ("engine", "kubernetes", "kyverno", "message"),
    [
        (Engine.CLUSTER_POLICY, "1.24", "1.11", None),
        (Engine.CLUSTER_POLICY, "1.37", "1.19", None),
        (Engine.CLUSTER_POLICY, None, None, None),
        (Engine.CLUSTER_POLICY, "1.32", "1.10", "3.1.0 or newer"),
        (Engine.CLUSTER_POLICY, "1.32", "1.20", "to MutatingPolicy"),
        (Engine.MUTATING_POLICY, "1.32", "1.18", None),
        (Engine.MUTATING_POLICY, "1.32", "1.17", "3.8.0 or newer"),
        (Engine.MUTATING_ADMISSION_POLICY, "1.34", None, None),
        (
            Engine.MUTATING_ADMISSION_POLICY,
            "v1.33.4-vke.1",
            None,
            "redirect.engine to ClusterPolicy",
        ),
    ],
)
def test_an_engine_a_version_has_not_is_a_clear_error(
    engine: Engine, kubernetes: str | None, kyverno: str | None, message: str | None
) -> None:
    versions: dict[str, Any] = {"kubernetes_version": kubernetes, "kyverno_version": kyverno}
    reason = unavailable(engine, **versions)
    if message is None:
        assert reason is None
        return
    assert reason is not None
    assert message in str(reason)
    with pytest.raises(ValueError, match=re.escape(str(reason))):
        render(engine, VALUES, **versions)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"namespaces": []}, "namespaces is empty"),
        ({"namespaces": ["a'b"]}, "cannot stand in a policy"),
        ({"namespaces": ["{{a}}"]}, "cannot stand in a policy"),
        ({"excluded_namespaces": ["a'b"]}, "cannot stand in a policy"),
        ({"excluded_pod_labels": ["a'b"]}, "cannot stand in a policy"),
        ({"private_namespaces": ["other"]}, "which namespaces has not"),
        ({"domain": "proxy"}, "not a registry's host name"),
        ({"domain": "a.b/c"}, "not a registry's host name"),
        ({"pull_secret": "a'b"}, "not a Secret's name"),
        ({"timeout_seconds": 0}, "use 1 to 30"),
    ],
)
def test_a_bad_value_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RedirectValues(**{"domain": "a.example", "namespaces": ["library"], **values})


def test_only_the_cluster_policy_can_look_up() -> None:
    (policy,) = rendered(Engine.CLUSTER_POLICY, lookup=True)
    assert "imageRegistry" in json.dumps(policy)
    assert "imageRegistry" not in json.dumps(rendered(Engine.CLUSTER_POLICY))
    for engine in (Engine.MUTATING_POLICY, Engine.MUTATING_ADMISSION_POLICY):
        with pytest.raises(ValueError, match=r"redirect\.lookup to none"):
            rendered(engine, lookup=True)
