"""A warm pool of decoder processes, each with one clip at a time.

A process that dies, overruns or answers nonsense is killed and replaced; its clip is `Undecodable`,
and no other clip is touched. A process serves many clips, because a fresh one takes a tenth of a
second to start.
"""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from collections.abc import Callable

from service.decoding.child import Child, Lost, LostReason, Unread
from service.domain import Clip, NotReady, TimbreError, Undecodable

logger = logging.getLogger("timbre.decoding")

MODULE = "service.decoding.process"
CLIP_LIMIT_S = 10.0
"""Wall-clock seconds for one clip. The dearest within the limits takes about one when the machine
has nothing else to do."""
START_LIMIT_S = 30.0
"""Seconds until a new process must be ready; a tenth of one is usual."""
MAX_FAILED_STARTS = 5
"""In a row, until the pool counts as dead: only a restart of the container may help then."""
RETRY_START_S = 0.1
"""Before the second try; twice as long before each further one, up to `MAX_RETRY_START_S`."""
MAX_RETRY_START_S = 5.0
ATTEMPTS = 3
"""Processes that a clip is given to when they are gone before they have read it."""
CHECK_S = 1.0
"""Between looks for processes that died at rest."""
RETRY_AFTER_S = 1.0
"""Retry-After without a process."""


class DecoderPool:
    """`size` processes, for as many threads that call `decode`.

    A thread of the pool's own starts and replaces them. It lives as long as the pool, because a
    process gets the kernel's parent-death signal when the thread that started it ends.
    """

    def __init__(
        self,
        size: int,
        *,
        lost: Callable[[LostReason], object] = lambda _: None,
        limit_s: float = CLIP_LIMIT_S,
        module: str = MODULE,
    ) -> None:
        """Begin to start the processes; `wait_until_ready` waits for them.

        Args:
            size: processes, at least 1.
            lost: told, from any thread, why a process has to be replaced.
            limit_s: wall-clock seconds for one clip.
            module: whose `main` the processes run; tests have one that misbehaves.
        """
        if size < 1:
            raise ValueError(f"need a decoder, got {size=}")
        self.size = size
        self._lost = lost
        self._limit_s = limit_s
        self._module = module
        self._children: set[Child] = set()
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        self._failed_starts = 0
        self._settled = threading.Event()
        self._missing = threading.Event()
        self._closing = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="decoder-keeper", daemon=True)
        self._keeper.start()

    @property
    def pids(self) -> list[int]:
        """Process ids of the decoders that are up."""
        return sorted(child.pid for child in tuple(self._children))

    @property
    def alive(self) -> bool:
        """False while the last `MAX_FAILED_STARTS` attempts to start a process have failed."""
        return self._failed_starts < MAX_FAILED_STARTS

    def wait_until_ready(self) -> None:
        """Return when all processes are up; raise RuntimeError when they can't be started."""
        self._settled.wait()
        if not self.alive:
            raise RuntimeError("the decoder processes cannot be started")

    def decode(self, data: bytes) -> Clip:
        """Decode a clip in a process; it blocks, for `limit_s` at most once a process is free.

        Raises:
            TimbreError: what `audio.decode` raises, Undecodable, or NotReady without a process.
        """
        for _ in range(ATTEMPTS):
            child = self._take()
            try:
                clip = child.decode(data, self._limit_s)
            except Unread as lost:  # of something else than this clip
                self._replace(child, lost.reason)
            except Lost as lost:
                raise self._undecodable(self._replace(child, lost.reason)) from lost
            except BaseException:
                self._idle.put(child)
                raise
            else:
                self._idle.put(child)
                return clip
        raise self._undecodable("died")

    def close(self) -> None:
        """End all processes and wait for their end; clips still being decoded are NotReady."""
        self._closing.set()
        self._missing.set()
        self._keeper.join(CHECK_S)  # a start under way ends itself
        while self._children:
            self._children.pop().kill()

    def _take(self) -> Child:
        until = time.monotonic() + START_LIMIT_S
        while not self._closing.is_set() and time.monotonic() < until:
            try:
                return self._idle.get(timeout=CHECK_S)
            except queue.Empty:
                continue
        raise NotReady("No decoder is running.", RETRY_AFTER_S)

    def _undecodable(self, reason: LostReason) -> TimbreError:
        if self._closing.is_set():
            return NotReady("The server is shutting down.", RETRY_AFTER_S)
        what = "The decoder failed on this file"
        if reason == "overran":
            what = f"The file was not decoded within {self._limit_s:g} s"
        return Undecodable(f"{what}. If it plays elsewhere, write it again, as WAV or FLAC.")

    def _replace(self, child: Child, reason: LostReason) -> LostReason:
        """End a process and have another one started; why, in the end."""
        code = child.kill()
        if code == -signal.SIGXCPU:
            reason = "overran"
        if not self._closing.is_set():
            logger.warning("decoder %d %s (%d) and is replaced", child.pid, reason, code)
            self._lost(reason)
        self._children.discard(child)
        self._missing.set()
        return reason

    def _keep(self) -> None:
        """Have `size` processes up until the pool is closed."""
        while not self._closing.is_set():
            if len(self._children) < self.size:
                self._start()
                continue
            self._settled.set()
            self._missing.wait(CHECK_S)
            self._missing.clear()
            for _ in range(self._idle.qsize()):
                self._check_one()

    def _start(self) -> None:
        """Start a process, or wait before the next try."""
        try:
            child = Child(self._module, START_LIMIT_S)
        except (OSError, Lost) as error:
            retry_s = min(RETRY_START_S * 2**self._failed_starts, MAX_RETRY_START_S)
            self._failed_starts += 1
            logger.error("a decoder cannot be started: %r", error)  # noqa: TRY400 - no trace of use
            if not self.alive:
                self._settled.set()
            self._closing.wait(retry_s)
            return
        if self._closing.is_set():
            child.kill()
            return
        self._failed_starts = 0
        self._children.add(child)
        self._idle.put(child)

    def _check_one(self) -> None:
        """Replace an idle process that died at rest."""
        try:
            child = self._idle.get_nowait()
        except queue.Empty:
            return
        try:
            child.check()
        except Lost as lost:
            self._replace(child, lost.reason)
        else:
            self._idle.put(child)
