"""A server in a container whose worker is killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil

from service.bundle import Bundle
from tests.support.server import Server, serving


def worker(server: Server) -> int:
    """The process that takes clips."""
    (child,) = psutil.Process(server.process.pid).children()
    return child.pid


def test_a_container_ends_with_its_worker(tiny: Bundle, tmp_path: Path) -> None:
    """In a container the first process ends at once, with an exit code that tells the signal."""
    with serving(tiny, tmp_path / "log", BENTOML_CONTAINERIZED="True") as server:
        os.kill(worker(server), signal.SIGKILL)
        assert server.process.wait(2) == 128 + signal.SIGKILL


def test_a_container_ends_quietly_on_sigterm(tiny: Bundle, tmp_path: Path) -> None:
    """A container that is told to end still exits 0."""
    with serving(tiny, tmp_path / "log", BENTOML_CONTAINERIZED="True") as server:
        server.process.terminate()
        assert server.process.wait(20) == 0
