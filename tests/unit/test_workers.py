"""Tests that share real parts run in one worker: seen in a run of pytest with two workers."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEST = "import pytest\n@pytest.mark.parametrize('at', range(4))\ndef test_it(at): pass\n"


def test_all_tests_of_a_folder_that_shares_parts_run_in_one_worker(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "conformance"
    folder.mkdir(parents=True)
    for name in ("one", "two"):
        (folder / f"test_{name}.py").write_text(TEST)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-n", "2", "-p", "tests.conftest", str(folder)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    passed = re.findall(r"\[(gw\d)\].* PASSED", done.stdout)
    assert len(passed) == 8, done.stdout + done.stderr
    assert len(set(passed)) == 1
