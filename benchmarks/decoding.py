"""What decoding in a process of its own costs, against decoding in the calling thread."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import psutil
import soundfile

from service.audio import decode
from service.decoding.pool import DecoderPool
from service.domain import Clip
from tests.support.audio import encoded, speech_like

CLIPS: dict[str, tuple[float, int, str, str]] = {
    "3 s WAV, 16 kHz": (3.0, 16_000, "WAV", "PCM_16"),
    "3 s WAV, 44.1 kHz": (3.0, 44_100, "WAV", "PCM_16"),
    "3 s FLAC, 16 kHz": (3.0, 16_000, "FLAC", "PCM_16"),
    "3 s MP3, 16 kHz": (3.0, 16_000, "MP3", "MPEG_LAYER_III"),
    "3 s Opus, 16 kHz": (3.0, 16_000, "OGG", "OPUS"),
    "60 s WAV, 16 kHz": (60.0, 16_000, "WAV", "PCM_16"),
    "60 s WAV, 44.1 kHz": (60.0, 44_100, "WAV", "PCM_16"),
}
"""Seconds, Hz, container and subtype."""


def costs(clips: int, replacements: int) -> dict[str, Any]:
    """Measure `clips` of 3 s (a twentieth as many of 60 s), taking turns between here and there.

    Returns:
        Milliseconds a clip (the median of wall time, the mean of CPU time of all processes), MiB a
        process, and milliseconds from a process's end to its replacement.
    """
    figures: dict[str, Any] = {"libsndfile": soundfile.__libsndfile_version__}
    started = time.monotonic()
    pool = DecoderPool(1)
    pool.wait_until_ready()
    figures["start_ms"] = _ms(time.monotonic() - started)
    figures["memory_mib_when_ready"] = _memory(pool)
    try:
        for name, (seconds, rate, container, subtype) in CLIPS.items():
            samples = speech_like(seconds, rate=rate)
            data = encoded(samples, rate, container=container, subtype=subtype)
            rounds = max(1, round(clips * min(1.0, 3.0 / seconds)))
            figures[name] = _compare(pool, data, rounds)
        figures["memory_mib_after_all"] = _memory(pool)
        figures["replaced_ms"] = _ms(median(_replacement_s(pool) for _ in range(replacements)))
    finally:
        pool.close()
    return figures


def _compare(pool: DecoderPool, data: bytes, rounds: int) -> dict[str, float]:
    """Time both ways, clip by clip: what else the machine does then slows both alike."""
    ways: dict[str, Callable[[bytes], Clip]] = {"thread": decode, "pool": pool.decode}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu = dict.fromkeys(ways, 0.0)
    child = _cpu_clock(pool)
    for way in ways.values():  # what is done once is done before
        way(data)
    for _ in range(rounds):
        for name, way in ways.items():
            before, started = time.process_time() + child(), time.perf_counter()
            way(data)
            wall[name].append(time.perf_counter() - started)
            cpu[name] += time.process_time() + child() - before
    return {
        "kilobytes": round(len(data) / 1000, 1),
        **{f"{name}_wall_ms": _ms(median(wall[name])) for name in ways},
        **{f"{name}_cpu_ms": _ms(cpu[name] / rounds) for name in ways},
        "pool_adds_cpu_ms": _ms((cpu["pool"] - cpu["thread"]) / rounds),
    }


def _cpu_clock(pool: DecoderPool) -> Callable[[], float]:
    """Give the CPU seconds of the pool's one process, by a clock of nanoseconds."""
    # Linux: the clock of another process is ~pid << 3 | 2 (clock_getcpuclockid(3)).
    (pid,) = pool.pids
    clock = (~pid << 3) | 2
    return lambda: time.clock_gettime(clock)


def _memory(pool: DecoderPool) -> dict[str, float]:
    """Resident MiB; `own` is what no other process shares."""
    (pid,) = pool.pids
    memory = psutil.Process(pid).memory_full_info()
    return {
        name: round(value / 2**20, 1)
        for name, value in (("resident", memory.rss), ("share", memory.pss), ("own", memory.uss))
    }


def _replacement_s(pool: DecoderPool) -> float:
    """Seconds from the end of the pool's one process to another one that takes clips."""
    (pid,) = pool.pids
    data = encoded(speech_like(1.0))
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    pool.decode(data)
    return time.monotonic() - killed


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
