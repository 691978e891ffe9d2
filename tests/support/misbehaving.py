"""A decoder that does to its process what a clip tells it to, as a hole in libsndfile might.

A clip whose first word is not one of `ACTS` is decoded as ever.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from service import audio
from service.decoding import process
from service.decoding.pool import DecoderPool
from service.domain import Clip, NotAudio

SOCKET = 0
"""The descriptor that the server is at the other end of."""


@contextmanager
def misbehaving_pool(size: int, **options: Any) -> Iterator[DecoderPool]:  # noqa: ANN401
    """Have such decoders, ready."""
    pool = DecoderPool(size, module=__name__, **options)
    try:
        pool.wait_until_ready()
        yield pool
    finally:
        pool.close()


def main() -> None:
    """Run in the decoder's process."""
    process.main(_decode)


def _decode(data: bytes) -> Clip:
    word, _, rest = data.partition(b" ")
    act = ACTS.get(word)
    if act is None:
        return audio.decode(data)
    act(rest)
    return audio.decode(process._warm_up_clip())


def _spin(_: bytes) -> None:
    while True:
        pass


def _allocate(size: bytes) -> None:
    bytearray(int(size))


def _say(words: bytes) -> None:
    os.write(SOCKET, words)
    time.sleep(3600)


def _say_later(_: bytes) -> None:
    signal.signal(signal.SIGALRM, lambda *_: os.write(SOCKET, b"unasked"))
    signal.setitimer(signal.ITIMER_REAL, 0.05)


def _hang_up(_: bytes) -> None:
    os.close(SOCKET)
    time.sleep(3600)


def _open(path: bytes) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError as error:
        raise NotAudio(type(error).__name__ + f" {error.errno}") from error


ACTS = {
    b"segfault": lambda _: ctypes.string_at(0),
    b"exit": lambda _: os._exit(0),
    b"raise": lambda _: 1 / 0,
    b"sleep": lambda seconds: time.sleep(float(seconds)),
    b"spin": _spin,
    b"allocate": _allocate,
    b"say": _say,
    b"later": _say_later,
    b"hang_up": _hang_up,
    b"open": _open,
}
