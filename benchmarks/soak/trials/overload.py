"""Times of capacity, offered as Poisson arrivals: what is still done, and how the rest is told."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from benchmarks.peers.client import Sample
from benchmarks.peers.figures import percentile
from benchmarks.peers.targets import (
    GOODPUT,
    KEPT,
    MEMORY_MIB,
    RECOVERY_S,
    REFUSAL_MS,
)
from benchmarks.soak.load import Phase, between, recovery_s, summary
from benchmarks.soak.plan import BASE
from benchmarks.soak.results import Check, Outcome, Row, behaves, reaches
from benchmarks.soak.stage import Stage
from benchmarks.soak.vitals import Vitals

USUAL = 0.5
"""Of capacity: what is offered before and after."""
NORMAL = 2.0
"""Times the p99 of the time before: up to that, an answer counts as normal again."""


def run(stage: Stage) -> Outcome:
    """Offer each share to a server of its own."""
    capacity = stage.capacity()
    rows, others = [], 0.0
    for share in stage.plan.overload(stage.model).shares:
        row, busy = _offer(stage, share, capacity)
        rows.append(row)
        others = max(others, busy)
    return Outcome("overload", stage.model, rows, list(_checks(stage.model, rows)), others=others)


def _offer(stage: Stage, share: float, capacity: float) -> tuple[Row, float]:
    plan = stage.plan.overload(stage.model)
    phases = [
        Phase(USUAL * capacity, plan.before_s),
        Phase(share * capacity, plan.during_s),
        Phase(USUAL * capacity, plan.after_s),
    ]
    with stage.serving("overload") as served, Vitals(served.server) as vitals:
        stage.warm_up(served)
        clients = stage.begin(served, phases)
        samples = stage.end(clients)
        others = served.watch.others()
    begin = clients.begun + plan.before_s
    end = begin + plan.during_s
    before, after = between(samples, 0, begin), between(samples, end, clients.ends)
    worst_s = percentile([sample.latency_s for sample in before if sample.ok], 0.99)
    row = _row(between(samples, begin, end), begin, end, capacity)
    done = sum(sample.ok and begin <= sample.done < end for sample in samples)
    return {
        "offered": share,
        "goodput": done / plan.during_s / capacity,
        **row,
        "accepts again after s": recovery_s(after, end, math.inf),
        "recovered after s": recovery_s(after, end, NORMAL * worst_s),
        "wrong around it": {**summary(before).wrong, **summary(after).wrong},
        "MiB": vitals.peak_mib(begin, end),
    }, others


def _row(samples: Sequence[Sample], begin: float, end: float, capacity: float) -> Row:
    told = summary(samples)
    return {
        "offered clips/s": len(samples) / (end - begin),
        "capacity clips/s": capacity,
        "p50 ms": told.p50_ms,
        "p99 ms": told.p99_ms,
        "429": told.statuses.get("429", 0) / max(1, told.requests),
        "p50 ms of a 429": told.refused_p50_ms,
        "p99 ms of a 429": told.refused_p99_ms,
        "sent late, p99 ms": told.late_p99_ms,
        "other answers": told.wrong,
    }


def _checks(model: str, rows: Sequence[Row]) -> Iterator[Check]:
    for row in rows:
        times = f"{row['offered']:g}× of capacity"
        least = GOODPUT.get(row["offered"])
        if model == BASE and least is not None:
            target = f"{times}: goodput ≥ {least:.0%} of capacity"
            yield reaches(target, row["goodput"] >= least, f"{row['goodput']:.1%}")
        wrong = {**row["other answers"], **row["wrong around it"]}
        yield behaves(f"{times}: nothing but 200 and 429", not wrong, f"{wrong or 'none'}")
        refused = row["p99 ms of a 429"]
        target = f"{times}: the rest 429 within {REFUSAL_MS:g} ms (p99)"
        yield reaches(target, not refused > REFUSAL_MS, f"{refused:.0f} ms")
        again, recovered = row["accepts again after s"], row["recovered after s"]
        yield behaves(f"{times}: then all are accepted again", again < math.inf, f"{again:.1f} s")
        target = f"{times}: recovered in {RECOVERY_S:g} s, latency too"
        yield reaches(target, recovered <= RECOVERY_S, f"{recovered:.1f} s")
    if model == BASE:
        worst = max(row["MiB"] for row in rows)
        target = f"resident memory ≤ {MEMORY_MIB / 1024:g} GiB up to {rows[-1]['offered']:g}×"
        yield reaches(target, worst <= MEMORY_MIB, f"{worst:.0f} MiB at most")
    else:
        kept = [row["offered"] for row in rows if row["goodput"] >= KEPT]
        said = ", ".join(f"{row['goodput']:.0%} at {row['offered']:g}×" for row in rows)
        yield reaches(f"the highest overload that keeps {KEPT:.0%}", bool(kept), said)
