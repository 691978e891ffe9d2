"""A real `timbre serve` process of its own, and what it costs."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

START_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready; `ready_s` is how long that took from the start of its process."""

    port: int
    ready_s: float
    process: psutil.Process

    @property
    def worker(self) -> psutil.Process:
        """The process that holds the model: neither its supervisor nor its decoders."""
        family = [self.process, *self.process.children(recursive=True)]
        return max(family, key=lambda member: member.memory_info().rss)

    def memory(self) -> int:
        """Resident bytes of the process that holds the model."""
        return int(self.worker.memory_info().rss)


@contextmanager
def running(**settings: str) -> Iterator[Server]:
    """Start `timbre serve` on a free port, wait until it is ready, and stop it afterwards.

    Args:
        settings: TIMBRE_* variables by their whole names.

    Raises:
        RuntimeError: it ended, or was not ready in `START_LIMIT_S`, or didn't exit with 0.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    started = time.monotonic()
    process = subprocess.Popen(  # noqa: S603 - our own program
        [str(Path(sys.executable).with_name("timbre")), "serve", "--port", str(port)],
        env={**os.environ, "TIMBRE_LOG_LEVEL": "warning", **settings},
        stdout=sys.stderr,
    )
    try:
        _wait_until_ready(process, port, started + START_LIMIT_S)
        yield Server(port, time.monotonic() - started, psutil.Process(process.pid))
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(STOP_LIMIT_S)
    if code:
        raise RuntimeError(f"the server exited with {code}")


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, until: float) -> None:
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"the server exited with {process.returncode}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1):
                return
        except OSError:
            time.sleep(POLL_S)
    raise RuntimeError("the server was not ready in time")
