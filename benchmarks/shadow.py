"""What shadowing costs clients: the same load on a stable server with and without candidates.

Each arm has a server, which rests while it isn't its turn: the machine changes with time. One arm
is there twice, on another server: how far it is from itself is noise. A candidate on the same
machine takes CPU from stable, which in a cluster it wouldn't; the arms with a stub, which answers
at once, show what the sending itself costs.
"""

from __future__ import annotations

import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from benchmarks.peers.client import Sample
from benchmarks.peers.clips import wavs
from benchmarks.peers.figures import Spread
from benchmarks.peers.processes import Server, free_port, serving
from benchmarks.server import running
from benchmarks.soak.load import Clients, Phase, answers, schedule, summary, write_requests
from service.contract import ShadowAnswer, ShadowModel
from service.domain import Decision, Result, Track
from service.metrics import Metrics
from service.shadow import Sender

CLIPS = 16
WARM_UP = 16
PATIENCE_S = 60.0
SAMPLES = {"a tenth": 0.1, "all": 1.0}
ALONE = "alone"
FREE = 100
"""Times as many clips where nothing is sent."""

_STUB = ShadowAnswer(
    model=ShadowModel(name="stub", version="0", track=Track.CANARY, digest=f"sha256:{0:064x}"),
    label=None,
    score=None,
    decision=Decision.NO_SPEECH,
).model_dump_json()


async def at_once(scope: Scope, receive: Receive, send: Send) -> None:
    """Be a candidate that takes no time, and nearly no CPU: an ASGI app for uvicorn."""
    await Request(scope, receive).body()
    await Response(_STUB, media_type="application/json")(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Turn:
    """One arm's share of a turn: latencies, the server's CPU, what became of the sample."""

    p50_ms: float
    p99_ms: float
    cpu_ms: float
    """Of all the server's processes, for each clip of the load."""
    outcomes: Counter[str]


def costs(
    turns: int, rate: float, seconds: float, progress: Callable[[int], object]
) -> dict[str, dict[str, Any]]:
    """Measure each arm in each turn; ratios are to the first arm of the same turn.

    Raises:
        RuntimeError: a clip was not answered with 200.
    """
    measured: dict[str, list[Turn]] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        requests = write_requests(Path(folder), wavs(CLIPS))
        servers = _start(stack)
        for server in servers.values():
            server.ask(requests, clients=1, count=WARM_UP)
        for number in range(turns):
            names = list(servers)
            # Each arm comes first in some turn: who is first may be better or worse off.
            first = number % len(names)
            for name in names[first:] + names[:first]:
                turn = _turn(servers[name], requests, rate, seconds)
                measured.setdefault(name, []).append(turn)
                progress(1)
    return {name: figures(own, measured[ALONE]) for name, own in measured.items()}


def sending(clips: int) -> dict[str, float]:
    """Measure CPU time that the sender takes for a clip of 3 s, of the event loop alone.

    Other processes on the machine make it little larger, unlike latencies. In microseconds: sent to
    a stub, and where nobody is there.
    """
    stub = free_port()
    with serving(_uvicorn(stub), {}, stub, "/"):
        sent = uvloop.run(_cpu_us(stub, clips))
    return {"sent": sent, "nobody there": uvloop.run(_cpu_us(free_port(), FREE * clips))}


async def _cpu_us(port: int, clips: int) -> float:
    (clip,) = wavs(1)
    result = Result("angry", 0.8, Decision.ACCEPT)
    url = f"http://127.0.0.1:{port}"
    sender = Sender({"canary": url}, (), Metrics(), sample=1.0, busy=lambda: False)
    spent = 0.0
    for number in range(1 + clips):
        began = time.process_time()
        ended = sender.take(clip, result, "")
        if ended is not None:
            ended(True)  # noqa: FBT003 - a callback: its argument has no name
            await sender.settled()
        if number:  # the first one connects, or finds that nobody is there
            spent += time.process_time() - began
    await sender.close()
    return round(spent / clips * 1e6, 2)


def arms(candidate: int, stub: int, nobody: int) -> dict[str, dict[str, object]]:
    """Give each arm's TIMBRE_* variables, with the ports of the candidates."""
    found: dict[str, dict[str, object]] = {ALONE: {}, "alone again": {}}
    found["nobody there, all"] = _variables(nobody, 1.0)
    for who, port in (("stub", stub), ("candidate", candidate)):
        for share, sample in SAMPLES.items():
            found[f"{who}, {share}"] = _variables(port, sample)
    return found


def _variables(port: int, sample: float) -> dict[str, object]:
    url = f"canary=http://127.0.0.1:{port}"
    return {"TIMBRE_SHADOW_URLS": url, "TIMBRE_SHADOW_SAMPLE": sample}


@dataclass(frozen=True, slots=True)
class _Stable:
    """A stable server and its internal port."""

    server: Server
    internal_port: int

    def ask(self, requests: list[str], seconds: float = 0.0, **plan: object) -> list[Sample]:
        """Send clips as planned."""
        clients = Clients("generator", seconds, port=self.server.port, requests=requests, **plan)
        try:
            return answers(clients)
        finally:
            clients.kill()

    def outcomes(self) -> Counter[str]:
        """Count what became of the sample so far."""
        url = f"http://127.0.0.1:{self.internal_port}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        return Counter(
            {
                sample.labels["outcome"]: int(sample.value)
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == "timbre_shadow_clips_total"
            }
        )


