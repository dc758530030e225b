"""The rehearsal's commands on a stage where nothing was deployed, or that is gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rehearsal import cli
from rehearsal.cloud.registries.certificates import Authority
from rehearsal.cluster.control_plane import kubeconfig
from rehearsal.deploy import stack as deploy
from rehearsal.processes import free_port
from rehearsal.stage import Run


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A stage as its folder describes it, with no process behind it."""
    authority = Authority.create(tmp_path / "authority")
    run = Run(
        folder=tmp_path,
        supervisor=0,
        kubeconfig=tmp_path / "kubeconfig",
        volcengine=f"127.0.0.1:{free_port()}",
        access_key="AK",
        secret_key="SK",
        region="cn-beijing",
        names_proxy=f"http://127.0.0.1:{free_port()}",
        authority=authority.certificate,
        upstreams={},
        node=None,
    )
    url = f"https://127.0.0.1:{free_port()}"
    run.kubeconfig.write_text(kubeconfig(url=url, authority=authority.certificate, token="t"))
    run.save()
    monkeypatch.setenv("REHEARSAL_RUN", str(tmp_path))
    return run


def no_cli(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)


def cli_with_no_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs: dict[str, Any] = {}
    monkeypatch.setattr(shutil, "which", lambda name, **__: f"/usr/bin/{name}")
    monkeypatch.setattr(deploy, "cli_stack", lambda _: SimpleNamespace(outputs=lambda: outputs))


def invoked(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(cli.app, words, input=stdin)


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(
    "words",
    [
        pytest.param(("prove",), id="prove"),
        pytest.param(("admit", "--policy-engine", "MutatingPolicy"), id="admit with an engine"),
    ],
)
@pytest.mark.parametrize(
    "pulumi",
    [
        pytest.param(no_cli, id="without the Pulumi CLI"),
        pytest.param(cli_with_no_outputs, id="with the Pulumi CLI"),
    ],
)
def test_a_stack_that_is_not_deployed_is_said_in_one_line(
    words: tuple[str, ...], pulumi: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulumi(monkeypatch)
    done = invoked(*words, stdin="nginx\n")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr == (
        "rehearsal: the stack is not deployed yet; run `python -m rehearsal deploy`\n"
    )


@pytest.mark.usefixtures("run")
def test_an_api_server_that_is_gone_is_the_error_of_every_line() -> None:
    done = invoked("admit", stdin="nginx\nbitnami/redis:7.2\n")
    assert done.exit_code == 0, done.exception
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["image"] for each in answers] == ["nginx", "bitnami/redis:7.2"]
    for each in answers:
        assert each["admitted"] is None
        assert "Connection refused" in each["error"]
