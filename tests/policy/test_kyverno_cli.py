"""The cases beside the Kyverno policies, run by Kyverno's own command line."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from components.redirect_policy import FOLDER
from rehearsal import parts
from rehearsal.progress import Progress

CASES = sorted((FOLDER / "tests").glob("*/kyverno-test.yaml"))


@pytest.fixture(scope="module")
def kyverno() -> Path:
    return parts.obtain(("kyverno",), Progress())["kubectl-kyverno"]


def test_both_kyverno_engines_have_cases() -> None:
    assert [case.parent.name for case in CASES] == ["cluster-policy", "mutating-policy"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.parent.name)
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.parent.name)
def test_a_wrong_expectation_fails(kyverno: Path, case: Path, tmp_path: Path) -> None:
    document = yaml.safe_load(case.read_text())
    folder = tmp_path / "tests" / case.parent.name
    folder.mkdir(parents=True)
    for each in (*FOLDER.glob("*.yaml"),):
        (tmp_path / each.name).write_bytes(each.read_bytes())
    (folder.parent / "pods.yaml").write_bytes((FOLDER / "tests" / "pods.yaml").read_bytes())
    redirected = (FOLDER / "tests" / "pods-redirected.yaml").read_text()
    (folder.parent / "pods-redirected.yaml").write_text(
        redirected.replace("/library/nginx:1.27", "/library/nginx:1.28")
    )
    (folder / "kyverno-test.yaml").write_text(yaml.safe_dump(document))
    done = subprocess.run([kyverno, "test", folder], capture_output=True, check=False, timeout=120)
    assert done.returncode != 0
