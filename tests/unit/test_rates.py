"""Rates: what comes, by the clock; what is done, by its work; and demand, which is their quotient.

The simulations of demand here know the true load; nobody else does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.rates import Arrivals, Pace

MEMORY_S = 30.0


@dataclass
class Clock:
    """A clock that a test moves."""

    now: float = 50.0

    def __call__(self) -> float:
        return self.now


def arriving(per_s: float, seconds: float, *, clock: Clock, each: float = 1.0) -> Arrivals:
    """Let amounts of `each` come evenly, at this rate, for so long."""
    arrivals = Arrivals(MEMORY_S, clock=clock)
    for _ in range(round(per_s * seconds / each)):
        clock.now += each / per_s
        arrivals.add(each)
    return arrivals


class TestArrivals:
    """How much comes a second, of late."""

    def test_nothing_has_come_yet(self) -> None:
        """A rate of 0, whenever it is read."""
        clock = Clock()
        arrivals = Arrivals(MEMORY_S, clock=clock)
        assert arrivals.per_s == 0
        clock.now += 1e9
        assert arrivals.per_s == 0

    @given(per_s=st.floats(1, 1000), each=st.floats(1, 20))
    def test_a_steady_rate_is_found(self, per_s: float, each: float) -> None:
        """Within what one arrival is worth, after some times the memory."""
        clock = Clock()
        arrivals = arriving(per_s, 5 * MEMORY_S, clock=clock, each=each)
        one = each / MEMORY_S
        assert arrivals.per_s == pytest.approx(per_s, rel=0.01, abs=one)

    def test_it_is_found_to_95_percent_in_three_memories(self) -> None:
        arrivals = arriving(100, 3 * MEMORY_S, clock=Clock())
        assert arrivals.per_s == pytest.approx(95, abs=0.5)

    @given(amount=st.floats(0, 1e6), later_s=st.floats(0, 300))
    def test_a_burst_counts_as_if_spread_over_the_memory(
        self, amount: float, later_s: float
    ) -> None:
        """Not as the rate of its own short time; then it fades."""
        clock = Clock()
        arrivals = Arrivals(MEMORY_S, clock=clock)
        arrivals.add(amount)
        assert arrivals.per_s == pytest.approx(amount / MEMORY_S)
        clock.now += later_s
        expected = amount / MEMORY_S * math.exp(-later_s / MEMORY_S)
        assert arrivals.per_s == pytest.approx(expected)

    def test_what_has_stopped_is_forgotten(self) -> None:
        """To a thousandth in seven memories, and to nothing in the end."""
        clock = Clock()
        arrivals = arriving(100, 5 * MEMORY_S, clock=clock)
        clock.now += 7 * MEMORY_S
        assert arrivals.per_s < 0.1
        clock.now += 1e9
        assert arrivals.per_s == 0

    def test_reading_changes_nothing(self) -> None:
        """Whoever scrapes, and however often."""
        clock = Clock()
        often, never = (Arrivals(MEMORY_S, clock=clock) for _ in range(2))
        for _ in range(50):
            clock.now += 0.7
            for arrivals in (often, never):
                arrivals.add(3)
            assert often.per_s >= 0
        assert often.per_s == never.per_s

    def test_a_clock_that_was_read_too_early_makes_no_rate_larger(self) -> None:
        """A reader in another thread may come between an arrival and its time."""
        clock = Clock()
        arrivals = Arrivals(MEMORY_S, clock=clock)
        arrivals.add(30)
        clock.now -= 0.01
        assert arrivals.per_s == 1


class TestPace:
    """How much is done in a second of work, of late."""

    def test_nothing_is_measured_yet(self) -> None:
        """0 until something has taken time, and no division by nothing."""
        pace = Pace(MEMORY_S)
        assert pace.per_s == 0
        pace.add(1, 0.0)
        assert pace.per_s == 0
        pace.add(7, 2.0)
        assert pace.per_s == pytest.approx(4, rel=0.02)

    @given(
        per_s=st.floats(0.1, 1e4),
        seconds=st.lists(st.floats(0.001, 100), min_size=1, max_size=50),
    )
    def test_a_steady_pace_is_known_at_once(self, per_s: float, seconds: list[float]) -> None:
        """Whatever the pieces, and for as long as one likes."""
        pace = Pace(MEMORY_S)
        for piece in seconds:
            pace.add(per_s * piece, piece)
            assert pace.per_s == pytest.approx(per_s)

    def test_another_pace_is_learnt(self) -> None:
        """Half of the way in 0.7 memories of work, however many pieces that is."""
        for pieces in (7, 700):
            pace = Pace(MEMORY_S)
            for _ in range(1000):
                pace.add(1, 0.01 * MEMORY_S)
            before = pace.per_s
            piece = 0.7 * MEMORY_S / pieces
            for _ in range(pieces):
                pace.add(0.5 * before * piece, piece)
            assert pace.per_s == pytest.approx(0.75 * before, rel=0.03)


class TestDemand:
    """Arrivals by pace and streams: how many pods' worth of work is asked for."""

    @given(load=st.floats(0.1, 20), streams=st.integers(1, 8), window_s=st.floats(0.005, 0.5))
    def test_it_is_the_load(self, load: float, streams: int, window_s: float) -> None:
        """1.0 is what one pod can do, and ten times as much reads 10."""
        clock, pace = Clock(), Pace(MEMORY_S)
        for _ in range(100):
            pace.add(8, 8 * window_s)
        capacity = streams / window_s
        each = load * capacity * 0.1
        arrivals = arriving(load * capacity, 5 * MEMORY_S, clock=clock, each=each)
        assert arrivals.per_s / (streams * pace.per_s) == pytest.approx(load, rel=0.02)
