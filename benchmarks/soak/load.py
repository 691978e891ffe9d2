"""Honest load from a process of its own: phases of Poisson arrivals, or a closed loop.

The clients of benchmarks/peers/client.py, so that capacity and overload are measured alike. They
share the machine with the server all the same; a process of their own keeps what this one does
(vitals, signals, progress) from making them late.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from benchmarks.peers.client import Sample
from benchmarks.peers.environment import ROOT
from benchmarks.peers.figures import percentile, poisson

SEED = 0
LEAD_S = 0.8
"""From the start of the clients' process to the first request: it has to import."""
CLASSIFY = "/v1/classify"
IN_A_ROW = 10
"""Requests answered normally, one after the other, that make a recovery."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A time of arrivals at one rate."""

    rate: float
    """Requests a second."""
    seconds: float


def request(clip: bytes) -> bytes:
    """Write the whole HTTP request for a clip."""
    head = (
        f"POST {CLASSIFY} HTTP/1.1\r\nhost: soak\r\ncontent-type: audio/wav\r\n"
        f"content-length: {len(clip)}\r\n\r\n"
    )
    return head.encode() + clip


def schedule(phases: Sequence[Phase]) -> list[float]:
    """Give the times of all arrivals, in seconds from the first phase's begin."""
    times: list[float] = []
    begun = 0.0
    for number, phase in enumerate(phases):
        times += [begun + after for after in poisson(phase.rate, phase.seconds, SEED + number)]
        begun += phase.seconds
    return times


class Clients:
    """A process of clients, which ends by itself; `begun` is a time of time.monotonic()."""

    def __init__(self, module: str, seconds: float, **plan: Any) -> None:  # noqa: ANN401
        """Start `module` of this package and hand it its plan as JSON."""
        self.begun = time.monotonic() + LEAD_S
        self.ends = self.begun + seconds
        with tempfile.TemporaryFile("w+", encoding="utf-8") as told:
            json.dump({"begin": self.begun, "seconds": seconds, **plan}, told)
            told.seek(0)
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", f"benchmarks.soak.{module}"],
                cwd=ROOT,
                stdin=told,
                stdout=subprocess.PIPE,
                text=True,
            )

    def result(self) -> Any:  # noqa: ANN401 - whatever the process says
        """Wait for its end, and give what it says.

        Raises:
            RuntimeError: it failed; its own words are on stderr.
        """
        said, _ = self._process.communicate()
        if self._process.returncode:
            raise RuntimeError(f"{self._process.args!r} failed")
        return json.loads(said)

    def kill(self) -> None:
        """End it, if it hasn't."""
        self._process.kill()
        self._process.wait()


def answers(clients: Clients) -> list[Sample]:
    """Give what the `generator` has seen, in the order of when requests were due."""
    samples = [
        Sample(0, due, sent, done, status, b"") for due, sent, done, status in clients.result()
    ]
    return sorted(samples, key=lambda sample: sample.due)


@dataclass(frozen=True, slots=True)
class Summary:
    """What requests came to; latencies in milliseconds, from when a request was due."""

    requests: int
    statuses: dict[str, int]
    p50_ms: float
    p99_ms: float
    """Of those answered with 200, as p50."""
    refused_p50_ms: float
    refused_p99_ms: float
    """Of 429 answers, as p50."""
    late_p99_ms: float
    """From when requests were due until this machine got to send them."""

    @property
    def wrong(self) -> dict[str, int]:
        """Answers that are neither 200 nor 429; below 100 are connections without an answer."""
        right = {str(HTTPStatus.OK.value), str(HTTPStatus.TOO_MANY_REQUESTS.value)}
        return {status: n for status, n in self.statuses.items() if status not in right}

    @property
    def accepted(self) -> int:
        """Requests answered with 200."""
        return self.statuses.get(str(HTTPStatus.OK.value), 0)


def summary(samples: Sequence[Sample]) -> Summary:
    """Sum up requests."""
    statuses: dict[str, int] = {}
    for sample in samples:
        statuses[str(sample.status)] = statuses.get(str(sample.status), 0) + 1
    good = [sample.latency_s * 1e3 for sample in samples if sample.ok]
    refused = [
        sample.latency_s * 1e3
        for sample in samples
        if sample.status == HTTPStatus.TOO_MANY_REQUESTS
    ]
    return Summary(
        requests=len(samples),
        statuses=statuses,
        p50_ms=percentile(good, 0.5),
        p99_ms=percentile(good, 0.99),
        refused_p50_ms=percentile(refused, 0.5),
        refused_p99_ms=percentile(refused, 0.99),
        late_p99_ms=percentile([(sample.sent - sample.due) * 1e3 for sample in samples], 0.99),
    )


def between(samples: Sequence[Sample], begin: float, end: float) -> list[Sample]:
    """Select what was due in [begin, end)."""
    return [sample for sample in samples if begin <= sample.due < end]


def recovery_s(after: Sequence[Sample], end: float, within_s: float) -> float:
    """Seconds from `end` until requests are answered with 200 in `within_s` again; inf for never.

    That is when the first of `IN_A_ROW` such requests was due; 0 if there were none before it.
    """
    row = 0
    for number, sample in enumerate(after):
        row = row + 1 if sample.ok and sample.latency_s <= within_s else 0
        if row == IN_A_ROW:
            first = number - IN_A_ROW + 1
            return after[first].due - end if first else 0.0
    return math.inf


def write_requests(folder: Path, clips: Sequence[bytes]) -> list[str]:
    """Write the requests for clips as files, which processes of clients read."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, clip in enumerate(clips):
        file = folder / f"{number}.http"
        file.write_bytes(request(clip))
        files.append(str(file))
    return files
