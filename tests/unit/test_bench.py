from __future__ import annotations

import re

import pytest

from bench.load import Case
from bench.mirror import CACHED, NO_MIRROR, Measured, Times
from bench.node import markdown
from bench.numbers import percentile, ratio_of_rounds, shown
from bench.variants import HOSTS, SPREAD, our_name, variants
from components.types import Engine
from rehearsal.cluster.node import Containerd


@pytest.mark.parametrize(
    ("samples", "percent", "expected"),
    [
        pytest.param([7.0], 99, 7.0, id="one sample is every percentile"),
        pytest.param([3.0, 1.0, 2.0], 50, 2.0, id="the order does not matter"),
        pytest.param([1.0, 2.0, 3.0, 4.0], 50, 2.0, id="of an even number, the lower middle one"),
        pytest.param([float(n) for n in range(1, 101)], 99, 99.0, id="99 of 100"),
        pytest.param([float(n) for n in range(1, 51)], 99, 50.0, id="of 50, the last"),
        pytest.param([float(n) for n in range(1, 101)], 100, 100.0, id="the last"),
    ],
)
def test_a_percentile_is_a_sample(samples: list[float], percent: float, expected: float) -> None:
    assert percentile(samples, percent) == expected


@pytest.mark.parametrize("percent", [0, -1, 100.5])
def test_a_percentile_outside_the_samples_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="percent is"):
        percentile([1.0], percent)


def test_no_samples_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 50)


def test_a_noisy_round_does_not_move_the_ratio() -> None:
    assert ratio_of_rounds([[2.0], [4.0], [90.0]], [[1.0], [2.0], [3.0]]) == 2.0


def test_a_slow_round_counts_against_its_own_baseline() -> None:
    assert ratio_of_rounds([[2.0], [20.0]], [[1.0], [10.0]]) == 2.0


def test_rounds_without_a_baseline_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio_of_rounds([[1.0], [2.0]], [[1.0]])


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [(1.234, "1.23"), (12.34, "12.3"), (123.4, "123"), (6320.0, "6,320")],
)
def test_times_are_shown_with_three_digits(milliseconds: float, expected: str) -> None:
    assert shown(milliseconds) == expected


@pytest.mark.parametrize(
    ("case", "name"),
    [
        (Case(), "1 container"),
        (Case(containers=20), "20 containers"),
        (Case(redirected=False), "1 container, nothing to redirect"),
        (Case(workers=16), "1 container, 16 at once"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_case_is_named_by_its_pod_and_concurrency(case: Case, name: str) -> None:
    assert case.name == name


def test_a_nodes_times_stand_beside_their_ratio_to_no_mirror() -> None:
    measured = Measured(
        states={
            NO_MIRROR: Times(apply=[2.0, 1.0, 3.0], kubelet=[4.0]),
            CACHED: Times(apply=[3.0], kubelet=[6.0]),
        },
        withdrawn_after=36.6,
        restored_after=23.2,
    )
    lines = markdown({Containerd.V1_6: measured}, 3, "a machine").splitlines()
    assert f"| {NO_MIRROR} | 2.00 (1.00 to 3.00) | 1.00 | 4.00 | 1.00 | 3 |" in lines
    assert f"| {CACHED} | 3.00 | 1.50 | 6.00 | 1.50 | 1 |" in lines
    assert "The DaemonSet withdrew the mirror 37 s after the black hole began, and put it" in lines


@pytest.mark.parametrize("engine", Engine)
def test_namespaces_spread_over_hosts_are_as_many_as_those_of_one(engine: Engine) -> None:
    size, hosts = SPREAD
    documents = {each.name: repr(each.documents[0]) for each in variants()}
    for each in (HOSTS[:1], hosts):
        text = documents[our_name(engine, size, each)]
        found = set(re.findall(r"team[0-9]{4}", text))
        assert len(found) == size - 1
        assert all(f"{host}/" in text for host in each)
