"""How soon a server is ready, from the start of its process."""

from __future__ import annotations

from benchmarks.peers.targets import READY_S
from benchmarks.soak.plan import BASE
from benchmarks.soak.results import Check, Outcome, reaches
from benchmarks.soak.stage import Stage


def run(stage: Stage) -> Outcome:
    """Start servers; the slowest counts."""
    rows = []
    for number in range(stage.plan.starts):
        with stage.serving("start") as served:
            rows.append({"start": number + 1, "ready s": served.server.ready_s})
    worst = max(row["ready s"] for row in rows)
    checks: list[Check] = []
    if stage.model != BASE:
        target = f"ready ≤ {READY_S:g} s after the process starts"
        checks.append(reaches(target, worst <= READY_S, f"{worst:.1f} s at worst"))
    return Outcome("start", stage.model, rows, checks)
