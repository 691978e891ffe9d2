"""A real server process, for what only sockets, signals and a process can show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.peers.processes import free_port
from service.bundle import Bundle

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60.0
"""Real seconds after which a server that doesn't do what is waited for fails the test."""


@dataclass
class Server:
    """A server process that is ready."""

    process: subprocess.Popen[bytes]
    port: int
    internal_port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def internal_url(self) -> str:
        return f"http://127.0.0.1:{self.internal_port}"

    @property
    def resident_bytes(self) -> int:
        """Memory of the process and those it has started."""
        parent = psutil.Process(self.process.pid)
        return sum(
            process.memory_info().rss for process in (parent, *parent.children(recursive=True))
        )

    @property
    def listens(self) -> bool:
        """Whether the worker takes clips; its supervisor holds the socket, but takes none."""
        workers = psutil.Process(self.process.pid).children(recursive=True)
        return any(
            connection.status == psutil.CONN_LISTEN and connection.laddr.port == self.port
            for worker in workers
            for connection in worker.net_connections("tcp")
        )

    def sample(self, name: str) -> float:
        """Read a metric without labels."""
        text = httpx.get(f"{self.internal_url}/metrics", timeout=PATIENCE_S).text
        (line,) = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(line.split()[1])

    def lines(self) -> list[dict[str, object]]:
        """Read the log; BentoML's own lines before the service is up are text."""
        text = self.log.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines() if line.startswith("{")]

    def messages(self) -> list[object]:
        """Read what the log says beside requests."""
        return [line["message"] for line in self.lines() if line["logger"] == "timbre"]


def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait until something outside this process is so."""
    give_up = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up, f"{what}: not within {PATIENCE_S} s"
        time.sleep(0.02)  # there is nothing to be woken by


@contextmanager
def serving(bundle: Bundle, log: Path, **variables: object) -> Iterator[Server]:
    """Run `timbre serve` until it is ready, and to its end."""
    port, internal_port = free_port(), free_port()
    environment = _environment(bundle, **{"TIMBRE_INTERNAL_PORT": internal_port, **variables})
    with log.open("wb") as output:
        process = subprocess.Popen(
            [Path(sys.executable).with_name("timbre"), "serve", "--port", str(port)],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    server = Server(process, port, internal_port, log)

    def ready() -> bool:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        with suppress(httpx.TransportError):
            return httpx.get(f"{server.url}/readyz").status_code == 200
        return False

    try:
        eventually(ready, "ready")
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            raise


def bentoml_serve(bundle: Bundle, **variables: object) -> subprocess.CompletedProcess[str]:
    """Run `bentoml serve`, as an image does, to its end: it cannot start."""
    command = [sys.executable, "-P", "-m", "bentoml", "serve", "service.app:Timbre"]
    address = ["--host", "127.0.0.1", "--port", str(free_port())]
    return subprocess.run(
        [*command, *address, "--working-dir", str(ROOT)],
        env=_environment(bundle, **variables),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def _environment(bundle: Bundle, **variables: object) -> dict[str, str]:
    """Give this process's variables without TIMBRE_…, and these."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("TIMBRE_")
    }
    environment |= {
        "TIMBRE_BUNDLE": str(bundle.folder),
        "TIMBRE_CACHE": str(bundle.folder.parent / "cache"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    return environment | {name: str(value) for name, value in variables.items()}
