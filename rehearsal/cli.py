"""`python -m rehearsal`: the whole rehearsal, or its parts one by one."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from components.types import Engine
from rehearsal import admit as admission
from rehearsal import supervisor
from rehearsal.cluster import node as real_node
from rehearsal.cluster.node import Containerd, Programs
from rehearsal.deploy import stack as deploying
from rehearsal.deploy.stack import STACK, Runner, engine_config
from rehearsal.errors import RehearsalError
from rehearsal.locations import CHECKOUT, RUNS
from rehearsal.parts.build import PARTS, PartError, obtain
from rehearsal.parts.debian import PackageError
from rehearsal.preview import preview as preview_of
from rehearsal.preview import show as show_preview
from rehearsal.progress import Progress
from rehearsal.proof import in_force
from rehearsal.proof import prove as show_proof
from rehearsal.stage import PARTS as NEEDED
from rehearsal.stage import Run, api_client, end_on_interrupt, new_folder, stage

app = typer.Typer(
    help="The whole stack on one machine, with no cloud account.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RunnerOption = Annotated[
    Runner | None,
    typer.Option("--runner", help="What runs the program; the Pulumi CLI where it is on PATH."),
]

Node = Annotated[
    bool | None,
    typer.Option(
        "--node/--no-node",
        help="A real node beside kwok's, or none.",
        show_default="a real node where the machine can have one",
    ),
]
NodeContainerd = Annotated[
    Containerd | None,
    typer.Option(
        help="The real node's containerd; asks for a node.",
        show_default="Debian's 1.6, nearest to VKE's nodes; 2.4 where Debian has another",
    ),
]


class UnavailableError(RehearsalError):
    """This machine cannot have a real node, and one was asked for; the message says why."""


def _node(node: bool | None, containerd: Containerd | None, progress: Progress) -> Programs | None:
    """The programs of the real node; None where there is to be none, or can be none.

    That a machine cannot have one is said, and is an error where one was asked for
    (UnavailableError). Past this point whatever fails is a fault of a part that should work.
    """
    if node is False:
        return None
    reason = real_node.supported()
    if reason is None:
        try:
            return _programs(containerd, progress)
        except PackageError as error:
            reason = str(error)
    if node or containerd:
        raise UnavailableError(reason)
    typer.echo(f"rehearsal: no real node, only kwok's: {reason}", err=True)
    return None


def _programs(containerd: Containerd | None, progress: Progress) -> Programs:
    """A real node's programs; raises PackageError."""
    if containerd is None:
        with contextlib.suppress(PackageError):  # a Debian with another containerd
            return real_node.programs(Containerd.V1_6, progress)
    return real_node.programs(containerd or Containerd.V2_4, progress)


