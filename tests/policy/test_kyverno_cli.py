"""The cases beside the Kyverno policies, run by Kyverno's own command line."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from components.kyverno import CHECK_ARGUMENTS
from components.policy import POLICIES
from components.pull_check import pod_spec
from rehearsal.parts import build as parts
from rehearsal.progress import Progress
from tests.support.kyverno_charts import VERSIONS
from tests.support.modules import module_files

CASES = sorted(POLICIES.glob("*/tests/*/kyverno-test.yaml"))
EXPECTED = {
    "image-redirect": ("/library/nginx:1.27", "/library/nginx:1.28"),
    "vci-mirror": ("dockerhub-proxy.example.com", "other.example.com"),
}
"""Of each policy, a text its expected Pods hold and another that is wrong there."""


def name_of(case: Path) -> str:
    return f"{case.parents[2].name}/{case.parent.name}"


@pytest.fixture(scope="module")
def kyverno() -> Path:
    return parts.obtain(("kyverno",), Progress())["kubectl-kyverno"]


def test_the_program_of_kyverno_that_the_pull_check_runs_ends_well(kyverno: Path) -> None:
    """As in its image: there is nothing else, and nobody sets a variable."""
    done = subprocess.run([kyverno, *CHECK_ARGUMENTS], env={}, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_kyvernos_own_policies_of_the_level_restricted_admit_the_pull_checks_pod(
    kyverno: Path, tmp_path: Path
) -> None:
    version = VERSIONS[-1]
    chart = module_files(
        f"github.com/kyverno/kyverno@v{version}//charts/kyverno-policies",
        f"kyverno-policies-{version}",
        Progress(),
    )
    rendered = subprocess.run(
        [
            *(parts.obtain(("helm",), Progress())["helm"], "template", "policies", chart),
            *("--set", "podSecurityStandard=restricted,validationFailureAction=Enforce"),
        ],
        check=True,
        capture_output=True,
    ).stdout
    (tmp_path / "policies.yaml").write_bytes(rendered)
    refused = {"containers": [{"name": "main", "image": "nginx"}]}
    for spec, failed in ((pod_spec("nginx"), False), (refused, True)):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
        (tmp_path / "pod.yaml").write_text(yaml.safe_dump(pod))
        done = subprocess.run(
            [kyverno, "apply", tmp_path / "policies.yaml", "--resource", tmp_path / "pod.yaml"],
            capture_output=True,
            text=True,
            check=False,
        )
        counts = re.search(r"pass: (\d+), fail: (\d+), warn: 0, error: 0", done.stdout)
        assert counts, done.stdout + done.stderr
        assert int(counts[1]) + int(counts[2]) >= 15
        assert (int(counts[2]) > 0) is failed, done.stdout


def test_every_policy_of_kyvernos_that_changes_pods_has_cases() -> None:
    assert [name_of(case) for case in CASES] == [
        "image-redirect/cluster-policy",
        "image-redirect/mutating-policy",
        "vci-mirror/cluster-policy",
        "vci-mirror/mutating-policy",
    ]


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_the_policy_passes_its_cases(kyverno: Path, case: Path) -> None:
    done = subprocess.run(
        [kyverno, "test", case.parent, "--remove-color"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    wanted = sum(len(each["resources"]) for each in yaml.safe_load(case.read_text())["results"])
    assert re.search(rf"\b{wanted} tests passed and 0 tests failed", said), said


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_a_wrong_expectation_fails(kyverno: Path, case: Path, tmp_path: Path) -> None:
    policy = case.parents[2]
    copied = tmp_path / policy.name
    shutil.copytree(policy, copied)
    folder = copied / "tests" / case.parent.name
    results = yaml.safe_load(case.read_text())["results"]
    (name,) = {each["patchedResources"] for each in results if "patchedResources" in each}
    expected = folder / name
    right, wrong = EXPECTED[policy.name]
    assert right in expected.read_text()
    expected.write_text(expected.read_text().replace(right, wrong))
    done = subprocess.run([kyverno, "test", folder], capture_output=True, check=False, timeout=120)
    assert done.returncode != 0
