"""A real `timbre serve` of this checkout, for measurements and campaigns."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.processes import Server, free_port, serving

__all__ = ["Server", "running"]

STOP_LIMIT_S = 60.0


@contextmanager
def running(log: Path | None = None, /, **settings: object) -> Iterator[Server]:
    """Start `timbre serve` on a free port, wait until it is ready, and stop it afterwards.

    Args:
        log: what it says goes to the end of this file; None for this process's stderr, and for
            warnings only.
        settings: TIMBRE_* variables by their whole names; those of this process are left out.

    Raises:
        NotServing: it ended, or was not ready in time.
        RuntimeError: it didn't exit with 0.
    """
    port = free_port()
    command = [str(Path(sys.executable).with_name("timbre")), "serve", "--port", str(port)]
    quiet = {} if log else {"TIMBRE_LOG_LEVEL": "warning"}
    environment = quiet | {name: str(value) for name, value in settings.items()}
    with serving(command, environment, port, "/readyz", log) as server:
        yield server
        if server.process.is_running():
            server.process.terminate()
            if code := server.process.wait(STOP_LIMIT_S):
                raise RuntimeError(f"the server exited with {code}")
