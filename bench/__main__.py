"""`python -m bench`: measure what the redirect policies cost; writes docs/benchmarks.*.

The samples themselves are in .rehearsal/benchmarks.json, which is no file of the repository.
"""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bench import report
from bench.cluster import cluster
from bench.goals import goals
from bench.numbers import machine
from bench.run import Effort, run
from bench.variants import variants
from rehearsal.locations import CHECKOUT, RUNS
from rehearsal.progress import Progress


def main(
    *,
    quick: Annotated[bool, typer.Option(help="Few Pods: to see that it works.")] = False,
    rounds: Annotated[int, typer.Option(min=0, help="Rounds; 0 is 4, and 1 if quick.")] = 0,
    beside: Annotated[
        list[Path] | None, typer.Option(help="Another policy to measure, a file of manifests.")
    ] = None,
    output: Annotated[Path, typer.Option(help="The folder to write to.")] = CHECKOUT / "docs",
) -> None:
    """Measure admission without a policy, with each of ours and with the vendor's."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    progress = Progress()
    here = f"{machine()}, Kyverno 1.19.1"
    effort = (
        Effort(rounds=rounds or 1, count=30, seconds=0.3, warm=5)
        if quick
        else Effort(rounds=rounds or 4, count=200, seconds=0.8, warm=10)
    )
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        cluster(Path(folder), progress) as found,
    ):
        result = run(found, variants(beside or ()), effort, progress)
    text = report.markdown(result, effort, here, list(goals(result)))
    output.mkdir(parents=True, exist_ok=True)
    (output / "benchmarks.md").write_text(text)
    report.plot(result, output / "benchmarks.svg")
    RUNS.mkdir(exist_ok=True)
    (RUNS / "benchmarks.json").write_text(report.raw(result, effort, here))
    print(text)


if __name__ == "__main__":
    typer.run(main)
