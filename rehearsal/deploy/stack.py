"""Deploying the rehearsal's stack on a stage, by either runner."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil
import yaml
from pulumi import automation

from components.types import Engine
from rehearsal.deploy import embedded
from rehearsal.deploy.kubernetes_applier import KubernetesApplier
from rehearsal.deploy.stack_file import StackConfig, changed, read
from rehearsal.deploy.volcengine_applier import VolcengineApplier
from rehearsal.errors import RehearsalError
from rehearsal.locations import CHECKOUT, write_private
from rehearsal.parts.build import obtain
from rehearsal.processes import end_all
from rehearsal.progress import Progress
from rehearsal.stage import Run

STACK = "rehearsal"
STACK_FILE = f"Pulumi.{STACK}.yaml"
_OUTPUTS = "outputs.json"


class NotDeployedError(RehearsalError):
    """The stack is not deployed on this stage; the message says how to deploy it."""

    def __init__(self) -> None:
        super().__init__("the stack is not deployed yet; run `python -m rehearsal deploy`")


class Runner(StrEnum):
    """What runs the program."""

    PULUMI = "pulumi"
    EMBEDDED = "embedded"


def engine_config(engine: Engine) -> dict[str, str]:
    """What an engine of the redirect takes in the rehearsal's config, see deploy().

    The native one adds no pull secrets to Pods, so VKE's add-on has to bring the logins.
    """
    config = {"redirect.engine": engine.value}
    if not engine.needs_kyverno:
        config |= {"login.pods": "addon", "clusters[0].kubernetesVersion": "'1.37'"}
    return config


def default_runner() -> Runner:
    """The Pulumi CLI where it is on PATH, else the embedded applier."""
    return Runner.PULUMI if shutil.which("pulumi") else Runner.EMBEDDED


def runner_of(run: Run) -> Runner:
    """What runs the stack that is deployed on this stage.

    Raises:
        NotDeployedError: when it was not deployed yet, or not to its end.
    """
    outputs_of(run)
    return Runner.EMBEDDED if (run.folder / _OUTPUTS).is_file() else Runner.PULUMI


def stack_config(run: Run, config: Mapping[str, str] | None = None) -> StackConfig:
    """The config in `Pulumi.rehearsal.yaml` with other values, see deploy()."""
    return read(_stack_file(run, config), run.environment()["PULUMI_CONFIG_PASSPHRASE"])


def _stack_file(run: Run, config: Mapping[str, str] | None) -> Path:
    project = yaml.safe_load((CHECKOUT / "Pulumi.yaml").read_text())["name"]
    path = run.folder / STACK_FILE
    write_private(path, changed((CHECKOUT / STACK_FILE).read_text(), project, config or {}))
    return path


def deploy(
    run: Run, runner: Runner, progress: Progress, config: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Deploy the rehearsal's stack; its outputs, secret ones as `embedded.Secret`.

    `config` has values, as YAML, that differ from the stack file's, by their path in it. What an
    earlier deployment left and this one does not declare is deleted.

    Raises:
        embedded.ApplyError: naming the resource that could not be applied; of the Pulumi CLI the
            progress names it, in the CLI's words.
    """
    if runner is Runner.PULUMI:
        return _by_cli(run, progress, config)
    outputs = _embedded(run, progress, config)
    plain = {
        name: {"value": value.value, "secret": True}
        if isinstance(value, embedded.Secret)
        else {"value": value, "secret": False}
        for name, value in outputs.items()
    }
    write_private(run.folder / _OUTPUTS, json.dumps(plain))
    return outputs


def outputs_of(run: Run) -> dict[str, Any]:
    """The outputs of the stack as it was last deployed on this stage, by either runner.

    Raises:
        NotDeployedError: when it was not deployed yet, or not to its end.
    """
    outputs: dict[str, Any] = {}
    saved = run.folder / _OUTPUTS
    if saved.is_file():
        outputs = {
            name: embedded.Secret(each["value"]) if each["secret"] else each["value"]
            for name, each in json.loads(saved.read_text()).items()
        }
    elif shutil.which("pulumi"):
        outputs = _values(cli_stack(run).outputs())
    if not {"domain", "username"} <= outputs.keys():
        raise NotDeployedError
    return outputs


def _embedded(run: Run, progress: Progress, config: Mapping[str, str] | None) -> dict[str, Any]:
    parts = obtain(("kubernetes", "helm"), progress)
    folder = run.folder / "embedded"
    applier = embedded.Applier(
        KubernetesApplier(parts, folder),
        VolcengineApplier(run.environment()),
        progress,
        folder / "deployed.json",
    )
    return embedded.deploy(CHECKOUT, STACK, stack_config(run, config), applier)


def _by_cli(run: Run, progress: Progress, config: Mapping[str, str] | None) -> dict[str, Any]:
    stack, config_file = cli_stack(run), str(_stack_file(run, config))
    here = psutil.Process()
    before = here.children(recursive=True)
    with ThreadPoolExecutor(max_workers=1) as thread:
        update = thread.submit(
            stack.up,
            on_output=lambda text: progress.say(text.rstrip()),
            config_file=config_file,
        )
        try:
            return _values(update.result().outputs)
        except automation.CommandError:
            raise embedded.ApplyError(
                "the Pulumi CLI could not update the stack; see above"
            ) from None
        except BaseException:  # Ctrl-C: the CLI alone would leave its plugins behind
            end_all([each for each in here.children(recursive=True) if each not in before])
            raise


def cli_stack(run: Run) -> automation.Stack:
    """The stack for the Pulumi CLI, with its state in the run's own folder."""
    environment = {**os.environ, **run.environment()}
    workspace = automation.LocalWorkspace(work_dir=str(CHECKOUT), env_vars=environment)
    return automation.Stack.create_or_select(STACK, workspace)


def _values(outputs: Mapping[str, automation.OutputValue]) -> dict[str, Any]:
    return {
        name: embedded.Secret(output.value) if output.secret else output.value
        for name, output in outputs.items()
    }
