"""A server's memory, threads and file descriptors, once in a while."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import psutil

from benchmarks.peers.processes import Server, family
from service.decoding.pool import MODULE

EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Vital:
    """One look at a server; `at` is a time of time.monotonic()."""

    at: float
    memory: int
    """Resident bytes of all processes; what they share counts in each."""
    worker_memory: int
    """Of the process that holds the model."""
    threads: int
    files: int
    """File descriptors of the worker, as threads."""


@dataclass(slots=True)
class Vitals:
    """Looks at a server until it is stopped."""

    server: Server
    seen: list[Vital] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread = field(init=False)

    def __enter__(self) -> Self:
        """Begin to look."""
        self._thread = threading.Thread(target=self._watch, name="vitals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()

    def peak_mib(self, begin: float = 0.0, end: float = float("inf")) -> float:
        """The most memory of all processes in a span, in MiB."""
        return max((v.memory for v in self.seen if begin <= v.at <= end), default=0) / 2**20

    def _watch(self) -> None:
        worker = worker_of(self.server)
        while not self._stop.is_set():
            with suppress(psutil.Error):
                self.seen.append(
                    Vital(
                        at=time.monotonic(),
                        memory=self.server.memory(),
                        worker_memory=worker.memory_info().rss,
                        threads=worker.num_threads(),
                        files=worker.num_fds(),
                    )
                )
            self._stop.wait(EVERY_S)


def decoders_of(server: Server) -> list[psutil.Process]:
    """Find the decoder processes of a server, those that are starting too."""
    return [process for process in family(server.process) if _runs_decoder(process)]


def takes_clips(decoder: psutil.Process) -> bool:
    """Whether a decoder is up and neither stopped nor dead: it has given away what it may open."""
    with suppress(psutil.Error):
        idle = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
        return (
            decoder.rlimit(psutil.RLIMIT_NPROC) == (0, 0)  # the last but one thing it does
            and decoder.status() not in idle
        )
    return False


def worker_of(server: Server) -> psutil.Process:
    """Find the process that holds the model: the parent of the decoders."""
    parents = {process.ppid() for process in decoders_of(server)}
    (worker,) = (process for process in family(server.process) if process.pid in parents)
    return worker


def _runs_decoder(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return MODULE in process.cmdline()
    return False
