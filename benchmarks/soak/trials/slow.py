"""Hundreds of clients that hardly say a word, beside honest ones."""

from __future__ import annotations

from benchmarks.soak.load import Phase, between, summary
from benchmarks.soak.results import Outcome, behaves, reaches
from benchmarks.soak.stage import Stage
from benchmarks.soak.vitals import Vitals

HONEST = 0.5
"""Of capacity."""
GROWTH_MIB = 512.0
"""What the hostile ones may cost in memory: a full buffer of bodies (256 MiB), and connections."""


def run(stage: Stage) -> Outcome:
    """Measure honest traffic without them, then with them."""
    plan = stage.plan
    rate, kinds = HONEST * stage.capacity(), {"slow headers": plan.slow, "slow body": plan.slow}
    with stage.serving("slow") as served, Vitals(served.server) as vitals:
        stage.warm_up(served)
        clients = stage.begin(served, [Phase(rate, plan.slow_s)])
        alone = summary(stage.end(clients))
        quiet_mib = vitals.peak_mib()
        hostile = stage.hostile(served, plan.slow_s + 2, **kinds, hoard=plan.hoards)
        clients = stage.begin(served, [Phase(rate, plan.slow_s)])
        stage.pass_time(clients.begun + plan.slow_s / 2)
        open_at_once = served.sample("timbre_connections")
        samples = stage.end(clients)
        beside = summary(samples)
        late = summary(between(samples, clients.begun + plan.slow_s / 2, clients.ends))
        came = hostile.result()
        files = max(vital.files for vital in vitals.seen)
        hung_up = served.sample("timbre_hung_up_connections_total")
        peak_mib, others = vitals.peak_mib(), served.watch.others()
    rows = [
        {
            "honest traffic": name,
            "requests": told.requests,
            "answered": told.accepted,
            "p50 ms": told.p50_ms,
            "p99 ms": told.p99_ms,
            "refused": told.statuses.get("429", 0),
            "other answers": told.wrong,
        }
        for name, told in (("alone", alone), ("beside them", beside), ("its second half", late))
    ]
    rows.append(
        {"hostile": came, "open at once": open_at_once, "files": files, "hung up on": hung_up}
    )
    checks = [
        behaves(
            f"{plan.slow} slow headers, {plan.slow} slow bodies, {plan.hoards} hoarders: every "
            "honest clip is answered with 200",
            beside.accepted == beside.requests,
            f"{beside.accepted} of {beside.requests}; p99 {beside.p99_ms:.0f} ms, "
            f"{alone.p99_ms:.0f} ms without them",
        ),
        reaches(
            f"they cost ≤ {GROWTH_MIB:g} MiB",
            peak_mib - quiet_mib <= GROWTH_MIB,
            f"{peak_mib - quiet_mib:.0f} MiB",
        ),
    ]
    return Outcome("slow", stage.model, rows, checks, others=others)
