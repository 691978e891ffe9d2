"""The decoder's own process: a clip comes in over a socket, samples or a refusal go back.

libsndfile parses what strangers send, and whatever a clip does to it must cost that clip's answer
and nothing else. The pool starts this module in a fresh interpreter, which gives away all it
doesn't need before it sees the first clip. Nothing is pickled: an answer is a header of fixed size
and samples or text, and the server believes no field of it unchecked.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from service.audio import decode
from service.domain import (
    SAMPLE_RATE,
    BadSampleRate,
    Clip,
    NoSamples,
    NotAudio,
    NotFinite,
    TimbreError,
    TooLong,
    TooManyChannels,
    UnsupportedFormat,
)

READY = b"decoder1"
"""Sent once, when clips are taken."""
REQUEST = struct.Struct("<I")
"""Before a clip: its bytes."""
ANSWER = struct.Struct("<BBxxIII")
"""Before the samples or the text: the kind, channels, sample rate (Hz) and frames of the file, and
how many samples (float32) or bytes follow. Kind 0 is a clip, kind n the n-th of `REFUSALS`."""
REFUSALS: tuple[type[TimbreError], ...] = (
    NotAudio,
    UnsupportedFormat,
    TooLong,
    NoSamples,
    BadSampleRate,
    TooManyChannels,
    NotFinite,
)
"""All that `audio.decode` raises; only ever add at the end."""
MAX_DETAIL_BYTES = 1024

CPU_LIMIT_S = 10
"""Of one clip, in whole seconds; the dearest within the limits takes about one. The server's own
limit comes first: this one is for a decoder that the server has lost."""
HEADROOM_BYTES = 128 * 2**20
"""Address space beyond what a warm decoder has; a clip at all limits takes about 30 MiB of it."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_STANDARD_FILES = 3


def main(decode: Callable[[bytes], Clip] = decode) -> None:
    """Answer the clips that come over file descriptor 0, until it is closed.

    Whatever `decode` raises beside the `REFUSALS`, memory's end among it, ends the process.
    """
    # A terminal's Ctrl-C and a service manager's SIGTERM reach every process there is; the server
    # decides when its decoders end, which is after the last clip inside is answered.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with socket.socket(fileno=0) as server:
        decode(_warm_up_clip())
        _confine()
        server.sendall(READY)
        while (head := _receive(server, REQUEST.size)) is not None:
            data = _receive(server, *REQUEST.unpack(head))
            if data is None:
                return
            _allow_cpu(CPU_LIMIT_S)
            for part in _answer(data, decode):
                server.sendall(part)


def _answer(data: bytes, decode: Callable[[bytes], Clip]) -> tuple[bytes, bytes | memoryview]:
    """Decode a clip; the header and what follows it."""
    try:
        clip = decode(data)
    except REFUSALS as error:
        kind = REFUSALS.index(type(error)) + 1
        detail = str(error).encode("utf-8", "replace")[:MAX_DETAIL_BYTES]
        return ANSWER.pack(kind, 0, 0, 0, len(detail)), detail
    samples = np.ascontiguousarray(clip.samples, np.float32)
    frames = round(clip.duration_s * clip.sample_rate)
    head = ANSWER.pack(0, clip.channels, clip.sample_rate, frames, samples.size)
    return head, samples.data.cast("B")


def _receive(server: socket.socket, size: int) -> bytes | None:
    """Read so many bytes, or None where the server has closed."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        count = server.recv_into(view)
        if not count:
            return None
        view = view[count:]
    return bytes(data)


def _confine() -> None:
    """Give away for good what decoding doesn't need; imports are over by now.

    Reads and writes of the socket go on, but no file, socket or process can be opened, nothing can
    be written to a file, and memory is bounded.
    """
    silence = os.open(os.devnull, os.O_RDWR)
    for standard in (1, 2):  # what libraries print of a stranger's file is not for the log
        os.dup2(silence, standard)
    os.close(silence)
    # Where a container's memory runs out all the same, rather this process than the server.
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    for limit, value in (
        (resource.RLIMIT_AS, pages * resource.getpagesize() + HEADROOM_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, _STANDARD_FILES),
    ):
        resource.setrlimit(limit, (value, value))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _allow_cpu(seconds: int) -> None:
    """Let the kernel end this process after so much more CPU time, whatever the server does."""
    until = math.ceil(time.process_time()) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3):
        raise OSError(ctypes.get_errno(), "prctl")


def _warm_up_clip() -> bytes:
    """Make a WAV that goes through the resampler: 16 samples at twice the rate."""
    rate, data = 2 * SAMPLE_RATE, bytes(32)
    fields = struct.pack("<IHHIIHH", 16, 1, 1, rate, 2 * rate, 2, 16)
    chunks = b"WAVEfmt " + fields + b"data" + struct.pack("<I", len(data)) + data
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks
