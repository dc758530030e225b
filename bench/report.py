"""The report of a run: goals, tables, raw numbers and a plot."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot as plt

from bench.goals import Goal
from bench.numbers import percentile, shown
from bench.run import SLOW_ROUNDS, Effort, Result, Row
from bench.variants import FIVE, NO_POLICY, ONE, TWENTY
from components.types import Engine

_HOW = """\
Times of server-side dry-run creates of Pods on one real API server, in milliseconds. {rounds}
rounds; in each, every policy has one turn, alone in the cluster, right after a turn without any
({count} Pods or {seconds:g} s a turn, after {warm} uncounted ones). `x` is the median, over the
rounds, of the p50 by the p50 without a policy of the same turn. The vendor's policy is the one of
Volcengine's page, with a loopback registry in place of Docker Hub that answers each request after
0, 50 or 200 ms; with 50 and 200 ms it has a turn in {slow_rounds} rounds alone. A percentile is a
sample (nearest rank): with fewer than 100 Pods p99 is the slowest. The client shares the machine
with the API server and Kyverno: Pods a second are those of all three together."""


def markdown(result: Result, effort: Effort, machine: str, checks: Sequence[Goal]) -> str:
    """The report as Markdown."""
    how = _HOW.format(**dataclasses.asdict(effort), slow_rounds=min(SLOW_ROUNDS, effort.rounds))
    lines = [
        "# What a redirect costs at admission",
        "",
        f"{machine}. Written by `make bench` (`python -m bench`).",
        "",
        how,
        "",
        "![Latency by policy](benchmarks.svg)",
        "",
        "## Goals",
        "",
        f"{sum(each.met for each in checks)} of {len(checks)} met.",
        "",
        "| goal | measured | |",
        "|---|---|---|",
        *(f"| {g.text} | {g.measured} | {'met' if g.met else '**missed**'} |" for g in checks),
        "",
        "## Latency and throughput",
    ]
    for case in dict.fromkeys(each.case for each in result.rows):
        rows = [each for each in result.rows if each.case == case]
        lines += [
            "",
            f"### {case[0].upper()}{case[1:]}",
            "",
            "| policy | p50 | p95 | p99 | x | Pods/s | Pods | denied | not redirected |",
            "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
            _line(_without_policy(rows), "1", redirected=False),
            *(_line(row, f"{row.ratio:.2f}", redirected="nothing" not in case) for row in rows),
        ]
    lines += [
        "",
        "## Kyverno frozen",
        "",
        "Kyverno accepts connections and answers none (SIGSTOP); its webhook's timeout is 2 s.",
        "",
        "| policy | Pod | slowest |",
        "|---|---|--:|",
        *(
            f"| {variant} | {case} | {shown(max(times))} |"
            for variant, cases in result.frozen.items()
            for case, times in cases.items()
        ),
        "",
        "## Requests to Docker Hub for a Pod of one container",
        "",
        "| policy | requests |",
        "|---|--:|",
        *(f"| {name} | {count} |" for name, count in result.lookups.items()),
        "",
    ]
    return "\n".join(lines)


def raw(result: Result, effort: Effort, machine: str) -> str:
    """All samples, as JSON; milliseconds to the microsecond."""
    rounded = json.loads(
        json.dumps(dataclasses.asdict(result)), parse_float=lambda text: round(float(text), 3)
    )
    document = {"machine": machine, "effort": dataclasses.asdict(effort), **rounded}
    return json.dumps(document, separators=(",", ":")) + "\n"


def plot(result: Result, target: Path) -> None:
    """Draw p50 by the number of containers, for each policy, as SVG."""
    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "benchmarks"
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    cases = (ONE, FIVE, TWENTY)
    counts = [case.containers for case in cases]
    bare = [
        percentile(
            _without_policy([r for r in result.rows if r.case == case.name]).milliseconds, 50
        )
        for case in cases
    ]
    axes.plot(counts, bare, ":", marker="o", color="black", label=NO_POLICY)
    for name in dict.fromkeys(row.variant for row in result.rows):
        vendors = name.startswith("vendor")
        if vendors or name in list(Engine):
            times = [percentile(result.row(name, case).milliseconds, 50) for case in cases]
            axes.plot(counts, times, "--" if vendors else "-", marker="o", label=name)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="containers in the Pod, all with a Docker Hub image",
        ylabel="admission latency, p50, ms",
    )
    axes.set_xticks(counts, [str(each) for each in counts])
    axes.minorticks_off()
    axes.grid(visible=True, alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(target, format="svg", metadata={"Date": None})
    plt.close(figure)


def _line(row: Row, ratio: str, *, redirected: bool) -> str:
    times = row.milliseconds
    figures = (
        *(shown(percentile(times, percent)) for percent in (50, 95, 99)),
        ratio,
        f"{len(times) / sum(each.seconds for each in row.samples):,.1f}",
        f"{len(times):,}",
        str(sum(each.refused for each in row.samples)),
        str(sum(each.unchanged for each in row.samples)) if redirected else "",
    )
    return f"| {row.variant} | {' | '.join(figures)} |"


def _without_policy(rows: Sequence[Row]) -> Row:
    """All that was measured without a policy beside these rows."""
    return Row(
        variant=NO_POLICY,
        case=rows[0].case,
        samples=[sample for row in rows for sample in row.baselines],
    )
