"""What keeps a real server's event loop free for those who wait for it."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import psutil

from benchmarks.peers.processes import largest
from service.bundle import Bundle
from service.priority import NICENESS
from tests.support.audio import encoded, speech_like
from tests.support.server import PATIENCE_S, serving

SPEECH = encoded(speech_like(2.0))
TELLING = """
import gc, os

def freeze(really=gc.freeze):
    really()
    with open(os.environ["KEPT"], "w") as kept:
        kept.write(str(gc.get_freeze_count()))

gc.freeze = freeze
"""


def test_threads_that_compute_give_way(tiny: Bundle, tmp_path: Path) -> None:
    """The event loop keeps the process's priority; engine, detector and their helpers don't."""
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    with serving(tiny, tmp_path / "log", TIMBRE_DECODERS=1) as server:
        answer = httpx.post(f"{server.url}/v1/classify", content=SPEECH, timeout=PATIENCE_S)
        assert answer.status_code == 200
        worker = largest(psutil.Process(server.process.pid))
        priorities = [
            os.getpriority(os.PRIO_PROCESS, thread.id)
            for thread in worker.threads()
            if thread.id != worker.pid
        ]
        assert os.getpriority(os.PRIO_PROCESS, worker.pid) == usual
        # One that hears, one that calls the engine, and the threads of OpenVINO's own.
        assert priorities.count(usual + NICENESS) > 2
        assert set(priorities) <= {usual, usual + NICENESS}


def test_what_is_loaded_is_not_gone_through_for_garbage(tiny: Bundle, tmp_path: Path) -> None:
    """A collection that does stops the process for 0.1 s, every few seconds of an overload."""
    (tmp_path / "sitecustomize.py").write_text(TELLING)
    kept = tmp_path / "kept"
    with serving(tiny, tmp_path / "log", PYTHONPATH=tmp_path, KEPT=kept):
        assert int(kept.read_text()) > 100_000
