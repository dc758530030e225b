"""Percentiles and ratios of measurements, and what they are of. Times are in milliseconds."""

from __future__ import annotations

import datetime as dt
import math
import os
import platform
import statistics
from collections.abc import Sequence


def percentile(samples: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile: the smallest sample that `percent` % of all do not exceed.

    Raises:
        ValueError: without samples, or when `percent` is not in (0, 100].
    """
    if not samples:
        raise ValueError("there are no samples")
    if not 0 < percent <= 100:
        raise ValueError(f"percent is {percent}: use more than 0, at most 100")
    return sorted(samples)[math.ceil(len(samples) * percent / 100) - 1]


def ratio_of_rounds(
    rounds: Sequence[Sequence[float]], baselines: Sequence[Sequence[float]]
) -> float:
    """The median, over the rounds, of a round's p50 by the p50 of that round's baseline.

    Raises:
        ValueError: when the rounds do not pair up, or there are none.
    """
    return statistics.median(
        percentile(mine, 50) / percentile(base, 50)
        for mine, base in zip(rounds, baselines, strict=True)
    )


def shown(milliseconds: float) -> str:
    """A time to three significant digits: `1.23`, `12.3`, `123`, `1,234`."""
    digits = 2 if milliseconds < 10 else 1 if milliseconds < 100 else 0
    return f"{milliseconds:,.{digits}f}"


def machine() -> str:
    """What is measured on, when, and how much else the machine did before."""
    today = dt.datetime.now(dt.UTC).date().isoformat()
    cores = f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"
    busy = f"load average of the 15 minutes before {os.getloadavg()[2]:.1f}"
    return f"{today}; {cores}; {busy}; Kubernetes 1.37.2, Python {platform.python_version()}"
