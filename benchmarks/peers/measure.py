"""The measurements: contenders in turns, each a server of its own, under one load after another.

A round goes once through all contenders of a model, whatever their precision; the next starts
elsewhere in the list. So a machine that grows slower, or warmer, meets all alike.
"""

from __future__ import annotations

import asyncio
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peers.cells import Cell, Kind, measured
from benchmarks.peers.client import Connection, Sample, closed_loop, open_loop
from benchmarks.peers.contenders import STACKS, Contender, Place
from benchmarks.peers.environment import ROOT
from benchmarks.peers.figures import poisson
from benchmarks.peers.machine import BUSY, Watch
from benchmarks.peers.models import Model
from benchmarks.peers.plan import Plan
from benchmarks.peers.processes import NotServing, Server, free_port, serving

SATURATED = 8
"""Clients that keep a server busy; capacity is what it does with them."""
SEED = 0
RECOVERY_LIMIT_S = 60.0
RECOVERED = 2.0
"""Times what a clip takes alone."""
FIRST_ANSWER_LIMIT_S = 60.0
BARE_LIMIT_S = 180.0
REFUSALS = 200
TRIES = 3
"""Of a turn, as long as others disturb it: an hour's session is not lost for one of them."""


def engines(contenders: Sequence[Contender]) -> list[tuple[str, str, str]]:
    """List the engines, precisions and layouts that contenders use, each once."""
    return list(dict.fromkeys((c.engine, c.precision, c.layout) for c in contenders))


@dataclass(slots=True)
class Bench:
    """What a session measures with, and what it has so far."""

    plan: Plan
    clips: Sequence[bytes]
    peers: Path
    cpus: int
    logs: Path
    say: Callable[[str], object]
    cells: list[Cell] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)
    refusal_ms: dict[str, float] = field(default_factory=dict)
    """CPU time of a request that Timbre refuses as no audio, by model: what HTTP costs."""

    def run(self, model: Model, contenders: Sequence[Contender], rounds: int) -> None:
        """Measure a model in `rounds` rounds; what can't be measured is noted as a failure."""
        for round_ in range(rounds):
            turn = round_ * len(contenders) // rounds
            for contender in (*contenders[turn:], *contenders[:turn]):
                self.say(f"{model.name}, round {round_ + 1} of {rounds}: {contender.name}")
                last = round_ == rounds - 1
                try:
                    self._undisturbed(partial(self._visit, model, contender, round_, last=last))
                except NotServing as error:
                    self._fail(model, contender.name, str(error))
            for engine in engines(contenders):
                if round_ and engine[0] != "openvino":
                    continue  # the others' engines are told once; the verdicts are about this one
                self.say(f"{model.name}, round {round_ + 1} of {rounds}: bare {engine[0]}")
                self._undisturbed(partial(self._bare, model, engine, round_))

    def _undisturbed(self, turn: Callable[[], None]) -> None:
        """Take a turn until others left the machine alone, `TRIES` times at most."""
        for _ in range(TRIES - 1):
            before = len(self.cells)
            turn()
            if all(cell.others <= BUSY for cell in self.cells[before:]):
                return
            del self.cells[before:]
        turn()

    def _fail(self, model: Model, name: str, reason: str) -> None:
        self.failures.append({"model": model.name, "contender": name, "reason": reason})

    def _visit(self, model: Model, contender: Contender, round_: int, *, last: bool) -> None:
        port = free_port()
        requests = [contender.request(clip) for clip in self.clips]
        with serving(
            contender.command(Place(self.peers, port, self.cpus)),
            contender.environment(model, self.cpus),
            port,
            STACKS[contender.stack].health,
            self.logs / f"{model.name}-{contender.name}.log",
        ) as server:
            visit = _Visit(model, contender, round_, server, requests)
            speed = asyncio.run(visit.warm_up(self.plan.warm_up))
            for clients in self.plan.loads(round_, sweep=contender.sweep):
                count = self.plan.requests(clients, speed)
                self.cells.append(asyncio.run(visit.closed(clients, count)))
            if last and (contender.stack, contender.precision) == ("timbre", "fp32"):
                nothing = contender.request(bytes(len(self.clips[0])))
                self.refusal_ms[model.name] = asyncio.run(visit.refusals(nothing))
            if last and contender.sweep:
                capacity = self.capacity(model.name, contender.name)
                for share in (*self.plan.shares, *_overloads(self.plan, contender)):
                    seconds = self.plan.seconds(share, capacity)
                    self.cells.append(asyncio.run(visit.open(share, capacity, seconds)))

    def capacity(self, model: str, contender: str) -> float:
        """Clips a second with `SATURATED` clients, the median of the rounds so far."""
        return statistics.median(
            cell.clips_per_s
            for cell in self.cells
            if (cell.model, cell.contender, cell.kind, cell.load)
            == (model, contender, "closed", SATURATED)
        )

    def _bare(self, model: Model, engine: tuple[str, str, str], round_: int) -> None:
        name, precision, layout = engine
        streams = self.cpus if layout == "many" else 1
        python = sys.executable if name == "openvino" else self.peers
        watch = Watch()
        arguments = [
            str(model.folder),
            name,
            precision,
            str(streams),
            str(self.cpus),
            str(self.plan.bare_s),
        ]
        label = "-".join(["bare", name, precision] + ["many"] * (layout == "many"))
        try:
            done = subprocess.run(  # noqa: S603 - our own program
                [str(python), "-m", "benchmarks.peers.servers.bare", *arguments],
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
                timeout=BARE_LIMIT_S,
            )
        except subprocess.CalledProcessError as error:
            self._fail(model, label, error.stderr.strip()[-500:])
            return
        except subprocess.TimeoutExpired:
            self._fail(model, label, f"it took more than {BARE_LIMIT_S:g} s")
            return
        self.cells.append(_bare_cell(model, label, round_, json.loads(done.stdout), watch))


