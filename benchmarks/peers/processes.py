"""A server of a contender as a process group: started, waited for, metered, and stopped whole."""

from __future__ import annotations

import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from benchmarks.peers.environment import ROOT

START_LIMIT_S = 180.0
STOP_LIMIT_S = 15.0
POLL_S = 0.05

PORTS = range(20_000, 30_000)
"""Below the ports that systems choose themselves, 32,768 and up, and Kubernetes' node ports."""

_PORTS = itertools.cycle(random.sample(PORTS, len(PORTS)))
"""In an order of this process's own: others beside it start elsewhere."""


class NotServing(Exception):
    """A server ended or wasn't ready in time; the sentence names its log."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers; `ready_s` is how long that took from the start of its process."""

    port: int
    ready_s: float
    process: psutil.Process

    def cpu_s(self) -> float:
        """CPU seconds that the server has used, all its processes and those that ended."""
        return sum(_spent(member) for member in family(self.process))

    def memory(self) -> int:
        """Resident bytes of all its processes; what they share counts in each."""
        total = 0
        for member in family(self.process):
            with suppress(psutil.Error):
                total += member.memory_info().rss
        return total

    @property
    def worker(self) -> psutil.Process:
        """The largest of its processes: in Timbre, the one with the model."""
        return largest(self.process)


def family(process: psutil.Process) -> list[psutil.Process]:
    """Give a process and all its descendants that live."""
    with suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return []


def largest(process: psutil.Process) -> psutil.Process:
    """Find the one with the most memory of a process and all its descendants."""
    return max(family(process), key=lambda member: member.memory_info().rss)


def _spent(process: psutil.Process) -> float:
    with suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def free_port() -> int:
    """Find a port that nobody listens on, another each time.

    The system's own choice would be handed out again, to a connection or another server, in the
    seconds that a server takes to start; these are given only to those who ask for them.
    """
    for port in itertools.islice(_PORTS, len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise NotServing(f"No port of {PORTS.start} to {PORTS.stop - 1} is free.")


@contextmanager
def serving(
    command: Sequence[str],
    environment: dict[str, str],
    port: int,
    health: str,
    log: Path | None = None,
) -> Iterator[Server]:
    """Run a server, wait until `health` answers 200, and leave nothing of it behind.

    It has a process group of its own, so that Ctrl-C reaches it through here, once. What it says
    goes to the end of `log`, or to this process's stderr.

    Raises:
        NotServing: it ended, or wasn't ready in `START_LIMIT_S`.
    """
    started = time.monotonic()
    with _output(log) as output:
        process = subprocess.Popen(  # noqa: S603 - a command of the registry
            command,
            cwd=ROOT,
            env=_environment(environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        known: set[psutil.Process] = set()
        try:
            watched = psutil.Process(process.pid)
            _wait_until_ready(process, port, health, started + START_LIMIT_S, log)
            known.update(family(watched))
            yield Server(port, time.monotonic() - started, watched)
        finally:
            _stop(process, known)


@contextmanager
def _output(log: Path | None) -> Iterator[IO[Any]]:
    if log is None:
        yield sys.stderr
        return
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        yield output


def _environment(own: dict[str, str]) -> dict[str, str]:
    """Give a server our variables but none of another server's settings, and its own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TIMBRE_", "BENCH_", "OMP_"))
    }
    always = {"BENTOML_DO_NOT_TRACK": "True", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    return {**kept, **always, **own}


def _wait_until_ready(
    process: subprocess.Popen[bytes], port: int, health: str, until: float, log: Path | None
) -> None:
    while time.monotonic() < until:
        if process.poll() is not None:
            raise NotServing(f"it exited with {process.returncode}; see {log or 'above'}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{health}", timeout=5):
                return
        except OSError:
            time.sleep(POLL_S)
    raise NotServing(f"it was not ready in {START_LIMIT_S:g} s; see {log or 'above'}")


def _stop(process: subprocess.Popen[bytes], known: set[psutil.Process]) -> None:
    """Ask the server to end, then end what is left: of its group, and of children that left it."""
    with suppress(psutil.Error):
        known = known | set(family(psutil.Process(process.pid)))
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_LIMIT_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    for member in known:
        with suppress(psutil.Error):
            member.kill()
    process.wait()
