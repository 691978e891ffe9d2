"""Decoders that are killed and that hang, under load: their own clips suffer, nothing else."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

import psutil

from benchmarks.soak.load import Phase, summary
from benchmarks.soak.results import Outcome, behaves
from benchmarks.soak.stage import Served, Stage
from benchmarks.soak.vitals import decoders_of, takes_clips, worker_of
from service.decoding.pool import CLIP_LIMIT_S

HONEST = 0.4
AFTER_S = 2.0
"""Between the replacement of the last hung decoder and the end of the load."""


def run(stage: Stage) -> Outcome:
    """Kill decoders by SIGKILL and stop some by SIGSTOP, one after the other."""
    plan, rate = stage.plan, HONEST * stage.capacity()
    with stage.serving("decoder", TIMBRE_DECODERS=2) as served:
        stage.warm_up(served)
        worker = worker_of(served.server).pid
        clients = stage.begin(served, [Phase(rate, plan.decoder_s)])
        hurt = _hurt(stage, served, clients.begun, clients.ends)
        told = summary(stage.end(clients))
        restarts = round(served.sample("timbre_decoder_restarts_total"))
        alive, same = served.probe("/livez"), worker_of(served.server).pid == worker
        others = served.watch.others()
    undecodable = told.statuses.get("422", 0)
    wrong = {status: n for status, n in told.wrong.items() if status != "422"}
    rows = [
        {
            **hurt,
            "restarts counted": restarts,
            "requests": told.requests,
            "answered": told.accepted,
            "422": undecodable,
            "refused": told.statuses.get("429", 0),
            "other answers": wrong,
            "p99 ms": told.p99_ms,
        }
    ]
    lost = hurt["killed"] + hurt["hung"]
    checks = [
        behaves(
            f"{hurt['killed']} decoders killed, {hurt['hung']} hung under load: at most their own "
            "clips are 422, all others are answered",
            undecodable <= lost and not wrong,
            f"{undecodable} 422, other answers: {wrong or 'none'}",
        ),
        behaves(
            "each is replaced and counted; the server stays alive, the same process",
            restarts == lost and alive == 200 and same,  # noqa: PLR2004 - OK
            f"{restarts} restarts counted, /livez {alive}",
        ),
    ]
    return Outcome("decoder", stage.model, rows, checks, others=others)


def _hurt(stage: Stage, served: Served, begin: float, end: float) -> dict[str, int]:
    """Hurt decoders evenly over the time; one that hangs is replaced when its clip is overdue."""
    plan = stage.plan
    done = {"killed": 0, "hung": 0}
    last = end - CLIP_LIMIT_S - AFTER_S
    acts = [signal.SIGKILL] * plan.kills
    for number in range(plan.hangs):
        acts.insert(round(number * plan.kills / plan.hangs), signal.SIGSTOP)
    for number, act in enumerate(acts):
        stage.pass_time(begin + (last - begin) * (number + 1) / len(acts))
        victim = _victim(served)
        with suppress(psutil.Error):
            victim.send_signal(act)
            done["killed" if act == signal.SIGKILL else "hung"] += 1
    return done


def _victim(served: Served) -> psutil.Process:
    """Find a decoder that is up and works, the oldest: each has its turn."""
    until = time.monotonic() + CLIP_LIMIT_S
    while time.monotonic() < until:
        if working := [each for each in decoders_of(served.server) if takes_clips(each)]:
            return min(working, key=psutil.Process.create_time)
        time.sleep(0.05)
    raise RuntimeError("the server has no decoder that works")
