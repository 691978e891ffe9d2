"""What trials share: servers, clients, the capacity once it is known, and a clock that is shown."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.peers.client import Sample
from benchmarks.peers.machine import Watch
from benchmarks.peers.processes import Server, free_port
from benchmarks.server import running
from benchmarks.soak.load import CLASSIFY, Clients, Phase, answers, schedule
from benchmarks.soak.plan import Plan

PATIENCE_S = 60.0
TICK_S = 0.5
WARM_UP = 16


@dataclass(frozen=True, slots=True)
class Served:
    """A running server, its two ports, and what others took of the machine meanwhile."""

    server: Server
    internal_port: int
    watch: Watch
    log: Path
    log_begin: int
    """Bytes that were in the log before: servers of one trial share it."""

    @property
    def port(self) -> int:
        """Where clips are taken."""
        return self.server.port

    def sample(self, name: str) -> float:
        """Add up a metric over all its labels."""
        url = f"http://127.0.0.1:{self.internal_port}/metrics"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            text = answer.read().decode()
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name
        )

    def logged(self) -> Counter[int]:
        """Count the clips that were asked about by the status that the log gives them."""
        with self.log.open("rb") as log:
            log.seek(self.log_begin)
            lines = [json.loads(line) for line in log if line.startswith(b"{")]
        return Counter(line["status"] for line in lines if line.get("route") == CLASSIFY)

    def probe(self, path: str) -> int:
        """Ask a path of the public port, such as /livez; gives the status."""
        try:
            url = f"http://127.0.0.1:{self.port}{path}"
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                status: int = answer.status
                return status
        except urllib.error.HTTPError as error:
            return error.code


@dataclass(slots=True)
class Stage:
    """Where the trials of one model run."""

    model: str
    bundle: Path
    requests: Sequence[str]
    """Files of whole requests, as clients' processes read them."""
    plan: Plan
    logs: Path
    tick: Callable[[float], object]
    """Told how many more seconds have passed."""
    _capacity: float = 0.0

    @contextmanager
    def serving(self, trial: str, **settings: object) -> Iterator[Served]:
        """Run a server with its defaults and these TIMBRE_* variables."""
        internal = free_port()
        variables = {"TIMBRE_BUNDLE": self.bundle, "TIMBRE_INTERNAL_PORT": internal, **settings}
        log = self.logs / f"{self.model}-{trial}.log"
        begin = log.stat().st_size if log.exists() else 0
        started = time.monotonic()
        with running(log, **variables) as server:
            self.tick(time.monotonic() - started)
            yield Served(server, internal, Watch([server]), log, begin)

    def closed(self, served: Served, clients: int, count: int) -> list[Sample]:
        """Ask `count` times with `clients` clients."""
        return self._answers(
            Clients(
                "generator",
                0.0,
                port=served.port,
                requests=list(self.requests),
                clients=clients,
                count=count,
            )
        )

    def begin(self, served: Served, phases: Sequence[Phase]) -> Clients:
        """Begin to offer load; `end` gives what came of it."""
        return Clients(
            "generator",
            sum(phase.seconds for phase in phases),
            port=served.port,
            requests=list(self.requests),
            schedule=schedule(phases),
        )

    def hostile(self, served: Served, seconds: float, **clients: float) -> Clients:
        """Begin to be hostile, with so many clients of each kind (or so many visits a second)."""
        return Clients(
            "hostile",
            seconds,
            port=served.port,
            requests=list(self.requests),
            answer_s=4 / self.capacity(),
            **clients,
        )

    def end(self, clients: Clients) -> list[Sample]:
        """Wait until all phases are over and every request is answered."""
        self.pass_time(clients.ends)
        return self._answers(clients)

    def pass_time(self, until: float) -> None:
        """Wait until a time of time.monotonic(), and let the clock tick."""
        while (left_s := until - time.monotonic()) > 0:
            before = time.monotonic()
            time.sleep(min(TICK_S, left_s))
            self.tick(time.monotonic() - before)

    def capacity(self) -> float:
        """Clips a second at saturation: the better one of the plan's closed loops."""
        if not self._capacity:
            with self.serving("capacity") as served:
                self.speeds(served)
        return self._capacity

    def speeds(self, served: Served) -> list[tuple[int, float, list[Sample]]]:
        """Measure closed loops: clients, clips a second, and all answers of each."""
        warm = self.closed(served, min(self.plan.clients), WARM_UP)
        speed = _speed(warm)
        speeds = []
        for clients in self.plan.clients:
            count = max(3 * clients, round(speed * self.plan.capacity_s))
            samples = self.closed(served, clients, count)
            speeds.append((clients, _speed(samples), samples))
        self._capacity = max(speed for _, speed, _ in speeds)
        return speeds

    def warm_up(self, served: Served) -> None:
        """Have the first clips answered, one after the other, before anything is measured."""
        self.closed(served, 1, WARM_UP)

    def _answers(self, clients: Clients) -> list[Sample]:
        before = time.monotonic()
        try:
            return answers(clients)
        finally:
            self.tick(time.monotonic() - before)
            clients.kill()


def _speed(samples: Sequence[Sample]) -> float:
    """Clips a second of a closed loop."""
    good = [sample for sample in samples if sample.status == HTTPStatus.OK]
    if not good:
        raise RuntimeError("no clip was answered")
    seconds = max(s.done for s in samples) - min(s.sent for s in samples)
    return len(good) / seconds
