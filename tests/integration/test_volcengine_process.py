"""The emulator as a process: its config file, its ready line, its end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from rehearsal import wait
from rehearsal.cloud.api.run import Ready
from rehearsal.locations import CHECKOUT
from tests.support.volcengine_stage import (
    ACCESS_KEY,
    MICRO_PROXY,
    SECRET_KEY,
    RunningEmulator,
    Upstreams,
)

pytest_plugins = ("tests.support.volcengine_fixtures",)

COMMAND = [sys.executable, "-m", "rehearsal.cloud.api", "--config"]
KEYS = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}


def write_config(folder: Path, content: object, mode: int = 0o600) -> Path:
    path = folder / "emulator.json"
    path.write_text(json.dumps(content))
    path.chmod(mode)
    return path


def run(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, str(config)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644], ids=oct)
def test_a_config_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    done = run(write_config(tmp_path, KEYS, mode))
    assert done.returncode == 2
    assert "chmod 600" in done.stderr


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param({"access_key": "a"}, "secret_key: Field required", id="no-secret-key"),
        pytest.param({**KEYS, "prot": 1}, "prot: Extra inputs are not permitted", id="unknown-key"),
        pytest.param({**KEYS, "quota": 3}, "quota: Input should be an object", id="quota-a-number"),
    ],
)
def test_a_config_that_is_not_right_is_refused_without_showing_its_secret(
    tmp_path: Path, content: dict[str, Any], said: str
) -> None:
    done = run(write_config(tmp_path, content))
    assert done.returncode == 2
    assert said in done.stderr
    assert SECRET_KEY not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
def test_it_says_where_it_is_and_ends_with_all_it_started(
    tmp_path: Path, upstream: Upstreams, number: signal.Signals
) -> None:
    ready_file = tmp_path / "ready.json"
    config = {
        **KEYS,
        "ready_file": str(ready_file),
        "delays": {"registry_creating": 0},
        "data_plane": upstream.data_plane(tmp_path / "proxies").model_dump(mode="json"),
    }
    process = subprocess.Popen(
        [*COMMAND, str(write_config(tmp_path, config))],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            ready = Ready.model_validate_json(process.stdout.readline())
            assert json.loads(ready_file.read_text()) == ready.model_dump()
            RunningEmulator(ready).make_registry("mirror", **MICRO_PROXY)
            children = psutil.Process(process.pid).children(recursive=True)
            assert [child.name() for child in children] == ["registry"]
        finally:
            os.kill(process.pid, number)
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 0, errors
    assert SECRET_KEY not in output + errors
    wait.until(
        lambda: not any(child.is_running() for child in children), "all its processes have ended"
    )
