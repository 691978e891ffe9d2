"""What a server does at saturation: the measure of every overload."""

from __future__ import annotations

from benchmarks.soak.load import summary
from benchmarks.soak.results import Outcome
from benchmarks.soak.stage import Stage


def run(stage: Stage) -> Outcome:
    """Measure closed loops of the clients that the overload has, too."""
    with stage.serving("capacity") as served:
        rows = []
        for clients, speed, samples in stage.speeds(served):
            told = summary(samples)
            rows.append(
                {
                    "clients": clients,
                    "clips/s": speed,
                    "p50 ms": told.p50_ms,
                    "p99 ms": told.p99_ms,
                    "MiB": served.server.memory() / 2**20,
                    "other answers": told.wrong,
                }
            )
        return Outcome("capacity", stage.model, rows, [], others=served.watch.others())
