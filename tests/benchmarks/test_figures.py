"""The arithmetic of the benchmark."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest

from benchmarks.peers.figures import (
    Spread,
    clips_per_vcpu_hour,
    dollars_per_million,
    percentile,
    poisson,
    share_of_peak,
)
from benchmarks.peers.plan import FULL


def test_arrivals_are_in_order_and_in_time() -> None:
    """From 0 to the end of the span."""
    arrivals = poisson(50, 10, seed=1)
    assert arrivals == sorted(arrivals)
    assert arrivals[0] >= 0
    assert arrivals[-1] < 10


def test_arrivals_have_the_rate_and_the_spread_of_a_poisson_process() -> None:
    """Mean and standard deviation of exponential gaps are both 1/rate."""
    arrivals = poisson(50, 400, seed=2)
    gaps = [after - before for before, after in pairwise(arrivals)]
    mean = sum(gaps) / len(gaps)
    deviation = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps))
    assert mean == pytest.approx(1 / 50, rel=0.03)
    assert deviation == pytest.approx(1 / 50, rel=0.03)


def test_contenders_of_different_speed_meet_one_pattern() -> None:
    """The gaps of a seed scale with the rate."""
    slow, fast = poisson(2, 10, seed=3), poisson(4, 5, seed=3)
    assert fast == pytest.approx([time / 2 for time in slow])


def test_nothing_arrives_at_no_rate() -> None:
    """A rate of 0 is a mistake, not an empty schedule."""
    with pytest.raises(ValueError, match="above 0"):
        poisson(0, 10, seed=0)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 10.0), (0.95, 19.0), (0.99, 20.0), (1.0, 20.0), (0.0, 1.0)]
)
def test_a_percentile_is_a_value_that_was_measured(share: float, expected: float) -> None:
    """The smallest that covers the share, whatever the order."""
    assert percentile([float(value) for value in range(20, 0, -1)], share) == expected


def test_nothing_has_no_percentile() -> None:
    """Nor a spread."""
    assert math.isnan(percentile([], 0.5))
    assert math.isnan(Spread.of([]).median)


def test_a_spread_is_the_median_and_the_range() -> None:
    """Of the rounds."""
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_cost_follows_from_speed_and_price() -> None:
    """10 clips/s on 2 vCPUs: 18,000 a vCPU-hour, so a million takes 55.6 of them."""
    assert clips_per_vcpu_hour(10, 2) == 18_000
    assert dollars_per_million(10, 2, 0.05) == pytest.approx(2.7778, rel=1e-4)
    assert dollars_per_million(0, 2, 0.05) == math.inf


def test_efficiency_is_the_work_done_over_the_peak() -> None:
    """4 clips/s of 40 GFLOP at a peak of 200 GFLOPS is 80%."""
    assert share_of_peak(4, 40, 200) == pytest.approx(0.8)


def test_a_load_is_long_enough_for_its_clients_and_for_the_clock() -> None:
    """A slow server answers each client in turn; a fast one is measured for some seconds."""
    assert FULL.requests(1, 1.0) == 10
    assert FULL.requests(8, 1.0) == 24
    assert FULL.requests(32, 1.0) == 48
    assert FULL.requests(8, 100.0) == 300


def test_an_overload_lasts_until_its_queue_no_longer_matters() -> None:
    """A slow model is overloaded for as long as 100 of its clips take; other loads are short."""
    assert FULL.seconds(2.0, 4.0) == 25.0
    assert FULL.seconds(2.0, 50.0) == FULL.open_s
    assert FULL.seconds(0.8, 4.0) == FULL.open_s


def test_the_sweep_comes_once_and_the_focus_in_every_round() -> None:
    """Who has no sweep meets the focus only."""
    assert FULL.loads(0, sweep=True) == [1, 4, 8, 16, 32]
    assert FULL.loads(1, sweep=True) == FULL.loads(0, sweep=False) == [1, 8]
