"""Deploying the rehearsal's stack on a stage, by either engine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from typing import Any

import psutil
from pulumi import automation

from rehearsal.cluster.control_plane import write_private
from rehearsal.deploy import embedded
from rehearsal.deploy.kubernetes_applier import KubernetesApplier
from rehearsal.deploy.stack_file import StackConfig, read
from rehearsal.deploy.volcengine_applier import VolcengineApplier
from rehearsal.locations import CHECKOUT
from rehearsal.parts.build import obtain
from rehearsal.processes import end_all
from rehearsal.progress import Progress
from rehearsal.stage import Run

STACK = "rehearsal"
_OUTPUTS = "outputs.json"


class NotDeployedError(Exception):
    """The stack is not deployed on this stage; the message says how to deploy it."""

    def __init__(self) -> None:
        super().__init__("the stack is not deployed yet; run `python -m rehearsal deploy`")


class EngineName(StrEnum):
    """What runs the program."""

    PULUMI = "pulumi"
    EMBEDDED = "embedded"


def default_engine() -> EngineName:
    """The Pulumi CLI where it is on PATH, else the embedded applier."""
    return EngineName.PULUMI if shutil.which("pulumi") else EngineName.EMBEDDED


def stack_config(run: Run) -> StackConfig:
    """The config in `Pulumi.rehearsal.yaml`."""
    return read(CHECKOUT / f"Pulumi.{STACK}.yaml", run.environment()["PULUMI_CONFIG_PASSPHRASE"])


def deploy(run: Run, engine: EngineName, progress: Progress) -> dict[str, Any]:
    """Deploy the rehearsal's stack; its outputs, secret ones as `embedded.Secret`.

    Raises:
        embedded.ApplyError: naming the resource that could not be applied; of the Pulumi engine the
            progress names it, in the CLI's words.
    """
    if engine is EngineName.PULUMI:
        return _by_cli(run, progress)
    outputs = _embedded(run, progress)
    plain = {
        name: {"value": value.value, "secret": True}
        if isinstance(value, embedded.Secret)
        else {"value": value, "secret": False}
        for name, value in outputs.items()
    }
    write_private(run.folder / _OUTPUTS, json.dumps(plain))
    return outputs


def outputs_of(run: Run) -> dict[str, Any]:
    """The outputs of the stack as it was last deployed on this stage, by either engine.

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
    if not {"domain", "login"} <= outputs.keys():
        raise NotDeployedError
    return outputs


def _embedded(run: Run, progress: Progress) -> dict[str, Any]:
    parts = obtain(("kubernetes", "helm"), progress)
    applier = embedded.Applier(
        KubernetesApplier(parts, run.folder / "engine"),
        VolcengineApplier(run.environment()),
        progress,
    )
    try:
        return embedded.run(CHECKOUT, STACK, stack_config(run), applier)
    except Exception:
        if applier.errors:
            raise applier.errors[0] from None
        raise


def _by_cli(run: Run, progress: Progress) -> dict[str, Any]:
    stack = cli_stack(run)
    here = psutil.Process()
    before = here.children(recursive=True)
    with ThreadPoolExecutor(max_workers=1) as thread:
        update = thread.submit(stack.up, on_output=lambda text: progress.say(text.rstrip()))
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
