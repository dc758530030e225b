"""What tests/conftest.py sees to, seen in runs of pytest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEST = "import pytest\n@pytest.mark.parametrize('at', range(4))\ndef test_it(at): pass\n"


def test_all_tests_of_a_file_run_in_one_worker(tmp_path: Path) -> None:
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
    passed = re.findall(r"\[(gw\d)\].* PASSED .*/test_(\w+).py", done.stdout)
    assert len(passed) == 8, done.stdout + done.stderr
    assert len(set(passed)) == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [pytest.param("pass", 0, id="nothing"), pytest.param("open('new', 'w')", 1, id="a new file")],
)
def test_tests_that_change_the_checkout_fail_in_ci(tmp_path: Path, body: str, status: int) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "test_it.py").write_text(f"def test_it(): {body}\n")
    (tmp_path / "here.py").write_text(
        f"import pathlib, tests.conftest as c; c.CHECKOUT = pathlib.Path({str(tmp_path)!r})\n"
    )
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-n", "0", "-p", "here", "-p", "tests.conftest"),
            *("-p", "no:cacheprovider", "test_it.py"),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{tmp_path}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "CI": "true",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert ("the tests changed the checkout" in done.stdout) == bool(status)
