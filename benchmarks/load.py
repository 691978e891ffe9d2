"""A closed loop of clients against a real server: errors, wrong answers, speed, memory.

The client is a few lines of asyncio, since it shares the machine with the server.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

RETRY_S = 0.05
"""A refused clip is sent again after this, for the closed loop to stay closed."""


@dataclass(slots=True)
class Outcome:
    """What many requests came to."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    differing: int = 0
    """Answers with another label, or a probability off by more than the tolerance."""
    largest_difference: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Figures to print."""
        answered = self.statuses[HTTPStatus.OK]
        ranked = sorted(self.latencies_s)
        return {
            "answered": answered,
            "refused_429": self.statuses[HTTPStatus.TOO_MANY_REQUESTS],
            "other": {
                status: count
                for status, count in self.statuses.items()
                if status not in {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS}
            },
            "clips_per_s": round(answered / self.seconds, 2),
            "p50_ms": round(statistics.median(ranked) * 1e3, 1),
            "p95_ms": round(ranked[int(0.95 * (len(ranked) - 1))] * 1e3, 1),
            "p99_ms": round(ranked[int(0.99 * (len(ranked) - 1))] * 1e3, 1),
            "differing": self.differing,
            "largest_difference": self.largest_difference,
        }


async def post(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes
) -> tuple[int, bytes]:
    """Send one request on a kept-alive connection and read the whole answer."""
    head = f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
    status = int((await reader.readline()).split()[1])
    length = 0
    while (line := await reader.readline()) not in {b"\r\n", b""}:
        name, _, value = line.decode().partition(":")
        if name.lower() == "content-length":
            length = int(value)
    return status, await reader.readexactly(length)


async def solo(port: int, clips: Sequence[bytes]) -> list[dict[str, Any]]:
    """Each clip's answer when it is sent alone."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers = []
    for clip in clips:
        status, body = await post(reader, writer, "/v1/classify", clip)
        if status != HTTPStatus.OK:
            raise RuntimeError(f"a clip alone was answered with {status}: {body!r}")
        answers.append(json.loads(body))
    writer.close()
    return answers


async def closed_loop(
    port: int,
    clips: Sequence[bytes],
    expected: Sequence[dict[str, Any]],
    *,
    requests: int,
    connections: int,
    tolerance: float,
    progress: Callable[[int], object] = lambda _: None,
) -> Outcome:
    """Send `requests` clips over `connections`, each sending its next when it has its answer."""
    outcome = Outcome()
    numbers = iter(range(requests))
    started = time.monotonic()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in numbers:
            which = number % len(clips)
            while True:
                sent = time.monotonic()
                status, body = await post(reader, writer, "/v1/classify", clips[which])
                outcome.statuses[status] += 1
                if status != HTTPStatus.TOO_MANY_REQUESTS:
                    break
                await asyncio.sleep(RETRY_S)
            outcome.latencies_s.append(time.monotonic() - sent)
            if status == HTTPStatus.OK:
                _compare(outcome, json.loads(body), expected[which], tolerance)
            progress(1)
        writer.close()

    await asyncio.gather(*(client() for _ in range(connections)))
    outcome.seconds = time.monotonic() - started
    return outcome


def _compare(
    outcome: Outcome, answer: dict[str, Any], expected: dict[str, Any], tolerance: float
) -> None:
    probabilities, alone = answer["probabilities"], expected["probabilities"]
    difference = max((abs(probabilities[k] - alone[k]) for k in alone), default=0.0)
    outcome.largest_difference = max(outcome.largest_difference, difference)
    if answer["label"] != expected["label"] or difference > tolerance:
        outcome.differing += 1


async def idle_gaps(port: int, clip: bytes, gaps_s: Sequence[float]) -> int:
    """Requests that fail on one connection that rests for each of `gaps_s` in between."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    failed = 0
    for gap in (0.0, *gaps_s):
        await asyncio.sleep(gap)
        try:
            status, _ = await post(reader, writer, "/v1/classify", clip)
            failed += status != HTTPStatus.OK
        except (OSError, IndexError, asyncio.IncompleteReadError):
            failed += 1
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()
    return failed
