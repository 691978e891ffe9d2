"""The server's end of one decoder process: start it, send it a clip, and doubt what it answers.

What comes back is a stranger's doing as soon as a clip has found a hole in libsndfile: lengths,
rates, channels and samples are checked before anything is made of them.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import Literal, NoReturn, TypeAlias

import numpy as np

from service.audio import MAX_CHANNELS, MAX_DURATION_S, MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from service.decoding.process import ANSWER, MAX_DETAIL_BYTES, READY, REFUSALS, REQUEST
from service.domain import SAMPLE_RATE, Clip

LostReason: TypeAlias = Literal["died", "overran", "garbled"]

MAX_SAMPLES = int(MAX_DURATION_S * SAMPLE_RATE) + 1
"""The resampler may round up."""

# As the server finds its modules, so does a decoder: in a checkout, a wheel or a Bento. -I and -S
# keep the environment, the user's own packages and .pth files out of it.
_START = "import sys; sys.path[:] = sys.argv[2:]; __import__(sys.argv[1], fromlist=['_']).main()"
_INTERPRETER = (sys.executable, "-I", "-S", "-c", _START)


class Lost(Exception):
    """The process can't be used any more."""

    def __init__(self, reason: LostReason) -> None:
        super().__init__(reason)
        self.reason = reason


class Unread(Lost):
    """It was gone before it had read the whole clip: the clip is not the reason."""


class Child:
    """A process that decodes one clip at a time; `kill` must end it."""

    def __init__(self, module: str, limit_s: float) -> None:
        """Run `main` of `module` and wait until it takes clips, for `limit_s` seconds at most.

        Raises:
            OSError: it can't be started.
            Lost: it ended, or was not ready in time.
        """
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - this interpreter
                    [*_INTERPRETER, module, *map(os.path.abspath, sys.path)],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    cwd="/",
                    env=_environment(),
                    start_new_session=True,
                )
        except BaseException:
            self._socket.close()
            raise
        try:
            hello = bytearray(len(READY))
            self._receive(memoryview(hello), time.monotonic() + limit_s)
            if hello != READY:
                raise Lost("garbled")
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def check(self) -> None:
        """Raise Lost if it died, or said something unasked, since it was last used."""
        try:
            self._socket.settimeout(0)
            unasked = self._socket.recv(1)
        except BlockingIOError:
            return
        except OSError:  # also of a socket that the pool has closed
            unasked = b""
        raise Unread("garbled" if unasked else "died")

    def decode(self, data: bytes, limit_s: float) -> Clip:
        """Have a clip decoded within `limit_s` seconds.

        Raises:
            Unread: it was gone before.
            Lost: it died of the clip, took too long or answered nonsense.
            TimbreError: the clip is refused, for one of `REFUSALS`.
        """
        self.check()
        until = time.monotonic() + limit_s
        self._send(data, until)
        head = bytearray(ANSWER.size)
        self._receive(memoryview(head), until)
        kind, channels, rate, frames, size = ANSWER.unpack(head)
        if kind:
            self._refuse(kind, size, until)
        if not (
            1 <= channels <= MAX_CHANNELS
            and MIN_SAMPLE_RATE <= rate <= MAX_SAMPLE_RATE
            and 1 <= frames <= MAX_DURATION_S * rate
            and 1 <= size <= MAX_SAMPLES
        ):
            raise Lost("garbled")
        samples = np.empty(size, np.float32)
        self._receive(samples.data.cast("B"), until)
        if not -1 <= samples.min() <= samples.max() <= 1:  # NaN is not, either
            raise Lost("garbled")
        return Clip(samples, frames / rate, rate, channels)

    def kill(self) -> int:
        """End the process and wait for its end; its exit code, below 0 for a signal."""
        self._process.kill()
        code = self._process.wait()
        self._socket.close()
        return code

    def _refuse(self, kind: int, size: int, until: float) -> NoReturn:
        """Raise what the process found wrong with the clip."""
        if kind > len(REFUSALS) or size > MAX_DETAIL_BYTES:
            raise Lost("garbled")
        detail = bytearray(size)
        self._receive(memoryview(detail), until)
        raise REFUSALS[kind - 1](detail.decode("utf-8", "replace"))

    def _send(self, data: bytes, until: float) -> None:
        head = REQUEST.pack(len(data))
        try:
            self._socket.settimeout(until - time.monotonic())
            sent = self._socket.sendmsg([head, data]) - len(head)
            if sent < len(data):  # an empty send would fail where a short clip has done its worst
                self._socket.sendall(memoryview(data)[sent:])
        except TimeoutError:
            raise Lost("overran") from None
        except OSError:
            raise Unread("died") from None

    def _receive(self, view: memoryview, until: float) -> None:
        """Fill `view`. The kernel says of a process that is gone whether it had read everything."""
        while view:
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise Lost("overran")
            try:
                self._socket.settimeout(left_s)
                count = self._socket.recv_into(view)
            except TimeoutError:
                raise Lost("overran") from None
            except OSError:
                raise Unread("died") from None
            if not count:
                raise Lost("died")
            view = view[count:]


def _environment() -> dict[str, str]:
    """What a decoder is told: none of the server's secrets, and how to use little."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
    return {
        **kept,
        "OPENBLAS_NUM_THREADS": "1",
        # The blocks of a usual clip stay with the process, which asks the kernel for nothing then
        # (0.2 ms of CPU for 3 s of audio, not 0.6); those of the largest are given back.
        "MALLOC_MMAP_THRESHOLD_": str(4 * 2**20),
        "MALLOC_TRIM_THRESHOLD_": str(8 * 2**20),
    }
