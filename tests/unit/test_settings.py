"""The stack's inputs: what is valid, what is not, and the error messages."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.runtime import set_all_config

from components.policy import DOCKER_HUB_HOSTS
from components.types import Access, Edition, Engine
from rehearsal.locations import CHECKOUT
from settings import Settings, load, parse, warnings
from settings.errors import PROJECT, Problem, SettingsError
from settings.model import SECTIONS
from tests.support.configs import ENTERPRISE, GHCR, MICRO, QUAY, changed, config, kubeconfig


def problems(document: dict[str, Any], region: str | None = "cn-beijing") -> list[Problem]:
    with pytest.raises(SettingsError) as caught:
        parse(document, region=region)
    return caught.value.problems


def settings(document: dict[str, Any], region: str = "cn-beijing") -> Settings:
    return parse(document, region=region)


def by_kubeconfig(text: str, name: str = "apps") -> dict[str, Any]:
    return {"name": name, "kubeconfig": text, "vpcId": "vpc-1", "subnetId": "subnet-1"}


def test_a_micro_stack_needs_only_a_name_and_a_namespace() -> None:
    read = settings({"registry": {"name": "hub", "namespaces": ["library"]}})
    assert read.registry.edition is Edition.MICRO
    assert read.registry.namespaces[0].access is Access.PRIVATE
    assert read.registry.protection
    assert read.redirect.engine is Engine.CLUSTER_POLICY
    assert read.redirect.failure_policy == "Ignore"


def test_a_configured_zero_or_false_is_not_turned_into_a_default() -> None:
    assert settings(changed(MICRO, "redirect.enabled", False)).redirect.enabled is False


ENTERPRISE_GHCR = {**GHCR, "edition": "Enterprise"}
WITH_GHCR = changed(MICRO, "upstreams", [GHCR])
WITH_BOTH = changed(MICRO, "upstreams", [QUAY, GHCR])

BASES = {
    "micro": MICRO,
    "enterprise": ENTERPRISE,
    "ghcr": WITH_GHCR,
    "both": WITH_BOTH,
    "kubeconfig": changed(MICRO, "clusters", [{"name": "apps", "kubeconfig": kubeconfig()}]),
}
BAD: list[dict[str, Any]] = [
    *yaml.safe_load((CHECKOUT / "tests/data/invalid-settings.yaml").read_text()),
    *(
        {
            "case": case,
            "base": "kubeconfig",
            "set": {"clusters.0.kubeconfig": kubeconfig().replace(old, new)},
            "found": "a secret (not shown)",
            "allowed": "leads to no server",
        }
        for case, old, new in (
            ("kubeconfig-without-server", "https://", ""),
            ("kubeconfig-without-context", "current-context", "context"),
        )
    ),
    {
        "case": "kubeconfig-twice",
        "set": {
            "clusters.0": by_kubeconfig(kubeconfig()),
            "clusters.1": by_kubeconfig(f"{kubeconfig()} ", "data"),
        },
        "base": "enterprise",
        "setting": "clusters[1].kubeconfig",
        "found": "a kubeconfig of the same cluster, as in cluster 'apps'",
        "allowed": "each cluster once",
    },
    *(
        {
            "case": f"docker-hub-by-another-name-{host}",
            "base": "ghcr",
            "set": {"upstreams.0.host": host},
            "allowed": "another registry than Docker Hub",
        }
        for host in DOCKER_HUB_HOSTS
    ),
]


@pytest.mark.parametrize("case", [pytest.param(each, id=each["case"]) for each in BAD])
def test_an_invalid_setting_is_named_with_what_was_found_and_what_is_allowed(
    case: dict[str, Any],
) -> None:
    document = BASES[case.get("base", "micro")]
    changes = {**case.get("set", {}), **({case["remove"]: ...} if "remove" in case else {})}
    for path, value in changes.items():
        document = changed(document, path, value)
    (problem,) = problems(document)
    assert problem.setting == case.get("setting", re.sub(r"\.(\d+)", r"[\1]", path))
    assert problem.found == case.get("found", "nothing" if value is ... else repr(value))
    assert case["allowed"] in problem.allowed
    assert problem.do


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("registry.namespace", "did you mean 'namespaces'?"),
        ("clusters.0.clusterID", "did you mean 'clusterId'?"),
        ("registry.namespaces.0.acces", "did you mean 'access'?"),
        ("redirect.exclude.podLabel", "did you mean 'podLabels'?"),
        ("login.pod", "did you mean 'pods'?"),
        ("login.addon.namespace", "did you mean 'namespaces'?"),
        ("registries", "did you mean 'registry'?"),
        ("upstream", "did you mean 'upstreams'?"),
        ("redirct", "did you mean 'redirect'?"),
        ("kyverno.zzz", "remove it"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_known_one(path: str, near: str) -> None:
    (problem,) = problems(changed(MICRO, path, "x"))
    assert problem.found == "an unknown key"
    assert problem.do == near


def test_the_native_engine_is_valid_with_private_namespaces_where_the_addon_brings_logins() -> None:
    document = changed(ENTERPRISE, "redirect.engine", "MutatingAdmissionPolicy")
    for index in (0, 1):
        document = changed(document, f"clusters.{index}.kubernetesVersion", "1.36")
    assert {each.setting for each in problems(document)} == {"redirect.engine"}
    assert settings(changed(document, "login.pods", "addon")).registry.private_namespaces


def test_an_addon_nobody_needs_is_warned_of() -> None:
    (note,) = warnings(settings(changed(MICRO, "login.pods", "addon")))
    assert "login.pods is addon, but every namespace is public" in note
    assert warnings(settings(changed(ENTERPRISE, "login.pods", "addon"))) == []


def test_all_problems_inside_sections_are_reported_at_once() -> None:
    document = changed(MICRO, "registry.edition", "Small")
    document = changed(document, "registry.namespaces", ["library", "bitnami", "BAD"])
    document = changed(document, "kyverno.replicas", 2)
    found = {problem.setting for problem in problems(document, region=None)}
    assert found == {
        "volcengine:region",
        "registry.edition",
        "registry.namespaces[2].name",
        "kyverno.replicas",
    }


def test_all_problems_between_settings_are_reported_at_once_when_each_is_valid() -> None:
    document = changed(MICRO, "registry.namespaces", ["BAD", "bitnami"])
    document = changed(document, "pullCheck.image", "other/image:1")
    assert [each.setting for each in problems(document)] == ["registry.namespaces[0].name"]
    document = changed(document, "registry.namespaces", [{"name": "library", "access": "Public"}])
    document = changed(document, "kyverno", {"chart": "./chart", "repository": "https://a.example"})
    found = [each.setting for each in problems(document)]
    assert found == ["kyverno.repository", "pullCheck.image"]


def test_two_clusters_in_one_vpc_are_valid_but_not_with_two_subnets() -> None:
    first = by_kubeconfig(kubeconfig("a"), name="a")
    same = changed(
        ENTERPRISE, "clusters", [first, {**first, "name": "b", "kubeconfig": kubeconfig("b")}]
    )
    assert len(settings(same).clusters) == 2
    (problem,) = problems(changed(same, "clusters.1.subnetId", "subnet-2"))
    assert problem.setting == "clusters[1].vpcId"
    assert problem.found == "'vpc-1', as in clusters[0]"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("dockerhub.password", ["the-secret"], id="list"),
        pytest.param("login.pasword", "the-secret", id="misspelt-key"),
        pytest.param("clusters.0.kubeconfig", {"a": "the-secret"}, id="mapping"),
        pytest.param("clusters.0.kubeconfig", "the-secret", id="kubeconfig"),
        pytest.param("clusters.0", "the-secret", id="in-place-of-a-cluster"),
        pytest.param("clusters", "the-secret", id="in-place-of-clusters"),
        pytest.param("login", "the-secret", id="in-place-of-a-section"),
        pytest.param("dockerhub", "the-secret", id="in-place-of-the-account"),
        pytest.param("upstreams", [{**QUAY, "password": ["the-secret"]}], id="of-an-upstream"),
    ],
)
def test_an_error_never_shows_a_secret(path: str, value: Any) -> None:
    shown = "\n".join(str(problem) for problem in problems(changed(ENTERPRISE, path, value)))
    assert "the-secret" not in shown


def test_a_secret_of_the_wrong_kind_is_to_be_set_as_a_secret() -> None:
    (problem,) = problems(changed(ENTERPRISE, "login.password", 12345678))
    assert problem.do == "pulumi config set --secret --path 'vke-dockerhub-proxy:login.password'"


def test_settings_do_not_show_their_secrets_when_printed() -> None:
    assert "hub-password" not in repr(settings(ENTERPRISE))


def load_from(values: Mapping[str, str], *secret_keys: str) -> Settings:
    async def read() -> Settings:
        pulumi.runtime.set_mocks(_Nothing(), project=PROJECT, stack="test")
        set_all_config(dict(values), list(secret_keys))
        return load()

    return asyncio.run(read())


def refused(values: Mapping[str, str], *secret_keys: str) -> Problem:
    with pytest.raises(SettingsError) as caught:
        load_from(values, *secret_keys)
    (problem,) = caught.value.problems
    return problem


class _Nothing(pulumi.runtime.Mocks):
    def new_resource(self, args: Any) -> tuple[str | None, dict[Any, Any]]:
        raise AssertionError(f"{args.typ} was registered")

    def call(self, args: Any) -> tuple[dict[Any, Any], None]:
        raise AssertionError(f"{args.token} was called")


def test_a_secret_in_plaintext_is_refused_with_the_command_that_encrypts_it() -> None:
    problem = refused(config(ENTERPRISE).values, f"{PROJECT}:dockerhub")
    assert problem.setting == "login.password"
    assert problem.found == "a secret in plaintext (not shown)"
    assert "pulumi config set --secret --path 'vke-dockerhub-proxy:login.password'" in problem.do
    assert "Login-password-1" not in str(problem)


def test_encrypted_secrets_are_read() -> None:
    read = load_from(config(ENTERPRISE).values, f"{PROJECT}:dockerhub", f"{PROJECT}:login")
    assert read.login.password is not None
    assert read.login.password.get_secret_value() == "Login-password-1"


@pytest.mark.parametrize(
    ("key", "do"),
    [
        ("redirct", "did you mean 'redirect'?"),
        ("zone", "remove it"),
        ("region", "did you mean 'volcengine:region'?"),
        (
            "registry.name",
            (
                "pulumi config rm 'vke-dockerhub-proxy:registry.name'; then pulumi config set"
                " --path 'vke-dockerhub-proxy:registry.name' <value>"
            ),
        ),
    ],
    ids=["misspelt", "unlike-any", "of-the-provider", "set-without-path"],
)
def test_a_key_of_the_stack_file_that_is_no_section_is_refused(key: str, do: str) -> None:
    values = {**config(MICRO).values, f"{PROJECT}:{key}": "false", "other:redirct": "false"}
    problem = refused(values, f"{PROJECT}:login")
    assert (problem.setting, problem.found) == (key, "an unknown key")
    assert problem.do == do


def test_a_secret_in_plaintext_beside_an_encrypted_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import settings.reader as module

    clusters = [
        by_kubeconfig(kubeconfig("a"), name="a"),
        by_kubeconfig(kubeconfig("b"), name="b"),
    ]
    stack_file = {
        "config": {
            f"{PROJECT}:clusters": [
                {**clusters[0], "kubeconfig": {"secure": "AAAB"}},
                clusters[1],
            ]
        }
    }
    (tmp_path / "Pulumi.test.yaml").write_text(json.dumps(stack_file))
    monkeypatch.setattr(module, "STACK_FILES", tmp_path)
    values = config(changed(MICRO, "clusters", clusters)).values
    problem = refused(values, f"{PROJECT}:login", f"{PROJECT}:clusters")
    assert problem.setting == "clusters[1].kubeconfig"
    assert problem.found == "a secret in plaintext (not shown)"
    assert "kubeconfig-secret" not in str(problem)


def test_a_section_that_is_text_is_refused() -> None:
    values = {f"{PROJECT}:registry": "hub", "volcengine:region": "cn-beijing"}
    problem = refused(values)
    assert (problem.setting, problem.found) == ("registry", "text, not a structure")


@pytest.mark.parametrize("label", ["cnpg.io/cluster", "application=spilo", "empty="])
def test_pods_are_left_alone_by_a_label_or_by_its_value(label: str) -> None:
    read = settings(changed(MICRO, "redirect.exclude", {"podLabels": [label]}))
    assert read.redirect.exclude.pod_labels == [label]


@pytest.mark.parametrize(("kubernetes", "warned"), [("1.35", True), ("1.36", False)])
def test_the_native_engine_is_warned_of_where_it_is_off_by_default(
    kubernetes: str, warned: bool
) -> None:
    document = changed(MICRO, "redirect.engine", "MutatingAdmissionPolicy")
    document = changed(document, "clusters.0.kubernetesVersion", kubernetes)
    notes = warnings(settings(document))
    assert any("has it off unless its API server" in each for each in notes) == warned


@pytest.mark.parametrize(
    ("strict", "ways", "warned"),
    [(True, ["nodes"], True), (False, ["nodes"], False), (True, ["admission"], False)],
)
def test_strict_nodes_are_warned_of_with_the_namespaces_that_are_left(
    strict: bool, ways: list[str], warned: bool
) -> None:
    document = changed(MICRO, "nodeMirror.strict", strict)
    notes = warnings(settings(changed(document, "clusters.0.ways", ways)))
    assert any("pull nothing else of Docker Hub than" in each for each in notes) == warned
    assert all("library" in each for each in notes if "nodeMirror.strict" in each)


@pytest.mark.parametrize(
    ("document", "region", "warned"),
    [
        pytest.param(ENTERPRISE, "cn-shanghai", "registry.edition: ", id="the-one-there-may-be"),
        pytest.param(ENTERPRISE, "cn-beijing", None, id="one-of-three"),
        pytest.param(ENTERPRISE, "cn-elsewhere", None, id="a-region-of-unknown-quota"),
        pytest.param(MICRO, "cn-shanghai", None, id="micro"),
        pytest.param(
            changed(ENTERPRISE, "upstreams", [GHCR]),
            "cn-shanghai",
            "registry.edition: ",
            id="a-micro-upstream-beside",
        ),
        pytest.param(
            changed(MICRO, "upstreams", [ENTERPRISE_GHCR]),
            "cn-guangzhou",
            "upstreams[0].edition: ",
            id="the-upstream-is-the-one",
        ),
        pytest.param(
            changed(ENTERPRISE, "upstreams", [{**QUAY, "edition": "Enterprise"}, ENTERPRISE_GHCR]),
            "cn-beijing",
            "registry.edition, upstreams[1].edition, upstreams[0].edition: ",
            id="all-three",
        ),
    ],
)
def test_a_stack_that_takes_all_of_the_quota_is_warned_of(
    document: dict[str, Any], region: str, warned: str | None
) -> None:
    notes = [each for each in warnings(settings(document, region=region)) if "quota" in each]
    assert len(notes) == (warned is not None)
    assert all(each.startswith(warned or "") for each in notes)


@pytest.mark.parametrize(
    ("upstream", "warned"),
    [
        pytest.param(QUAY, False, id="an-image-is-named"),
        pytest.param({**QUAY, "pullCheckImage": None}, True, id="none-is"),
        pytest.param(GHCR, False, id="kyvernos-own-images"),
        pytest.param({**GHCR, "namespaces": ["acme"]}, True, id="ghcr-without-kyverno"),
        pytest.param({**GHCR, "host": "quay.io"}, True, id="kyverno-elsewhere"),
    ],
)
def test_a_proxy_that_no_pull_check_tries_is_warned_of(
    upstream: dict[str, Any], warned: bool
) -> None:
    document = changed(MICRO, "upstreams", [upstream])
    told = [each for each in warnings(settings(document)) if "pullCheckImage is not set" in each]
    assert len(told) == warned
    assert all(each.startswith("upstreams[0].") for each in told)
    for without in ("pullCheck.enabled", "clusters"):
        quiet = changed(document, without, False if without != "clusters" else [])
        assert not any("pullCheckImage is not set" in each for each in warnings(settings(quiet)))


@pytest.mark.parametrize(
    ("version", "registry", "warned"),
    [
        pytest.param("3.8.0", None, False, id="all-images-are-kyvernos"),
        pytest.param("3.7.2", None, True, id="kubectl-is-from-elsewhere"),
        pytest.param("3.7.2", "mirror.example.com", False, id="from-where-the-user-says"),
    ],
)
def test_a_chart_with_others_images_is_not_pulled_through_the_proxy_of_ghcr(
    version: str, registry: str | None, warned: bool
) -> None:
    document = changed(WITH_GHCR, "kyverno", {"version": version, "imageRegistry": registry})
    read = settings(document)
    assert any(each.startswith("kyverno.version") for each in warnings(read)) == warned
    assert (read.kyverno_proxy is not None) == (version == "3.8.0")


def test_proxies_are_in_the_same_order_however_they_are_written() -> None:
    other = changed(MICRO, "upstreams", [GHCR, QUAY])
    hosts = ["docker.io", "ghcr.io", "quay.io"]
    for document in (WITH_BOTH, other):
        assert [each.host for each in settings(document).proxies] == hosts
    assert [each.setting for each in settings(WITH_BOTH).proxies] == [
        "registry",
        "upstreams[1]",
        "upstreams[0]",
    ]


def test_replacement_is_allowed_on_the_day_named_and_on_no_other() -> None:
    registry = settings(changed(MICRO, "registry.allowReplacementOn", "2026-02-03")).registry
    assert registry.replacement_allowed(date(2026, 2, 3))
    assert not registry.replacement_allowed(date(2026, 2, 4))
    assert not settings(MICRO).registry.replacement_allowed()


def test_every_section_of_the_model_is_described_in_the_project_file() -> None:
    declared = yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())["config"]
    assert set(declared) == set(SECTIONS)
    assert all(json.dumps(each["description"]) for each in declared.values())


PUBLIC = {"name": "bitnami", "access": "Public"}


def test_a_mutating_policy_beside_private_namespaces_needs_a_kyverno_that_copies_logins() -> None:
    document = changed(ENTERPRISE, "redirect.engine", "MutatingPolicy")
    settings(document)
    document = changed(document, "kyverno.version", "3.8.1")
    (problem,) = problems(document)
    assert problem.setting == "kyverno.version"
    assert "does not change a login it has copied" in problem.allowed
    settings(changed(document, "registry.namespaces.1", PUBLIC))
    settings(changed(document, "login.pods", "addon"))


@pytest.mark.parametrize(
    ("document", "warned"),
    [
        pytest.param(changed(ENTERPRISE, "registry.namespaces.1", PUBLIC), True, id="public"),
        pytest.param(ENTERPRISE, False, id="private"),
        pytest.param(MICRO, False, id="no-account"),
        pytest.param(WITH_GHCR, False, id="an-upstream-without-account"),
    ],
)
def test_an_account_beside_a_public_namespace_is_warned_of(
    document: dict[str, Any], warned: bool
) -> None:
    """Whoever reaches the registry pulls what the account may read; official images are public."""
    notes = [each for each in warnings(settings(document)) if "may read there" in each]
    assert bool(notes) == warned
    if notes:
        assert "Public: bitnami;" in notes[0]
        assert "'someone'" in notes[0]


def test_an_account_of_an_upstream_beside_its_public_namespace_is_warned_of() -> None:
    (note,) = (each for each in warnings(settings(WITH_BOTH)) if "may read there" in each)
    assert note.startswith("upstreams[0].namespaces: Public: prometheus;")
    assert "the quay.io account 'robot'" in note


def test_the_secret_of_an_upstream_in_plaintext_is_refused() -> None:
    values = config(changed(MICRO, "upstreams", [QUAY])).values
    problem = refused(values, f"{PROJECT}:login")
    assert problem.setting == "upstreams[0].password"
    assert "quay-password" not in str(problem)
