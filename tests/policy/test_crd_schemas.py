"""The Kyverno policies are valid in the schemas of every Kyverno version they are for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from components.policy import (
    KYVERNO_VERSIONS,
    OLDEST_GENERATING_KYVERNO,
    POLICIES,
    minor,
    redirect,
)
from components.pull_credentials import copying_policy
from components.types import DOCKER_HUB, Access, Engine, Proxy
from components.vci_mirror import VciMirrorArgs, annotating_policy
from rehearsal.progress import Progress
from tests.support.kyverno_charts import VERSIONS
from tests.support.modules import module_files
from tests.support.policies import values

PROXIES = (
    Proxy(
        host=DOCKER_HUB,
        domain="a.example",
        namespaces={"library": Access.PUBLIC, "bitnami": Access.PRIVATE},
    ),
)


@pytest.fixture(scope="module", params=VERSIONS)
def kyverno(request: pytest.FixtureRequest) -> tuple[str, Path]:
    """A Kyverno version and its CRDs, from the Go module proxy."""
    version: str = request.param
    crds = module_files(
        f"github.com/kyverno/kyverno@v{version}//config/crds",
        f"kyverno-crds-{version}",
        Progress(),
    )
    return version, crds


def problems(source: Path, document: dict[str, Any]) -> list[str]:
    """What the CRD says against a manifest, unknown fields included."""
    group, version = document["apiVersion"].split("/")
    plural = document["kind"].lower().removesuffix("y") + "ies"
    (file,) = source.rglob(f"{group}_{plural}.yaml")
    crd = read(file)
    served = {each["name"]: each for each in crd["spec"]["versions"]}
    schema = strict(served[version]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {}
    validator = jsonschema.Draft7Validator(schema)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


@cache
def read(file: Path) -> Any:
    """A CRD; by the C parser, for it is large."""
    return yaml.load(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)


def strict(schema: Any) -> Any:
    """The schema with unknown fields refused, as by `kubectl apply --validate=strict`."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    strict_schema = {key: strict(value) for key, value in schema.items()}
    if isinstance(strict_schema.get("properties"), dict) and strict_schema.get("type") == "object":
        strict_schema.setdefault(
            "additionalProperties", bool(strict_schema.get("x-kubernetes-preserve-unknown-fields"))
        )
    if strict_schema.get("x-kubernetes-int-or-string"):
        strict_schema.pop("type", None)
    return strict_schema


@pytest.mark.parametrize(
    "file",
    [
        "image-redirect/cluster-policy.yaml",
        "match-conditions.yaml",
        "pull-credentials/cluster-policy.yaml",
        "vci-mirror/cluster-policy.yaml",
    ],
)
def test_the_cluster_policies_are_valid_as_they_stand(kyverno: tuple[str, Path], file: str) -> None:
    _, source = kyverno
    policy = yaml.safe_load((POLICIES / file).read_text(encoding="utf-8"))
    assert problems(source, policy) == []


def test_what_is_applied_is_valid(kyverno: tuple[str, Path]) -> None:
    version, source = kyverno
    for engine, (oldest, _) in KYVERNO_VERSIONS.items():
        if oldest <= minor(version):
            for document in redirect(values(engine, PROXIES, pull_secret="proxy-login")):
                assert problems(source, document) == []
            args = VciMirrorArgs(proxies=PROXIES, engine=engine, timeout_seconds=2)
            assert problems(source, annotating_policy(args, ["a.example"] * len(PROXIES))) == []


def test_what_copies_the_login_is_valid(kyverno: tuple[str, Path]) -> None:
    version, source = kyverno
    assert problems(source, copying_policy(Engine.CLUSTER_POLICY, ["infra"], "1")) == []
    if minor(version) >= OLDEST_GENERATING_KYVERNO:
        assert problems(source, copying_policy(Engine.MUTATING_POLICY, ["infra"], "1")) == []


def test_an_unknown_field_is_a_problem(kyverno: tuple[str, Path]) -> None:
    _, source = kyverno
    (policy,) = redirect(values(Engine.CLUSTER_POLICY, PROXIES))
    policy["spec"]["rules"][0]["mutat"] = {}
    assert any("mutat" in each for each in problems(source, policy))
