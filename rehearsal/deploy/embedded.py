"""The embedded applier: the stack's own program, with every resource it registers really applied.

It is behind the Pulumi SDK's monitor interface in place of the CLI and the provider plugins. It is
not a second Pulumi: no diff, no refresh, and no state but a list of what it deployed. Everything is
applied each time; what the list names and the program no longer registers is deleted.
"""

from __future__ import annotations

import asyncio
import json
import os
import runpy
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks, rpc, set_all_config, set_mocks
from pulumi.runtime._callbacks import _CallbackServicer
from pulumi.runtime.mocks import MockMonitor
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import SETTINGS, get_root_resource, set_root_resource
from pulumi.runtime.stack import Stack, run_pulumi_func

from rehearsal.deploy.kubernetes_applier import KubernetesApplier
from rehearsal.deploy.resources import Deployed
from rehearsal.deploy.stack_file import StackConfig
from rehearsal.deploy.volcengine_applier import VolcengineApplier
from rehearsal.errors import RehearsalError
from rehearsal.locations import write_private
from rehearsal.progress import Progress

_MARK, _SECRET = rpc._special_sig_key, rpc._special_secret_sig  # noqa: SLF001 - no public names


class ApplyError(RehearsalError):
    """A resource could not be applied or deleted; the message names it."""


