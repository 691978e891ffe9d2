"""The end of the supervisor when its worker is killed.

BentoML's supervisor looks at its worker every ten seconds only. Meanwhile it holds the port:
whoever connects waits for an answer that nobody gives. In a container the supervisor is the first
process, so that its own end is what Kubernetes sees, and counts, and starts anew.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

WORKER = b"worker"
"""In the command of what the supervisor starts to serve, and of nothing else it starts."""
TASKS = Path("/proc/self/task")
"""This process's threads, each with the children that it has started."""
_LOOK_S = 0.1
_KILLED = 128
"""What a shell adds to a signal's number for the exit code of what it killed."""

_TOLD = {signal.SIGINT, signal.SIGTERM}
"""Signals by which a worker is told to end; when it has answered everybody it ends by them."""


def end_with_worker() -> None:
    """Make this process end at once, with the same signal told, when its worker is killed.

    To be called before there is a worker. One that ends by itself is left to the supervisor.
    """
    threading.Thread(target=_follow, name="supervision", daemon=True).start()


def _follow() -> None:
    while (worker := find_worker()) is None:
        time.sleep(_LOOK_S)  # nothing tells of it
    # The supervisor's own look at it may come first, and then ends things, too.
    with suppress(ChildProcessError):
        ended = os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
        if ended is None or ended.si_code == os.CLD_EXITED or ended.si_status in _TOLD:
            return
        os._exit(_KILLED + ended.si_status)


def find_worker(tasks: Path = TASKS) -> int | None:
    """Find the child that serves; children of other kinds, and threads, come and go meanwhile."""
    for child in _children(tasks):
        with suppress(OSError):
            if WORKER in Path("/proc", child, "cmdline").read_bytes():
                return int(child)
    return None


def _children(tasks: Path) -> Iterator[str]:
    for listed in tasks.glob("*/children"):
        with suppress(OSError):
            yield from listed.read_text(encoding="ascii").split()
