"""Minutes of honest and hostile clients together: does anything grow, break or restart?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.soak.load import Phase, summary
from benchmarks.soak.results import Check, Outcome, behaves, reaches
from benchmarks.soak.stage import Stage
from benchmarks.soak.vitals import Vitals, worker_of

HONEST = 0.5
"""Of capacity; every `BURST_EVERY_S` there are `BURST` times of it for `BURST_S`."""
BURST, BURST_S, BURST_EVERY_S = 2.0, 5.0, 60.0
SLOW, LEAVERS, SCRIBBLERS = 50, 2.0, 5.0
"""Slow headers, and as many slow bodies; leavers and scribblers a second."""
BLOCK_S = 10.0
"""Memory is averaged over blocks, whose errors depend less on each other than those of looks."""
HOUR_S = 3600.0
DRIFT_MIB_PER_HOUR = 60.0
"""A MiB a minute: at that, a pod of 2 GiB would last more than a day."""
SPREAD = 2.0
"""Standard errors on both sides: about 95%."""


@dataclass(frozen=True, slots=True)
class Slope:
    """Growth an hour, with its interval."""

    per_hour: float
    low: float
    high: float


def run(stage: Stage) -> Outcome:
    """Load a server for minutes; its memory after the time to settle is what counts."""
    plan, capacity = stage.plan, stage.capacity()
    with stage.serving("drift") as served, Vitals(served.server) as vitals:
        worker = worker_of(served.server).pid
        stage.warm_up(served)
        hostile = stage.hostile(
            served,
            plan.drift_s,
            **{"slow headers": SLOW, "slow body": SLOW},
            leavers=LEAVERS,
            scribblers=SCRIBBLERS,
        )
        clients = stage.begin(served, list(_phases(capacity, plan.drift_s)))
        told = summary(stage.end(clients))
        came = hostile.result()
        same = worker_of(served.server).pid == worker
        restarts = round(served.sample("timbre_decoder_restarts_total"))
        others = served.watch.others()
    settled = [v for v in vitals.seen if clients.begun + plan.settle_s <= v.at <= clients.ends]
    drift = slope([v.at for v in settled], [v.memory / 2**20 for v in settled])
    faults = {status: n for status, n in told.wrong.items() if not status.startswith("4")}
    hostile_faults = {what: n for what, n in came.items() if ": 5" in what}
    rows = [
        {
            "minutes": plan.drift_s / 60,
            "honest requests": told.requests,
            "answered": told.accepted,
            "refused": told.statuses.get("429", 0),
            "other answers": told.wrong,
            "p50 ms": told.p50_ms,
            "p99 ms": told.p99_ms,
            "hostile": came,
            "MiB": _range([v.memory / 2**20 for v in settled]),
            "MiB an hour": drift.per_hour,
            "95% interval": f"{drift.low:.0f} to {drift.high:.0f}",
            "threads": _range([v.threads for v in settled]),
            "files": _range([v.files for v in settled]),
        }
    ]
    checks = [
        behaves(
            "0 × 5xx, no request without an answer",
            not faults | hostile_faults,
            f"{faults | hostile_faults or 'none'} of {told.requests} honest and "
            f"{sum(came.values())} hostile",
        ),
        behaves(
            "0 restarts",
            same and not restarts,
            f"worker {'the same' if same else 'replaced'}, {restarts} decoders replaced",
        ),
        _growth(drift),
    ]
    memory = [(v.at - clients.begun, v.memory / 2**20) for v in vitals.seen]
    return Outcome("drift", stage.model, rows, checks, memory=memory, others=others)


def _growth(drift: Slope) -> Check:
    target = f"memory grows by ≤ {DRIFT_MIB_PER_HOUR:g} MiB an hour"
    if math.isnan(drift.per_hour):
        return Check(target, "not measured", "–", behaviour=False)
    said = f"{drift.per_hour:.0f} MiB an hour ({drift.low:.0f} to {drift.high:.0f})"
    return reaches(target, drift.high <= DRIFT_MIB_PER_HOUR, said)


def _phases(capacity: float, seconds: float) -> Sequence[Phase]:
    """Alternate usual traffic and bursts, up to the end."""
    phases: list[Phase] = []
    left = seconds
    while left > 0:
        usual = min(left, BURST_EVERY_S - BURST_S)
        phases.append(Phase(HONEST * capacity, usual))
        left -= usual
        if left > 0:
            burst = min(left, BURST_S)
            phases.append(Phase(BURST * capacity, burst))
            left -= burst
    return phases


def slope(times: Sequence[float], values: Sequence[float]) -> Slope:
    """Fit a line to means of blocks by least squares; growth an hour, and `SPREAD` errors of it.

    All nan where there are fewer than three blocks.
    """
    if not times:
        return Slope(math.nan, math.nan, math.nan)
    at, level = np.asarray(times) - times[0], np.asarray(values)
    blocks = (at // BLOCK_S).astype(int)
    numbers = np.unique(blocks)
    if len(numbers) < 3:  # noqa: PLR2004 - a line and its error need three
        return Slope(math.nan, math.nan, math.nan)
    x = np.array([at[blocks == n].mean() for n in numbers])
    y = np.array([level[blocks == n].mean() for n in numbers])
    centred = x - x.mean()
    rise = float(centred @ (y - y.mean()) / (centred @ centred))
    rest = y - y.mean() - rise * centred
    error = math.sqrt(float(rest @ rest) / (len(x) - 2) / float(centred @ centred))
    low, high = rise - SPREAD * error, rise + SPREAD * error
    return Slope(rise * HOUR_S, low * HOUR_S, high * HOUR_S)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.0f}–{max(values):.0f}" if values else "–"