@contextlib.contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Show a failure that a person can do something about as one line, and exit with 1."""
    try:
        yield
    except (PartError, RehearsalError) as error:
        typer.echo(f"rehearsal: {error}", err=True)
        raise typer.Exit(1) from None


@app.command()
def run(runner: RunnerOption = None, node: Node = None, containerd: NodeContainerd = None) -> None:
    """Start everything, deploy the stack, show the proof, take everything down.

    What the stack declares is shown while everything is started, and what is missing is built.
    """
    end_on_interrupt()
    progress = Progress()

    with _errors_in_one_line():
        with contextlib.ExitStack() as stack:

            def start() -> Run:
                with ThreadPoolExecutor(1) as thread:
                    finding = thread.submit(_node, node, containerd, progress)
                    obtain(NEEDED, progress)
                programs = finding.result()
                return stack.enter_context(stage(new_folder(), progress, node=programs))

            with ThreadPoolExecutor(1) as thread:
                starting = thread.submit(start)
                show_preview(STACK, preview_of(CHECKOUT, STACK), progress.console)
                started = starting.result()  # in here: Ctrl-C waits for what is to be stopped
            outputs = deploying.deploy(started, runner or deploying.default_runner(), progress)
            show_proof(started, outputs, progress)
        shutil.rmtree(started.folder)


@app.command()
def preview(
    stack: Annotated[str, typer.Argument(help="The stack whose file is read.")] = STACK,
) -> None:
    """Show what a stack declares: no part, cluster or cloud is needed."""
    with _errors_in_one_line():
        show_preview(stack, preview_of(CHECKOUT, stack), Console(highlight=False))


@app.command()
def parts() -> None:
    """Only have every part built and ready."""
    with _errors_in_one_line():
        obtain(PARTS, Progress())


@app.command()
def up(node: Node = None, containerd: NodeContainerd = None) -> None:
    """Start all parts, do not run the program; print `export` lines for a shell."""
    options = [
        *(() if node is None else ("--node" if node else "--no-node",)),
        *((f"--containerd={containerd}",) if containerd else ()),
    ]
    end_on_interrupt()
    with _errors_in_one_line(), supervisor.held(new_folder(), options) as started:
        exports = started.environment().items()
        typer.echo("\n".join(f"export {name}={shlex.quote(value)}" for name, value in exports))


@app.command(hidden=True)
def hold(folder: Path, node: Node = None, containerd: NodeContainerd = None) -> None:
    """Start all parts and hold them until asked to stop."""
    end_on_interrupt()
    progress = Progress()
    with _errors_in_one_line(), stage(folder, progress, node=_node(node, containerd, progress)):
        signal.pause()


@app.command()
def deploy(
    runner: RunnerOption = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Another value than the stack file's, such as redirect.engine=MutatingPolicy.",
        ),
    ] = None,
) -> None:
    """Deploy the rehearsal's stack on what `up` started; print its outputs.

    What an earlier deployment left and this one does not declare is deleted.
    """
    with _errors_in_one_line():
        outputs = deploying.deploy(
            current(),
            runner or deploying.default_runner(),
            Progress(),
            dict(_key_and_value(each) for each in config or ()),
        )
    typer.echo(json.dumps(outputs, indent=2, default=repr))


def _key_and_value(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--config")
    return key, value


@app.command()
def prove() -> None:
    """Show that the deployed stack works."""
    with _errors_in_one_line():
        started = current()
        show_proof(started, deploying.outputs_of(started), Progress())


@app.command()
def admit(
    namespace: Annotated[str, typer.Option(help="The namespace of the Pods.")] = "default",
    workers: Annotated[int, typer.Option(help="Requests under way at once.")] = 4,
    policy_engine: Annotated[
        Engine | None, typer.Option(help="Deploy the stack with this engine first.")
    ] = None,
) -> None:
    """Image references on standard input → what the API server admits, a JSON line each."""
    if policy_engine is not None:
        with _errors_in_one_line():
            started = current()
            runner = deploying.runner_of(started)
            outputs = deploying.deploy(started, runner, Progress(), engine_config(policy_engine))
            in_force(started, str(outputs["domain"]))
    references = (line.rstrip("\n") for line in sys.stdin)
    for each in admission.admit(
        api_client(current()), references, namespace=namespace, workers=workers
    ):
        typer.echo(
            json.dumps({"image": each.image, "admitted": each.admitted, "error": each.error})
        )


@app.command()
def down() -> None:
    """Stop everything `up` started and remove its folder."""
    for folder in _folders():
        supervisor.end(folder)


def _folders() -> list[Path]:
    """The folders of runs: the one the environment names, else all of this checkout."""
    named = os.environ.get("REHEARSAL_RUN")
    if named:
        return [Path(named)] if Path(named).is_dir() else []
    return [each for each in sorted(RUNS.glob("*")) if (each / "logs").is_dir()]


def current() -> Run:
    """The run to work on: the one the environment names, else the only one there is."""
    runs = []
    for folder in _folders():
        with contextlib.suppress(FileNotFoundError):
            runs.append(Run.load(folder))
    if len(runs) != 1:
        found = f"{len(runs)} rehearsals are up" if runs else "no rehearsal is up"
        do = "set REHEARSAL_RUN to one of their folders" if runs else "run `python -m rehearsal up`"
        typer.echo(f"rehearsal: {found}; {do}", err=True)
        raise typer.Exit(1)
    return runs[0]
