"""The rounds: every variant once a round, each right after a measurement without any policy.

A variant's policy is applied and, after its turn, deleted: each is alone in the cluster, as it
would be in one that uses it, so no other policy's webhook or match condition costs it anything. It
is in force once eight Pods in a row are admitted with the image it makes, and gone once eight are
admitted as written. The order turns by one each round.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.cluster import Cluster
from bench.load import Case, Sample, measure
from bench.numbers import ratio_of_rounds
from bench.variants import NOTHING, ONE, Variant
from rehearsal.progress import Progress

SLOW_ROUNDS = 2
"""Rounds in which variants with a slow Docker Hub have a turn."""
_EACH_AT_ONCE = 4
"""How many times more Pods are created when many are created at once."""
_FROZEN_PODS = 3


@dataclass(frozen=True, kw_only=True)
class Effort:
    """How much is measured."""

    rounds: int
    count: int
    """Pods of a case in a round, if the time allows."""
    seconds: float
    """Time for them."""
    warm: int
    """Pods of each worker that are not counted."""


@dataclass(kw_only=True)
class Row:
    """What was measured of one variant and one case, by round."""

    variant: str
    case: str
    samples: list[Sample] = field(default_factory=list)
    baselines: list[Sample] = field(default_factory=list)
    """Without a policy, right before each of `samples`."""

    @property
    def milliseconds(self) -> list[float]:
        """The times of all rounds."""
        return [each for sample in self.samples for each in sample.milliseconds]

    @property
    def ratio(self) -> float:
        """To no policy, see `ratio_of_rounds`."""
        return ratio_of_rounds(
            [each.milliseconds for each in self.samples],
            [each.milliseconds for each in self.baselines],
        )


@dataclass(kw_only=True)
class Result:
    """All that was measured."""

    rows: list[Row] = field(default_factory=list)
    frozen: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    """By variant and case, with Kyverno frozen: milliseconds of each Pod."""
    frozen_refused: dict[str, int] = field(default_factory=dict)
    """Pods denied meanwhile, by variant."""
    lookups: dict[str, int] = field(default_factory=dict)
    """By variant, requests to Docker Hub for a Pod of one container."""

    def row(self, variant: str, case: Case) -> Row:
        """The row of a variant and case, new if there is none."""
        for each in self.rows:
            if (each.variant, each.case) == (variant, case.name):
                return each
        row = Row(variant=variant, case=case.name)
        self.rows.append(row)
        return row


def run(
    cluster: Cluster, variants: Sequence[Variant], effort: Effort, progress: Progress
) -> Result:
    """Measure all variants."""
    result = Result()
    for each in variants:
        for case in each.cases:
            result.row(each.name, case)
    for number in range(effort.rounds):
        first = number % len(variants)
        with progress.step(f"round {number + 1} of {effort.rounds}"):
            for variant in [*variants[first:], *variants[:first]]:
                if not (variant.slow and number >= SLOW_ROUNDS):
                    _turn(cluster, variant, effort, result, last=number == effort.rounds - 1)
    return result


def _turn(
    cluster: Cluster, variant: Variant, effort: Effort, result: Result, *, last: bool
) -> None:
    def of(case: Case, warm: int) -> Sample:
        count = effort.count * (_EACH_AT_ONCE if case.workers > 1 else 1)
        return measure(cluster.plane, case, count=count, seconds=effort.seconds, warm=warm)

    for case in variant.cases:
        result.row(variant.name, case).baselines.append(of(case, effort.warm))
    with cluster.policy(variant.documents):
        cluster.set_delay(variant.delay)
        try:
            before = cluster.requests()
            cluster.connection.admit(ONE.pod())
            result.lookups[variant.name] = cluster.requests() - before
            for case in variant.cases:
                warm = 0 if variant.slow else effort.warm
                result.row(variant.name, case).samples.append(of(case, warm))
        finally:
            cluster.set_delay(0)
        if variant.freezes and last:
            _freeze(cluster, variant, result)


def _freeze(cluster: Cluster, variant: Variant, result: Result) -> None:
    times = result.frozen.setdefault(variant.name, {})
    with cluster.kyverno.frozen():
        for case in (ONE, NOTHING):
            sample = measure(cluster.plane, case, count=_FROZEN_PODS, seconds=60, warm=0)
            times[case.name] = sample.milliseconds
            refused = result.frozen_refused.get(variant.name, 0)
            result.frozen_refused[variant.name] = refused + sample.refused
