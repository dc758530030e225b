"""A Pod's time to Running by its node's mirror; writes docs/benchmarks-node.md."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench.mirror import NO_MIRROR, Measured, MirrorBench, Times
from bench.numbers import machine
from rehearsal.cluster import node as real_node
from rehearsal.cluster.node import Containerd
from rehearsal.deploy.stack import Runner, deploy
from rehearsal.locations import CHECKOUT
from rehearsal.parts.build import Profile
from rehearsal.progress import Progress
from rehearsal.stage import end_on_interrupt, new_folder, stage

_HOW = """\
Seconds until the Pod of a Deployment is seen Running on the rehearsal's real node (kubelet
1.37.2): median (smallest to largest), and `x`, that median by the one without a mirror. *From
apply*: from the Deployment's creation, on a node that is Ready. *From kubelet*: from the start of
the node's kubelet, new to the cluster, for which the Deployment was waiting.

Every sample pulls a new image of one layer, none of whose content the node has; where it came from
is checked in the proxy's access log. Docker Hub is a registry on the same machine that answers at
once: a mirror has nothing to win here, these times are what it costs. The mirror is put in place by
`nodes/node.sh` as a node pool runs it, once, and so is never withdrawn; in the last row by
the stack's DaemonSet, which has withdrawn it. A round has one sample of each state in turn, but for
the black-holed ones, which come after the rounds.

A pull makes five requests to a mirror. containerd 1.6 gives a black hole 30 s for each; 2.1 and
later take the `dial_timeout` of 5 s that the script writes."""
_CHANGES = """\
The DaemonSet withdrew the mirror {withdrawn_after:.0f} s after the black hole began, and put it
back {restored_after:.0f} s after it ended."""


def main(
    *,
    containerd: Annotated[
        list[Containerd] | None, typer.Option(help="A version; all of them by default.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds; a black hole has one.")] = 5,
    output: Annotated[Path, typer.Option(help="The folder to write to.")] = CHECKOUT / "docs",
) -> None:
    """Measure a node with each version of containerd. Linux and root."""
    reason = real_node.supported()
    if reason is not None:
        typer.echo(reason, err=True)
        raise typer.Exit(1)
    progress = Progress()
    here = machine()
    found = {each: _measured(each, rounds, progress) for each in containerd or list(Containerd)}
    text = markdown(found, rounds, here)
    (output / "benchmarks-node.md").write_text(text)
    print(text)


def _measured(version: Containerd, rounds: int, progress: Progress) -> Measured:
    programs = real_node.programs(version, progress, Profile.RELEASE)
    folder = new_folder()
    end_on_interrupt()
    with stage(folder, progress, node=programs) as run:
        outputs = deploy(run, Runner.EMBEDDED, progress)
        measured = MirrorBench(run, str(outputs["domain"]), progress).measure(rounds)
    shutil.rmtree(folder)
    return measured


def markdown(found: Mapping[Containerd, Measured], rounds: int, here: str) -> str:
    """The report: a table for each version of containerd."""
    lines = [
        "# How long a Pod takes, by the state of its node's mirror",
        "",
        f"{here}. Written by `python -m bench.node --rounds {rounds}`.",
        "",
        _HOW,
    ]
    for version, measured in found.items():
        without = measured.states[NO_MIRROR]
        lines += [
            "",
            f"## containerd {version}",
            "",
            "| | from apply | x | from kubelet | x | samples |",
            "|---|--:|--:|--:|--:|--:|",
            *(_row(state, times, without) for state, times in measured.states.items()),
            "",
            _CHANGES.format(**vars(measured)),
        ]
    return "\n".join([*lines, ""])


def _row(state: str, times: Times, without: Times) -> str:
    figures = [
        *(_shown(times.apply), _ratio(times.apply, without.apply)),
        *(_shown(times.kubelet), _ratio(times.kubelet, without.kubelet)),
        str(len(times.apply)),
    ]
    return f"| {state} | {' | '.join(figures)} |"


def _shown(seconds: Sequence[float]) -> str:
    middle = f"{statistics.median(seconds):.2f}"
    return middle if len(seconds) == 1 else f"{middle} ({min(seconds):.2f} to {max(seconds):.2f})"


def _ratio(seconds: Sequence[float], without: Sequence[float]) -> str:
    return f"{statistics.median(seconds) / statistics.median(without):.2f}"


if __name__ == "__main__":
    typer.run(main)
