"""Clients that leave: in the headers, in the body, in the queue, in the engine."""

from __future__ import annotations

import time

from benchmarks.soak.load import Phase, summary
from benchmarks.soak.results import Outcome, behaves
from benchmarks.soak.stage import Served, Stage
from benchmarks.soak.vitals import worker_of

HONEST = 0.4
LEAVERS = 0.8
"""Visits, of capacity; about half of them leave work behind that should not be done."""
SETTLE_S = 15.0
"""Longer than slow headers may take: by then every trace must be gone."""
SPARE_FILES = 8


def run(stage: Stage) -> Outcome:
    """Let them leave beside honest traffic, and look for what they left."""
    seconds, capacity = stage.plan.vanishing_s, stage.capacity()
    with stage.serving("vanishing") as served:
        stage.warm_up(served)
        files = worker_of(served.server).num_fds()
        hostile = stage.hostile(served, seconds, leavers=LEAVERS * capacity)
        told = summary(stage.end(stage.begin(served, [Phase(HONEST * capacity, seconds)])))
        came = hostile.result()
        left = _left(served, files)
        dropped = served.sample("timbre_dropped_windows_total")
        others = served.watch.others()
    rows = [
        {
            "honest requests": told.requests,
            "answered": told.accepted,
            "p99 ms": told.p99_ms,
            "refused": told.statuses.get("429", 0),
            "other answers": told.wrong,
            "vanished": came,
            "windows dropped unrun": dropped,
            "left behind": left,
        }
    ]
    checks = [
        behaves(
            "clients that vanish: honest ones get 200 or 429 only",
            not told.wrong,
            f"{told.accepted} of {told.requests} answered, other answers: {told.wrong or 'none'}",
        ),
        behaves(
            "nothing is left of them: windows, connections, files",
            not any(left.values()),
            f"{left}",
        ),
    ]
    return Outcome("vanishing", stage.model, rows, checks, others=others)


def _left(served: Served, files: int) -> dict[str, int]:
    """Wait until nothing is left, or long enough, and say what is."""
    until = time.monotonic() + SETTLE_S
    while True:
        now = worker_of(served.server).num_fds()
        left = {
            "windows": round(served.sample("timbre_in_flight_windows")),
            # What asks is one itself.
            "connections": max(0, round(served.sample("timbre_connections")) - 1),
            "files": max(0, now - files - SPARE_FILES),
        }
        if not any(left.values()) or time.monotonic() > until:
            return left
        time.sleep(0.2)
