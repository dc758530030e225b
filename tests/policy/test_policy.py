"""The policy files with a stack's values."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from components.policy import (
    OPT_OUT_LABEL,
    load,
    match_conditions,
    minor,
    redirect,
    unserved_images,
)
from components.types import DOCKER_HUB, Access, Engine, Proxy
from tests.support.policies import values

AS_IN_THE_FILES = (
    Proxy(
        host=DOCKER_HUB,
        domain="dockerhub-proxy.example.com",
        namespaces={"library": Access.PUBLIC},
    ),
    Proxy(host="ghcr.io", domain="ghcr-proxy.example.com", namespaces={"kyverno": Access.PUBLIC}),
)
FILES = {
    Engine.CLUSTER_POLICY: "image-redirect/cluster-policy.yaml",
    Engine.MUTATING_POLICY: "image-redirect/mutating-policy.yaml",
    Engine.MUTATING_ADMISSION_POLICY: "image-redirect/mutating-admission-policy.yaml",
}
VALUES = values(
    Engine.CLUSTER_POLICY,
    [
        Proxy(
            host=DOCKER_HUB,
            domain="hub.cr.volces.com",
            namespaces={"library": Access.PUBLIC, "bitnami": Access.PRIVATE},
        ),
        Proxy(host="ghcr.io", domain="ghcr.cr.volces.com", namespaces={"acme": Access.PRIVATE}),
    ],
    pull_secret="proxy-login",
    excluded_namespaces=["kyverno", "infra"],
    excluded_pod_labels=["example.com/operated", "app=db"],
)


def variables(policy: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["expression"] for each in policy["spec"]["variables"]}


def sieve(policy: dict[str, Any]) -> str:
    spec = policy["spec"]
    conditions = spec.get("matchConditions") or spec["webhookConfiguration"]["matchConditions"]
    expression: str = conditions[-1]["expression"]
    return expression


@pytest.mark.parametrize("engine", Engine)
def test_with_a_files_own_values_the_file_is_what_comes_out(engine: Engine) -> None:
    """Each default, and each match condition, is the same in the code and in the files."""
    found = redirect(values(engine, AS_IN_THE_FILES))
    expected = load(FILES[engine])
    if engine is Engine.CLUSTER_POLICY:
        (conditions,) = load("match-conditions.yaml")
        expected[0]["spec"]["webhookConfiguration"] |= conditions["spec"]["webhookConfiguration"]
    assert found == expected


def test_with_its_own_values_the_policy_that_warns_is_its_file() -> None:
    assert unserved_images(AS_IN_THE_FILES[:1]) == load(
        "unserved-images/validating-admission-policy.yaml"
    )


def test_the_cel_policies_differ_in_nothing_below_their_match_conditions() -> None:
    one, other = (
        load(FILES[engine])[0]["spec"]
        for engine in (Engine.MUTATING_POLICY, Engine.MUTATING_ADMISSION_POLICY)
    )
    for part in ("matchConstraints", "variables", "mutations"):
        assert one[part] == other[part]
    assert one["matchConditions"][:-1] == other["matchConditions"]


def test_the_parameters_of_a_cluster_policy_are_set_by_name() -> None:
    (policy,) = redirect(VALUES)
    (rule,) = policy["spec"]["rules"]
    assert rule["mutate"]["foreach"][0]["context"][0]["variable"]["value"] == {
        "proxies": {
            "": "hub.cr.volces.com",
            "docker.io/": "hub.cr.volces.com",
            "index.docker.io/": "hub.cr.volces.com",
            "registry-1.docker.io/": "hub.cr.volces.com",
            "registry.hub.docker.com/": "hub.cr.volces.com",
            "ghcr.io/": "ghcr.cr.volces.com",
        },
        "served": {"hub.cr.volces.com": " bitnami library ", "ghcr.cr.volces.com": " acme "},
        "private": {"hub.cr.volces.com": " bitnami ", "ghcr.cr.volces.com": " acme "},
        "pullSecret": "proxy-login",
    }


@pytest.mark.parametrize("engine", [Engine.MUTATING_POLICY, Engine.MUTATING_ADMISSION_POLICY])
def test_the_parameters_of_a_cel_policy_are_set_by_name(engine: Engine) -> None:
    found = variables(redirect(replace(VALUES, engine=engine))[0])
    assert found["proxies"].startswith('{"": "hub.cr.volces.com", "docker.io/": ')
    assert found["served"] == (
        '{"hub.cr.volces.com/bitnami": "Private", "hub.cr.volces.com/library": "Public",'
        ' "ghcr.cr.volces.com/acme": "Private"}'
    )
    assert found["pullSecret"] == '"proxy-login"'


@pytest.mark.parametrize("engine", Engine)
def test_what_is_left_alone_is_in_the_match_conditions(engine: Engine) -> None:
    (policy, *_) = redirect(replace(VALUES, engine=engine))
    spec = policy["spec"]
    conditions = spec.get("matchConditions") or spec["webhookConfiguration"]["matchConditions"]
    expression = conditions[0]["expression"]
    assert '["kube-system", "kube-public", "kube-node-lease", "kyverno", "infra"]' in expression
    for label in (f"{OPT_OUT_LABEL}=disabled", "cnpg.io/cluster", "example.com/operated", "app=db"):
        assert f'"{label}"' in expression


def test_what_is_left_alone_is_excluded_from_a_cluster_policys_rule() -> None:
    excluded = redirect(VALUES)[0]["spec"]["rules"][0]["exclude"]["any"]
    selectors = [each["resources"].get("selector") for each in excluded]
    assert {"matchLabels": {"app": "db"}} in selectors
    operated = {"key": "example.com/operated", "operator": "Exists"}
    assert {"matchExpressions": [operated]} in selectors


@pytest.mark.parametrize("engine", [Engine.CLUSTER_POLICY, Engine.MUTATING_POLICY])
def test_the_sieve_names_the_namespaces_served(engine: Engine) -> None:
    (policy,) = redirect(replace(VALUES, engine=engine))
    assert '" bitnami library ghcr.io/acme ".contains(' in sieve(policy)


def test_kyverno_is_called_for_every_new_pod_where_that_is_asked_for() -> None:
    policies = (redirect(replace(VALUES, every_new_pod=each))[0] for each in (False, True))
    marked, every = map(sieve, policies)
    assert marked.startswith('request.operation == "CREATE" && ["labels", "annotations"]')
    assert every.startswith('request.operation == "CREATE" || (')


def test_a_value_with_quotes_stays_one_literal() -> None:
    first, *_ = match_conditions((), namespaces=['a"]) || true || ("\\'])
    assert r'["a\"]) || true || (\"\\"]' in first["expression"]


@pytest.mark.parametrize(
    ("kubernetes", "version"),
    [("1.34", "v1beta1"), ("v1.35.9-vke.1", "v1beta1"), ("1.36", "v1"), (None, "v1")],
)
def test_the_native_policy_has_the_version_kubernetes_has(
    kubernetes: str | None, version: str
) -> None:
    found = redirect(
        replace(VALUES, engine=Engine.MUTATING_ADMISSION_POLICY, kubernetes_version=kubernetes)
    )
    assert {each["apiVersion"] for each in found} == {f"admissionregistration.k8s.io/{version}"}


def test_a_version_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="'latest' is not a version"):
        minor("latest")
