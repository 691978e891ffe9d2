"""Load by k6: a closed loop that finds the capacity, and a constant arrival rate below it.

k6 runs on the machine of the tests, or where the command in E2E_EXEC puts it, such as a cluster
node's network; that command has to see this machine's files.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.kubectl import Failed
from tests.e2e.summary import COUNTERS, MEASURED, Summary, of_measured, read

SCRIPT = Path(__file__).with_name("load.js")
USUAL_SHARE = 0.7
SHARE = float(os.environ.get("E2E_SHARE", USUAL_SHARE))
"""Of the capacity measured just before, what is offered while something is done to the pods.
E2E_SHARE lowers it for machines that others use: what was there a minute ago may be gone."""
CONNECTIONS = 200
GAP_S = 5.0
"""Pause of half the connections between two requests: where many servers give idle ones up."""
GAP_MS = (4000, 6000)
WARM_UP_S = 4
RETRY_AFTER_S = 5.0
"""After which a client that retries does: a cluster knows by then that a pod is dead."""
_SETTLE_S = 12.0
"""Seconds of load before anything is done: every connection is open, and the first are idle."""
_AFTERMATH_S = 5.0
_MOST_S = 550
_LATE_S = 60.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where clips are sent to, and what has to come back."""

    url: str
    host: str
    clip: Path
    expected: str
    """Text that every answer has in it: the same clip has the same label, whoever answers."""

    def environment(self) -> dict[str, str]:
        """Give what load.js reads."""
        return {
            "URL": f"{self.url}/v1/classify",
            "HOST": self.host,
            "CLIP": str(self.clip),
            "EXPECTED": self.expected,
            "GAP_FROM_MS": str(GAP_MS[0]),
            "GAP_TO_MS": str(GAP_MS[1]),
        }


@dataclass
class Running:
    """A load that has been started."""

    process: subprocess.Popen[str]
    ends: float
    """By time.monotonic()."""
    summary: Summary | None = field(default=None)

    @property
    def left_s(self) -> float:
        """Seconds until it ends by itself."""
        return self.ends - time.monotonic()

    def finish(self) -> Summary:
        """Wait for its end."""
        return self._read(self.left_s + _LATE_S)

    def stop(self) -> Summary:
        """End it before its time."""
        self.process.send_signal(signal.SIGINT)
        return self._read(_LATE_S)

    def kill(self) -> None:
        """End it, whatever it has to say; when it is over this does nothing."""
        if self.summary is None:
            self.process.kill()
            self.process.communicate()

    def _read(self, timeout: float) -> Summary:
        output, told = self.process.communicate(timeout=timeout)
        self.summary = read(output, told)
        return self.summary


def capacity(target: Target, folder: Path, *, clients: int, seconds: int = 15) -> float:
    """Measure how many clips a second are answered when each client waits for its answer.

    Raises:
        Failed: not every clip was answered.
    """
    running = closed(target, folder, clients=clients, seconds=seconds)
    summary = running.finish()
    if summary.failed:
        raise Failed(f"{summary.failed} of {summary.sent} clips failed while nothing was done")
    return summary.answered / seconds


def closed(target: Target, folder: Path, *, clients: int, seconds: int) -> Running:
    """Start clients that each send the next clip when they have the answer to the last."""
    common = {"executor": "constant-vus", "vus": clients, "gracefulStop": "0s"}
    scenarios = {
        "warm": {**common, "duration": f"{WARM_UP_S}s"},
        MEASURED: {**common, "startTime": f"{WARM_UP_S}s", "duration": f"{seconds}s"},
    }
    return _start(target, folder, scenarios, WARM_UP_S + seconds)


def arriving(target: Target, folder: Path, *, rate: float, retry: bool = False) -> Running:
    """Start clips that come at a constant rate, whatever becomes of those before.

    Half of them come over connections that are idle for GAP_S between two, half over as many others
    as make CONNECTIONS or more.
    """
    half = rate / 2
    idle = max(1, round(half * GAP_S))
    scenarios = {
        "idle": _arrivals(half, idle, _MOST_S),
        "steady": _arrivals(half, max(CONNECTIONS - idle, idle), _MOST_S),
    }
    return _start(target, folder, scenarios, _MOST_S, retry=retry)


def flooding(target: Target, folder: Path, *, rate: float, seconds: int) -> Running:
    """Start more clips a second than can be answered, at a constant rate."""
    scenarios = {"flood": _arrivals(rate, max(CONNECTIONS, round(2 * rate)), seconds)}
    return _start(target, folder, scenarios, seconds, tell=False)


@contextmanager
def under(running: Running, seconds: float) -> Iterator[Running]:
    """Do something while a load runs: from when it has settled, and done before it is ended.

    Args:
        seconds: how long it runs at least.
    """
    ends = time.monotonic() + seconds
    try:
        time.sleep(_SETTLE_S)
        yield running
        assert running.process.poll() is None, "the load ended while something was being done"
        time.sleep(max(_AFTERMATH_S, ends - time.monotonic()))
        running.stop()
    finally:
        running.kill()


def _arrivals(rate: float, connections: int, seconds: int) -> dict[str, Any]:
    """One of k6's scenarios; it takes whole numbers only, so the rate is that of ten seconds."""
    return {
        "executor": "constant-arrival-rate",
        "rate": max(1, round(10 * rate)),
        "timeUnit": "10s",
        "duration": f"{seconds}s",
        "preAllocatedVUs": connections,
        "maxVUs": connections,
        "gracefulStop": "45s",
    }


def _start(
    target: Target,
    folder: Path,
    scenarios: Mapping[str, Any],
    seconds: int,
    *,
    retry: bool = False,
    tell: bool = True,
) -> Running:
    options = folder / "k6.json"
    options.write_text(json.dumps(_options(scenarios)), encoding="utf-8")
    environment = os.environ | target.environment()
    environment |= {"TELL": str(int(tell)), "RETRY_AFTER_S": str(RETRY_AFTER_S if retry else 0)}
    process = subprocess.Popen(
        [
            *shlex.split(os.environ.get("E2E_EXEC", "")),
            *("k6", "run", "--quiet", "--no-usage-report", "--address", ""),
            *("--log-format", "raw", "--config", str(options), str(SCRIPT)),
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return Running(process, time.monotonic() + seconds)


def _options(scenarios: Mapping[str, Any]) -> dict[str, Any]:
    # k6 counts a scenario apart when a threshold asks it to; none of these can be missed.
    parts = COUNTERS if MEASURED in scenarios else ()
    return {
        "scenarios": scenarios,
        "summaryTrendStats": ["avg", "med", "p(95)", "p(99)", "max"],
        "thresholds": {of_measured(counter): ["count>=0"] for counter in parts},
    }