class Applier(Mocks):
    """Applies what a program registers, in the order its dependencies allow."""

    def __init__(
        self,
        kubernetes: KubernetesApplier,
        volcengine: VolcengineApplier,
        progress: Progress,
        record: Path,
    ) -> None:
        self._kubernetes = kubernetes
        self._volcengine = volcengine
        self._progress = progress
        self._record = record
        self._before = _read(record)
        self._applied: list[Deployed] = []
        self._lock = threading.Lock()
        self.errors: list[ApplyError] = []
        """What could not be applied, first failure first."""
        self.created: set[tuple[str, str]] = set()
        """Type and name of what no earlier deployment had created."""

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        """Apply one resource; its id and outputs.

        Raises:
            ApplyError: naming the resource, when it cannot be applied.
        """
        if not args.custom:
            return args.name, args.inputs
        inputs = plain(args.inputs)
        try:
            with self._progress.step(f"{args.typ} {args.name}"):
                if args.typ == "pulumi:providers:kubernetes":
                    self._kubernetes.add_cluster(args.name, inputs["kubeconfig"])
                    return args.name, args.inputs
                package, cluster = args.typ.partition(":")[0], ""
                if package == "kubernetes":
                    # providers are named <urn>::<id>, and the id is the provider's name here
                    cluster = (args.provider or "").rpartition("::")[2]
                    applied = self._kubernetes.apply(cluster, args.typ, inputs)
                elif package == "volcengine":
                    applied = self._volcengine.apply(args.typ, inputs)
                else:
                    raise ApplyError(f"nothing here applies the package {package!r}")
        except Exception as error:
            self.errors.append(ApplyError(f"{args.typ} {args.name!r}: {error}"))
            raise self.errors[-1] from error
        with self._lock:
            deployed = Deployed(args.typ, cluster, applied.id)
            self._applied.append(deployed)
            if deployed not in self._before:
                self.created.add((args.typ, args.name))
            self._save([*self._undeclared(), *self._applied])
        if package == "kubernetes":  # nothing secret is among what the API server adds
            return applied.id, {**args.inputs, **applied.outputs}
        return applied.id, {**applied.outputs, **args.inputs}

    def run_hook(self, request: Any, token: str) -> None:
        """Run a hook of the resource that was registered by this request, in the program's loop.

        Raises:
            ApplyError: naming the resource, when the hook fails.
        """
        (servicer,) = (each for each in _CallbackServicer._servicers if token in each._callbacks)  # noqa: SLF001 - no public way
        asked = resource_pb2.ResourceHookRequest(name=request.name, type=request.type)
        called = servicer._callbacks[token](asked.SerializeToString())  # noqa: SLF001
        with self._progress.step(f"hook of {request.type} {request.name}"):
            answer: Any = asyncio.run_coroutine_threadsafe(called, servicer._loop).result()  # type: ignore[arg-type]  # noqa: SLF001
            if answer.error:
                self.errors.append(ApplyError(f"{request.type} {request.name!r}: {answer.error}"))
                raise self.errors[-1]

    def delete_undeclared(self) -> None:
        """Delete what an earlier deployment left and this one did not register, last first.

        Raises:
            ApplyError: naming the resource, when it cannot be deleted; it stays in the record.
        """
        undeclared = self._undeclared()
        while undeclared:
            kind, cluster, identity = undeclared[-1]
            try:
                with self._progress.step(f"deleting {kind} {identity}"):
                    if cluster:
                        self._kubernetes.delete(cluster, kind, identity)
                    else:
                        self._volcengine.delete(kind, identity)
            except Exception as error:
                raise ApplyError(f"{kind} {identity!r} cannot be deleted: {error}") from error
            undeclared.pop()
            self._save([*undeclared, *self._applied])

    def _undeclared(self) -> list[Deployed]:
        return [each for each in self._before if each not in self._applied]

    def _save(self, deployed: Sequence[Deployed]) -> None:
        write_private(self._record, json.dumps(deployed))

    def call(self, args: MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        """Answer a look-up."""
        return self._volcengine.look_up(args.token, plain(args.args)), []


class _HookRunner(MockMonitor):
    """The SDK's monitor, which also runs the program's hooks after a resource is created."""

    def __init__(self, applier: Applier) -> None:
        super().__init__(applier)
        self._applier = applier
        self._tokens: dict[str, str] = {}

    def RegisterResourceHook(self, request: Any) -> Any:  # noqa: N802 - the protocol's name
        self._tokens[request.name] = request.callback.token
        return super().RegisterResourceHook(request)  # type: ignore[no-untyped-call]

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        answer = super().RegisterResource(request)  # type: ignore[no-untyped-call]
        if (request.type, request.name) in self._applier.created:
            for name in request.hooks.after_create:
                self._applier.run_hook(request, self._tokens[name])
        return answer


def _read(record: Path) -> list[Deployed]:
    """What was deployed so far, in the order it was applied."""
    return [Deployed(*each) for each in json.loads(record.read_text())] if record.exists() else []


def plain(value: Any) -> Any:
    """`value` without the wrapping that marks secrets on their way through the monitor."""
    if isinstance(value, Mapping):
        if value.get(_MARK) == _SECRET:
            return plain(value["value"])
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [plain(child) for child in value]
    return value


def deploy(program: Path, stack: str, config: StackConfig, applier: Applier) -> dict[str, Any]:
    """Run the program, then delete what it does not register any more; its outputs, see run().

    Raises:
        ApplyError: naming the first resource that could not be applied, or could not be deleted.
    """
    try:
        outputs = run(program, stack, config, applier, monitor=_HookRunner(applier))
    except Exception:
        if applier.errors:
            raise applier.errors[0] from None
        raise
    applier.delete_undeclared()
    return outputs


def run(
    program: Path,
    stack: str,
    config: StackConfig,
    applier: Mocks,
    *,
    preview: bool = False,
    monitor: MockMonitor | None = None,
) -> dict[str, Any]:
    """Run the program of this folder for a stack; its outputs, secret ones as `Secret`."""
    project = yaml.safe_load((program / "Pulumi.yaml").read_text())
    defaults = {
        f"{project['name']}:{name}": "[]" if declared["type"] == "array" else "{}"
        for name, declared in project["config"].items()
    }
    sys.path.insert(0, str(program))
    before = Path.cwd()
    os.chdir(program)
    try:

        def declare() -> None:
            runpy.run_path(str(program / "__main__.py"), run_name="__main__")

        async def everything() -> dict[str, Any]:
            SETTINGS.rpc_manager.clear()  # what a program that failed before left waiting
            SETTINGS.outputs.clear()
            set_root_resource(None)  # type: ignore[arg-type]  # a program run before left its own
            set_mocks(
                applier, project=project["name"], stack=stack, preview=preview, monitor=monitor
            )
            set_all_config({**defaults, **config.values}, list(config.secret_keys))
            await run_pulumi_func(declare)
            root = get_root_resource()
            outputs = root.outputs if isinstance(root, Stack) else {}
            return {name: await _resolved(value) for name, value in outputs.items()}

        return asyncio.run(everything())
    finally:
        os.chdir(before)
        sys.path.remove(str(program))


async def _resolved(value: Any) -> Any:
    """The value of a stack output: a secret as `Secret`, `rpc.UNKNOWN` where a preview has none."""
    output = pulumi.Output.from_input(value)
    if not await output.is_known():
        return rpc.UNKNOWN
    found = await output.future()
    return Secret(found) if await output.is_secret() else found


class Secret:
    """A secret output, whose value does not show when printed."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "[secret]"
