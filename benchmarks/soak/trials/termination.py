"""SIGTERM under load: what was accepted is answered, to the end of the drain and after it."""

from __future__ import annotations

import signal
import time

import psutil

from benchmarks.peers.client import BROKEN, REFUSED
from benchmarks.soak.load import Phase, summary
from benchmarks.soak.results import Outcome, Row, behaves
from benchmarks.soak.stage import PATIENCE_S, Stage

LOAD = 0.5
"""Of capacity; it goes on after the end, as it does where nobody balances."""
EDGE_S = 0.5
"""What is sent so shortly before the port is closed may be under way when it is."""


def run(stage: Stage) -> Outcome:
    """End servers in the midst of their work."""
    rows, others = [], 0.0
    for _ in range(stage.plan.terminations):
        row, busy = _terminate(stage)
        rows.append(row)
        others = max(others, busy)
    lost = [row["lost while draining"] for row in rows]
    cut = [sum(row["begun, not answered"].values()) for row in rows]
    codes = [row["exit code"] for row in rows]
    answered = sum(row["answered while draining"] for row in rows)
    checks = [
        behaves(
            f"SIGTERM at {LOAD:g}× of capacity: every request until the drain ends is answered",
            not any(lost),
            f"{sum(lost)} lost, {answered} answered",
        ),
        behaves(
            "none that the server had begun is cut off, before or after that",
            not any(cut),
            f"{sum(cut)} cut off; later ones found the port closed",
        ),
        behaves("exit code 0", not any(codes), f"{codes}"),
    ]
    return Outcome("termination", stage.model, rows, checks, others=others)


def _terminate(stage: Stage) -> tuple[Row, float]:
    drain_s, rate = stage.plan.drain_s, LOAD * stage.capacity()
    with stage.serving("termination", TIMBRE_DRAIN_S=drain_s) as served:
        stage.warm_up(served)
        clients = stage.begin(served, [Phase(rate, 3 * drain_s)])
        stage.pass_time(clients.begun + drain_s)
        terminated = time.monotonic()
        served.server.process.send_signal(signal.SIGTERM)
        code = _exit_code(served.server.process)
        gone = time.monotonic()
        samples = stage.end(clients)
        others = served.watch.others()
    closing = terminated + drain_s - EDGE_S
    before = summary([s for s in samples if s.sent < terminated])
    draining = summary([s for s in samples if terminated <= s.sent < closing])
    later = summary([s for s in samples if s.sent >= closing])
    begun = served.logged()
    wrong = {str(status): n for status, n in begun.items() if status not in {200, 429}}
    return {
        "before": before.requests,
        "draining": draining.requests,
        "answered while draining": draining.accepted,
        "refused 429": draining.statuses.get("429", 0),
        "lost while draining": sum(before.wrong.values()) + sum(draining.wrong.values()),
        "after": later.requests,
        "found the port closed": later.statuses.get(str(REFUSED), 0),
        "closed unread": later.statuses.get(str(BROKEN), 0),
        "begun, not answered": wrong,
        "gone s after SIGTERM": gone - terminated,
        "exit code": code,
    }, others


def _exit_code(process: psutil.Process) -> int:
    """Wait for the end of a server, which is a child of this process."""
    try:
        return process.wait(PATIENCE_S) or 0
    except psutil.TimeoutExpired:
        return -1