def _bare_cell(model: Model, name: str, round_: int, said: dict[str, Any], watch: Watch) -> Cell:
    nan = float("nan")
    return Cell(
        model=model.name,
        contender=name,
        kind="bare",
        round=round_,
        load=said["batch"],
        requests=said["clips"],
        answered=said["clips"],
        statuses={},
        seconds=said["seconds"],
        clips_per_s=said["clips_per_s"],
        p50_ms=nan,
        p95_ms=nan,
        p99_ms=nan,
        refused_p99_ms=nan,
        cpu_ms=said["cpu_ms"],
        memory_mib=nan,
        ready_s=nan,
        labels_differ=0,
        largest_difference=0.0,
        others=watch.others(),
    )


def _overloads(plan: Plan, contender: Contender) -> Iterator[float]:
    """Only Timbre says what it does beyond its capacity, and at its default precision."""
    if contender.stack == "timbre" and contender.precision == "fp32":
        yield from plan.overloads


class _Meter:
    """CPU time of a server, and of others, since it was made."""

    def __init__(self, server: Server) -> None:
        self.watch = Watch([server])
        self._server, self._before = server, server.cpu_s()

    def cpu_s(self) -> float:
        return self._server.cpu_s() - self._before


@dataclass(frozen=True, slots=True)
class _Visit:
    """A running server and what it is asked."""

    model: Model
    contender: Contender
    round: int
    server: Server
    requests: Sequence[bytes]

    async def warm_up(self, count: int) -> float:
        """Wait for the first answer, then ask `count` times; gives clips a second."""
        # Ready may mean the HTTP side only, with workers that still load.
        connection = Connection(self.server.port)
        until = time.monotonic() + FIRST_ANSWER_LIMIT_S
        status, body = await connection.ask(self.requests[0])
        while status != 200 and time.monotonic() < until:  # noqa: PLR2004 - OK
            await asyncio.sleep(0.2)
            status, body = await connection.ask(self.requests[0])
        connection.close()
        if status != 200:  # noqa: PLR2004
            raise NotServing(f"it answers with {status}: {body[:200]!r}")
        started = time.monotonic()
        await closed_loop(self.server.port, self.requests, clients=SATURATED, count=count)
        return count / (time.monotonic() - started)

    async def closed(self, clients: int, count: int) -> Cell:
        """Measure a closed loop."""
        meter, started = _Meter(self.server), time.monotonic()
        samples = await closed_loop(self.server.port, self.requests, clients=clients, count=count)
        seconds = time.monotonic() - started
        return self._cell(samples, "closed", clients, seconds=seconds, meter=meter)

    async def refusals(self, request: bytes) -> float:
        """Measure milliseconds of CPU for a request that is read whole and refused."""
        meter = _Meter(self.server)
        connection = Connection(self.server.port)
        for _ in range(REFUSALS):
            await connection.ask(request)
        connection.close()
        return meter.cpu_s() * 1e3 / REFUSALS

    async def open(self, share: float, capacity: float, seconds: float) -> Cell:
        """Offer a share of the capacity as Poisson arrivals; beyond it, see it recover too."""
        schedule = poisson(share * capacity, seconds, SEED) or [0.0]
        meter, started = _Meter(self.server), time.monotonic()
        samples = await open_loop(self.server.port, self.requests, schedule)
        if share <= 1:
            taken = time.monotonic() - started
            return self._cell(samples, "open", share, seconds=taken, meter=meter)
        end = started + seconds
        last = max(sample.done for sample in samples)
        recovered = max(0.0, last - end) + await self._recovery(1 / capacity)
        return self._cell(
            samples,
            "overload",
            share,
            seconds=seconds,
            meter=meter,
            until=end,
            recovered_s=recovered,
        )

    async def _recovery(self, alone_s: float) -> float:
        """Seconds until a clip takes no more than `RECOVERED` times what it should."""
        connection, started = Connection(self.server.port), time.monotonic()
        while (since := time.monotonic() - started) < RECOVERY_LIMIT_S:
            asked = time.monotonic()
            status, _ = await connection.ask(self.requests[0])
            if status == 200 and time.monotonic() - asked <= RECOVERED * alone_s:  # noqa: PLR2004
                break
        connection.close()
        return since

    def _cell(
        self,
        samples: Sequence[Sample],
        kind: Kind,
        load: float,
        *,
        seconds: float,
        meter: _Meter,
        until: float = math.inf,
        recovered_s: float = math.nan,
    ) -> Cell:
        return measured(
            samples,
            model=self.model,
            contender=self.contender,
            kind=kind,
            round_=self.round,
            load=load,
            seconds=seconds,
            until=until,
            cpu_s=meter.cpu_s(),
            memory=self.server.memory(),
            ready_s=self.server.ready_s,
            others=meter.watch.others(),
            recovered_s=recovered_s,
        )
