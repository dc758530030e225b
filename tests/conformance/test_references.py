"""Every reference is redirected exactly as the parser containerd uses reads it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from components.types import Engine, FailurePolicy
from rehearsal.admit import Admission, admit
from tests.support.harness import DOMAIN, Cluster, KyvernoProcess
from tests.support.references import Oracle, generated, wild

GENERATED = 2400
SEED = 20261124

_GENERATED_NAME = re.compile(r'Pod "admit-[^"]*"')


@pytest.fixture(scope="module")
def references(oracle: Oracle) -> list[str]:
    return list(dict.fromkeys([*oracle.tables(), *wild(), *generated(GENERATED, SEED)]))


@pytest.fixture(scope="module")
def served(oracle: Oracle, references: list[str]) -> list[str]:
    """Three of four Docker Hub namespaces in the references, `library` among them.

    `localhost` and names that a registry's host could have are served too: only the parser says
    where they are namespaces.
    """
    verdicts = oracle.judge(references, domain=DOMAIN, namespaces=["library"])
    hosts = {"docker.io", "registry-1.docker.io"}
    found = sorted({each["path"].split("/")[0] for each in verdicts if each.get("domain") in hosts})
    return ["library", *(name for at, name in enumerate(found) if at % 4 and name != "library")]


@pytest.fixture(scope="module")
def plain(cluster: Cluster, references: list[str]) -> list[Admission]:
    """What the API server makes of the references without any policy."""
    return list(admit(cluster.api, references, namespace="default", workers=4))


def test_every_reference_is_redirected_as_the_parser_reads_it(
    cluster: Cluster,
    engine: Engine,
    oracle: Oracle,
    references: list[str],
    served: list[str],
    plain: list[Admission],
) -> None:
    expected = oracle.judge(references, domain=DOMAIN, namespaces=served)
    with cluster.policy(engine, namespaces=served):
        found = list(admit(cluster.api, references, namespace="default", workers=4))
    # The one exception: what Kubernetes itself refuses, an empty image and one with leading or
    # trailing whitespace, it refuses in the same words with the policy.
    refused = [each for each in plain if each.error]
    wrong = [
        (each.image, _wanted(verdict, before), _made(each))
        for each, verdict, before in zip(found, expected, plain, strict=True)
        if _made(each) != _wanted(verdict, before)
    ]
    assert wrong == []
    assert all(not each.image or each.image != each.image.strip() for each in refused)
    redirected = sum("redirect" in each for each in expected)
    assert len(references) >= GENERATED + 400
    assert redirected >= 700
    print(  # noqa: T201
        f"{engine}: {len(references)} references, {redirected} redirected,"
        f" {sum('error' in each for each in expected)} invalid, {len(refused)} refused by"
        f" Kubernetes itself, {len(served)} namespaces served, {len(wrong)} wrong"
    )


def test_kyverno_is_called_for_the_references_to_redirect_and_for_no_other(
    cluster: Cluster,
    engine: Engine,
    oracle: Oracle,
    references: list[str],
    served: list[str],
    plain: list[Admission],
    request: pytest.FixtureRequest,
) -> None:
    if engine == "MutatingAdmissionPolicy":
        return
    kyverno: KyvernoProcess = request.getfixturevalue("kyverno")
    expected = oracle.judge(references, domain=DOMAIN, namespaces=served)
    with (
        cluster.policy(engine, namespaces=served, failure_policy=FailurePolicy.FAIL),
        kyverno.stopped(),
    ):
        found = list(admit(cluster.api, references, namespace="default", workers=4))
    wrong = [
        each.image
        for each, verdict, before in zip(found, expected, plain, strict=True)
        if (each.error is not None) != ("redirect" in verdict or before.error is not None)
    ]
    assert wrong == []


def test_what_is_redirected_reads_back_as_the_same_image(
    oracle: Oracle, references: list[str], served: list[str]
) -> None:
    before = [
        each
        for each in oracle.judge(references, domain=DOMAIN, namespaces=served)
        if "redirect" in each
    ]
    after = oracle.judge(
        [each["redirect"] for each in before], domain=DOMAIN, namespaces=["library"]
    )
    for old, new in zip(before, after, strict=True):
        assert new["domain"] == DOMAIN
        assert {key: new.get(key) for key in ("path", "tag", "digest")} == {
            key: old.get(key) for key in ("path", "tag", "digest")
        }


def _wanted(verdict: dict[str, Any], before: Admission) -> str:
    if before.error:
        return _GENERATED_NAME.sub("Pod", before.error)
    wanted: str = verdict.get("redirect", verdict["reference"])
    return wanted


def _made(admission: Admission) -> str | None:
    return admission.admitted or _GENERATED_NAME.sub("Pod", admission.error or "")