def _start(stack: ExitStack) -> dict[str, _Stable]:
    """Start a candidate, a stub, and a stable server for each arm."""
    internal, stub = free_port(), free_port()
    stack.enter_context(serving(_uvicorn(stub), {}, stub, "/"))
    stack.enter_context(running(TIMBRE_TRACK="canary", TIMBRE_INTERNAL_PORT=internal))
    servers = {}
    for name, variables in arms(internal, stub, free_port()).items():
        port = free_port()
        server = stack.enter_context(running(TIMBRE_INTERNAL_PORT=port, **variables))
        servers[name] = _Stable(server, port)
    return servers


def _uvicorn(port: int) -> list[str]:
    """Give the command of a stub."""
    quiet = ["--no-access-log", "--log-level", "warning"]
    return [sys.executable, "-m", "uvicorn", f"{__name__}:at_once", *quiet, "--port", str(port)]


def _turn(stable: _Stable, requests: list[str], rate: float, seconds: float) -> Turn:
    before, cpu_s = stable.outcomes(), stable.server.cpu_s()
    arrivals = schedule([Phase(rate, seconds)])
    seen = summary(stable.ask(requests, seconds, schedule=arrivals))
    if seen.accepted != seen.requests:
        raise RuntimeError(f"not every clip was answered: {seen.statuses}")
    spent_ms = (stable.server.cpu_s() - cpu_s) * 1e3
    return Turn(
        seen.p50_ms,
        seen.p99_ms,
        spent_ms / seen.requests,
        stable.outcomes() - before,
    )


def figures(turns: list[Turn], alone: list[Turn]) -> dict[str, Any]:
    """Give medians over turns, ratios to the turns of another arm, and all outcomes together."""
    told: dict[str, Any] = {}
    for name in ("p50_ms", "p99_ms", "cpu_ms"):
        values = [getattr(turn, name) for turn in turns]
        ratios = [value / getattr(other, name) for value, other in zip(values, alone, strict=True)]
        told[name] = round(Spread.of(values).median, 2)
        told[f"{name}_to_alone"] = _said(Spread.of(ratios))
    told["outcomes"] = dict(sum((turn.outcomes for turn in turns), Counter()))
    return told


def _said(spread: Spread) -> str:
    return f"{spread.median:.2f} ({spread.low:.2f} to {spread.high:.2f})"
