"""Pods at the edges of blocks: what is known of a block, and by how much a counter grew in it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.canary.live import MAX_BLOCKS, SETTLED_S, edges
from service.canary.pods import Names, Watched, silent_s
from service.canary.prometheus import Samples

NAN = np.nan
EDGES = 1000.0 + 60 * np.arange(5, dtype=np.float64)


def watched(*starts: list[float]) -> Watched:
    """Make pods that ran servers of these starts at the edges."""
    return Watched(tuple(f"pod-{row}" for row in range(len(starts))), EDGES, np.array(starts))


def grown(starts: list[float], values: list[float]) -> list[int]:
    """Tell a counter's growth."""
    increments: list[int] = watched(starts).increments("pod-0", np.array(values)).tolist()
    return increments


class TestIncrements:
    """By how much a counter grew."""

    def test_a_server_that_stays_is_subtracted(self) -> None:
        """What it had before the range is not of the range."""
        assert grown([10.0] * 5, [7, 7, 9, 12, 20]) == [0, 2, 3, 8]

    def test_a_server_that_started_anew_began_at_zero(self) -> None:
        """Also where it has counted more since than the last one had."""
        assert grown([10, 10, 1100, 1100, 1100], [5, 6, 8, 9, 9]) == [1, 8, 1, 0]

    def test_a_pod_that_comes_within_the_range_began_at_zero(self) -> None:
        """In the block in which it is seen first, if it started in that or the one before."""
        assert grown([NAN, NAN, 1090, 1090, 1090], [NAN, NAN, 4, 5, 6]) == [0, 4, 1, 1]
        assert grown([NAN, NAN, 1000, 1000, 1000], [NAN, NAN, 4, 5, 6]) == [0, 4, 1, 1]
        assert grown([NAN, NAN, 999, 999, 999], [NAN, NAN, 4, 5, 6]) == [0, 0, 1, 1]

    def test_a_label_that_comes_later_began_at_zero(self) -> None:
        """A pod has a series of an error only once it has happened."""
        assert grown([10.0] * 5, [NAN, NAN, 2, 2, 3]) == [0, 2, 0, 1]

    def test_an_old_pod_that_is_seen_first_is_not_known_before(self) -> None:
        """What it counted before nobody saw is in no block."""
        starts = [NAN, NAN, 10.0, 10, 10]
        assert grown(starts, [NAN, NAN, 400, 401, 402]) == [0, 0, 1, 1]
        assert watched(starts).known.tolist() == [[False, False, True, True]]

    def test_a_pod_that_goes_is_known_till_it_was_last_seen(self) -> None:
        """Its last block is lost with it."""
        starts = [10.0, 10, NAN, NAN, NAN]
        assert grown(starts, [1, 2, NAN, NAN, NAN]) == [1, 0, 0, 0]
        assert watched(starts).known.tolist() == [[True, False, False, False]]

    @given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=4, max_size=4))
    def test_nothing_is_counted_twice_or_invented(self, blocks: list[tuple[int, bool]]) -> None:
        """Servers that start anew at an edge lose nothing, whatever they have counted."""
        start, value = 10.0, 100.0
        starts, values, truth = [start], [value], []
        for number, (count, again) in enumerate(blocks):
            if again:
                start, value = EDGES[number], 0.0
            value += count
            starts.append(start)
            values.append(value)
            truth.append(count)
        assert grown(starts, values) == truth


class TestSilence:
    """How long a target has answered no scrape."""

    @pytest.mark.parametrize(
        ("up", "seconds"),
        [
            ([1, 1, 1, 1], 0),
            ([1, 1, 1, 0], 0),
            ([1, 0, 0, 0], 30),
            ([0, 0, 0, 0], 45),
            ([0, 0, 1, 0], 0),
            ([0, 1, 0, 0], 15),
        ],
    )
    def test_it_is_from_one_failed_scrape_to_another(self, up: list[float], seconds: float) -> None:
        """Those since the last that was answered: what was between that and the first isn't known.

        However late it is looked at: Prometheus tells late that a target has gone.
        """
        moments_s = 1000 + 15 * np.arange(4, dtype=np.float64)
        assert silent_s(Samples({}, moments_s, np.array(up, dtype=np.float64))) == seconds


class TestEdges:
    """Where blocks begin and end."""

    def test_they_are_whole_and_settled(self) -> None:
        """From the start on; the last is as old as `SETTLED_S`, or older."""
        np.testing.assert_array_equal(edges(100, 220 + SETTLED_S, 60), [100, 160, 220])
        np.testing.assert_array_equal(edges(100, 219.9 + SETTLED_S, 60), [100, 160])

    def test_before_the_first_block_there_is_one_edge(self) -> None:
        """So there are no blocks."""
        assert edges(100, 101, 60).tolist() == [100]
        assert edges(100, 90, 60).tolist() == [100]

    def test_they_are_bounded(self) -> None:
        """The newest are taken, on the same grid."""
        all_of_them = edges(0, MAX_BLOCKS * 60 + SETTLED_S, 60)
        assert (all_of_them[0], all_of_them.size) == (0, MAX_BLOCKS + 1)
        newest = edges(0, (MAX_BLOCKS + 1) * 60 + SETTLED_S, 60)
        assert (newest[0], newest.size) == (60, MAX_BLOCKS + 1)


class TestNames:
    """What pods are called."""

    def test_those_of_the_chart_are_told_apart(self) -> None:
        """Stable's pattern takes neither a canary nor a baseline, and a dot is a dot."""
        names = Names.of_release("audio", "a.timbre")
        patterns = (names.stable, names.candidate, names.baseline)
        for pod, matches in {
            "a.timbre-5d8f7c9b4-x2x7q": (True, False, False),
            "a.timbre-canary-5d8f7c9b4-x2x7q": (False, True, False),
            "a.timbre-baseline-5d8f7c9b4-x2x7q": (False, False, True),
            "a-timbre-5d8f7c9b4-x2x7q": (False, False, False),
            "a.timbre-web-5d8f7c9b4-x2x7q": (False, False, False),
        }.items():
            assert tuple(re.fullmatch(each, pod) is not None for each in patterns) == matches
