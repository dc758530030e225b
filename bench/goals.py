"""The goals of the redirect policies' cost, held against a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from bench.numbers import percentile, shown
from bench.run import Result
from bench.variants import (
    ALLOW_LISTS,
    NOTHING,
    ONE,
    SPREAD,
    TWENTY,
    our_name,
    simplest_name,
)
from components.types import Engine

SIMPLEST_RATIO = 1.15
"""How many times the p50 of its engine's simplest policy a policy's may be."""
NOTHING_RATIO = 1.05
"""The same for a Pod with nothing to redirect."""
NATIVE_NOTHING_RATIO = 1.4
"""The same for the native engine, by no policy's p50: it has no condition on images."""
TWENTY_MILLISECONDS = {
    Engine.MUTATING_ADMISSION_POLICY: 10.0,
    Engine.MUTATING_POLICY: 10.0,
    Engine.CLUSTER_POLICY: 14.0,
}
"""What the p50 of Pods of 20 containers may be."""
FLAT = 1.2
"""How many times what it takes with one namespace it may take with the most."""
SPREAD_RATIO = 1.1
"""How many times what as many namespaces of one host take those of several may take."""
FROZEN_SECONDS = 2.0
"""What a Pod may take while Kyverno is frozen."""

_TIMER_SECONDS = 0.05
"""What may come on top of a time-out: it ends the wait, not the request."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A goal and what was measured."""

    text: str
    measured: str
    met: bool


def goals(result: Result) -> Iterator[Goal]:
    """Each goal of each engine."""
    for engine, pod, size in product(Engine, (ONE, TWENTY), (ALLOW_LISTS[0], ALLOW_LISTS[-1])):
        name = our_name(engine, size)
        ratio = result.row(name, pod).ratio / result.row(simplest_name(engine), pod).ratio
        yield Goal(
            text=f"{name}: {pod.name}, at most {SIMPLEST_RATIO}x the simplest policy",
            measured=f"{ratio:.2f}x",
            met=ratio <= SIMPLEST_RATIO,
        )
    for engine, size in product(Engine, ALLOW_LISTS):
        name = our_name(engine, size)
        ratio = result.row(name, NOTHING).ratio
        limit, than = NATIVE_NOTHING_RATIO, "no policy"
        if engine.needs_kyverno:
            ratio /= result.row(simplest_name(engine), NOTHING).ratio
            limit, than = NOTHING_RATIO, "the simplest policy"
        yield Goal(
            text=f"{name}: nothing to redirect, at most {limit}x {than}",
            measured=f"{ratio:.2f}x",
            met=ratio <= limit,
        )
    for engine, limit in TWENTY_MILLISECONDS.items():
        p50 = percentile(result.row(engine, TWENTY).milliseconds, 50)
        yield Goal(
            text=f"{engine}: 20 containers, p50 at most {limit:.0f} ms",
            measured=f"{shown(p50)} ms",
            met=p50 <= limit,
        )
    for engine, pod, size in product(Engine, (ONE, TWENTY), ALLOW_LISTS[1:]):
        few, many = (
            result.row(our_name(engine, each), pod).ratio for each in (ALLOW_LISTS[0], size)
        )
        yield Goal(
            text=f"{engine}: {size:,} namespaces at most {FLAT}x what 1 takes ({pod.name})",
            measured=f"{many / few:.2f}x",
            met=many / few <= FLAT,
        )
    size, hosts = SPREAD
    for engine, pod in product(Engine, (ONE, TWENTY, NOTHING)):
        one, several = (
            result.row(each, pod).ratio
            for each in (our_name(engine, size), our_name(engine, size, hosts))
        )
        yield Goal(
            text=f"{engine}: {size:,} namespaces of {len(hosts)} hosts at most {SPREAD_RATIO}x"
            f" what {size:,} of one take ({pod.name})",
            measured=f"{several / one:.2f}x",
            met=several / one <= SPREAD_RATIO,
        )
    for engine in Engine:
        worst = max(max(times) for times in result.frozen[engine].values()) / 1000
        refused = result.frozen_refused[engine]
        yield Goal(
            text=f"{engine}: Kyverno frozen, a Pod is admitted after {FROZEN_SECONDS:.0f} s at most"
            f" (and {_TIMER_SECONDS * 1000:.0f} ms)",
            measured=f"{worst:.3f} s, {refused} denied",
            met=worst <= FROZEN_SECONDS + _TIMER_SECONDS and refused == 0,
        )
