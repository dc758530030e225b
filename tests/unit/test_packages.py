"""The Python packages: one lock, and what pip and the workflow take from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from rehearsal.locations import CHECKOUT


def test_pip_installs_for_the_program_what_the_lock_says() -> None:
    """`pulumi install` runs pip on requirements.txt; `make lock` writes it."""
    exported = subprocess.run(
        [
            *(Path(sys.executable).with_name("uv"), "export", "--quiet", "--frozen", "--offline"),
            *("--no-emit-project", "--no-header"),
        ],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert (CHECKOUT / "requirements.txt").read_text() == exported


def test_every_stack_with_an_account_is_previewed() -> None:
    workflow = yaml.safe_load((CHECKOUT / ".github/workflows/pull-request.yml").read_text())
    previewed = workflow["jobs"]["preview"]["strategy"]["matrix"]["stack"]
    stacks = {each.name.split(".")[1] for each in CHECKOUT.glob("Pulumi.*.yaml")}
    assert set(previewed) == stacks - {"rehearsal"}
