"""What becomes of turns that others disturbed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers.machine import BUSY
from benchmarks.peers.measure import TRIES, Bench
from benchmarks.peers.plan import QUICK
from tests.benchmarks.records import a_cell


def _taken(disturbances: Iterator[tuple[float, ...]]) -> tuple[Bench, int]:
    """Take one turn whose cells, each time, others disturbed so much; and count the times."""
    bench = Bench(QUICK, [], Path("python"), 2, Path("logs"), print)
    bench.cells.append(a_cell("earlier", 1.0, others=1.0))
    times = 0

    def turn() -> None:
        nonlocal times
        times += 1
        bench.cells += [a_cell("timbre", times, others=share) for share in next(disturbances)]

    bench._undisturbed(turn)
    return bench, times


def test_a_disturbed_turn_is_taken_again() -> None:
    """All its cells are measured anew, and those of turns before it are left alone."""
    bench, times = _taken(iter([(0.0, BUSY * 1.01), (BUSY, 0.0)]))
    assert times == 2
    assert [cell.clips_per_s for cell in bench.cells] == [1.0, 2, 2]


def test_a_turn_that_is_always_disturbed_keeps_its_last_cells() -> None:
    """They are marked by what disturbed them."""
    bench, times = _taken(iter([(0.5,)] * TRIES))
    assert times == TRIES
    assert [cell.others for cell in bench.cells] == [1.0, 0.5]
