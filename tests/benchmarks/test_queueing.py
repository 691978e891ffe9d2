"""What the batcher costs: a figure for each queue."""

from __future__ import annotations

from benchmarks import queueing


def test_each_queue_has_its_figure() -> None:
    """All windows are answered, and that takes some time."""
    figures = queueing.costs(1)["cpu_us_per_window"]
    assert len(figures) == len(queueing.QUEUES)
    assert all(microseconds > 0 for microseconds in figures.values())
