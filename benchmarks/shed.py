"""What it costs the server to refuse a clip: CPU time and latency of a 429 at the gate.

A stopped decoder keeps the one place there is, so that the server is full and yet at rest: what
is measured is refusing and nothing else.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import psutil

from benchmarks import load
from benchmarks.server import Server, running
from service.audio import MAX_BODY_BYTES
from tests.support.audio import encoded, speech_like

PATH = "/v1/classify"
CLIP_S = 3.0
FEWER = 50
"""Large bodies are sent by this factor less often."""
SETTLE_S = 0.5
"""For the server to have read what it throws away."""


def costs(requests: int) -> dict[str, Any]:
    """Milliseconds a refusal, of the server's CPU and for the client, by body and connection.

    Raises:
        RuntimeError: a clip was not refused.
    """
    clip = encoded(speech_like(CLIP_S), subtype="PCM_16")
    bodies = {"clip of 3 s": (clip, requests), "10 MiB": (bytes(MAX_BODY_BYTES), requests // FEWER)}
    # Logged as in production: a request's line is part of what its refusal costs.
    settings = {"TIMBRE_DECODERS": "1", "TIMBRE_DECODE_BACKLOG": "1", "TIMBRE_LOG_LEVEL": "info"}
    with running(**settings) as server:
        return {
            f"{name}, {'kept' if kept else 'new'} connections": asyncio.run(
                _refusals(server, clip, body, count, kept=kept)
            )
            for name, (body, count) in bodies.items()
            for kept in (True, False)
        }


async def _refusals(
    server: Server, clip: bytes, body: bytes, count: int, *, kept: bool
) -> dict[str, float]:
    latencies: list[float] = []
    async with _full(server, clip):
        worker, before = server.worker, _cpu_s(server.worker)
        reader, writer = await _connect(server)
        for _ in range(count):
            if not kept:
                writer.close()
                reader, writer = await _connect(server)
            sent = time.monotonic()
            status, _ = await load.post(reader, writer, PATH, body)
            if status != HTTPStatus.TOO_MANY_REQUESTS:
                raise RuntimeError(f"a full server answered with {status}")
            latencies.append(time.monotonic() - sent)
        writer.close()
        await asyncio.sleep(SETTLE_S)
        spent = _cpu_s(worker) - before
    return {
        "server_cpu_ms": round(spent / count * 1e3, 3),
        "p50_ms": round(statistics.median(latencies) * 1e3, 2),
        "p99_ms": round(statistics.quantiles(latencies, n=100)[-1] * 1e3, 2),
    }


@asynccontextmanager
async def _full(server: Server, clip: bytes) -> AsyncIterator[None]:
    """Stop the decoder while it has a clip; not for so long that it is taken for stuck."""
    decoders = server.worker.children()
    for decoder in decoders:
        decoder.suspend()
    try:
        reader, writer = await _connect(server)
        holding = asyncio.ensure_future(load.post(reader, writer, PATH, clip))
        await asyncio.sleep(SETTLE_S)
        yield
    finally:
        for decoder in decoders:
            decoder.resume()
    await holding
    writer.close()


async def _connect(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", server.port)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
