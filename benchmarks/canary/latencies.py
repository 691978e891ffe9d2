"""How long two servers of one bundle take under the same load, pod by pod and block by block."""

from __future__ import annotations

import asyncio
import csv
import random
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path

import numpy as np

from benchmarks.load import post
from benchmarks.peers.processes import free_port
from benchmarks.server import running
from service.canary.observations import Block, Counts, Scores
from service.metrics import FINE_BUCKETS

LATENCIES = Path(__file__).with_name("latencies.csv")
ROUTE = "/v1/classify"
PODS = ("a", "b")
_BUCKET = re.compile(
    r'timbre_request_seconds_bucket\{(?=[^}]*route="/v1/classify")[^}]*le="([^"]+)"[^}]*\} (\S+)'
)
EDGES: Scores = np.array([*FINE_BUCKETS, np.inf])


def record(
    clips: Sequence[bytes],
    *,
    rate: float,
    blocks: int,
    block_s: float,
    file: Path = LATENCIES,
    progress: Callable[[int], object] = lambda _: None,
) -> None:
    """Send the same Poisson load to two servers of the embedded bundle, and write histograms.

    Args:
        clips: files to send, chosen at random.
        rate: clips a second to both together.
        blocks: of time, after one that warms up and isn't written.
        block_s: seconds each.
        file: one row a pod and block; its histogram as counts by the index of the bucket.
        progress: told of each block.
    """
    internal = (free_port(), free_port())
    with (
        running(TIMBRE_INTERNAL_PORT=internal[0]) as first,
        running(TIMBRE_INTERNAL_PORT=internal[1]) as second,
    ):
        pods = tuple(zip((first.port, second.port), internal, strict=True))
        rows = asyncio.run(_load(pods, clips, rate, blocks, block_s, progress))
    with file.open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(["pod", "block", "requests", "errors", "seconds"])
        for block, counts in enumerate(rows):
            for pod, seconds in zip(PODS, counts, strict=True):
                filled = " ".join(f"{place}:{seconds[place]}" for place in np.flatnonzero(seconds))
                writer.writerow([pod, block, int(seconds.sum()), 0, filled])


def read(file: Path = LATENCIES) -> dict[int, dict[str, Block]]:
    """Read what `record` wrote: blocks of time, and in each the pods."""
    found: dict[int, dict[str, Block]] = {}
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            seconds = np.zeros(EDGES.size, np.int64)
            for cell in row["seconds"].split():
                place, _, count = cell.partition(":")
                seconds[int(place)] = int(count)
            found.setdefault(int(row["block"]), {})[row["pod"]] = Block(
                row["pod"], float(row["block"]), int(row["requests"]), int(row["errors"]), seconds
            )
    return found


async def _load(  # noqa: PLR0917 - a run's few figures, called once
    pods: Sequence[tuple[int, int]],
    clips: Sequence[bytes],
    rate: float,
    blocks: int,
    block_s: float,
    progress: Callable[[int], object],
) -> list[list[Counts]]:
    """Count answers by their latency, block by block, for each pod (its two ports)."""
    chance = random.Random(0)  # noqa: S311 - a load that can be repeated keeps no secret
    sent: set[asyncio.Task[None]] = set()
    seen = [_histogram(internal) for _, internal in pods]
    rows = []
    started = due = time.monotonic()
    for block in range(blocks + 1):
        ends = started + (block + 1) * block_s
        while (due := due + chance.expovariate(rate)) < ends:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(_ask(chance.choice(pods)[0], chance.choice(clips)))
            sent.add(task)
            task.add_done_callback(sent.discard)
        await asyncio.sleep(max(0.0, ends - time.monotonic()))
        now = await asyncio.gather(
            *(asyncio.to_thread(_histogram, internal) for _, internal in pods)
        )
        if block:
            rows.append([new - old for new, old in zip(now, seen, strict=True)])
            progress(1)
        seen = list(now)
    await asyncio.gather(*sent)
    return rows


async def _ask(port: int, clip: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    status, _ = await post(reader, writer, ROUTE, clip)
    writer.close()
    if status != HTTPStatus.OK:
        raise RuntimeError(f"a clip was answered with {status}; the load is too high")


def _histogram(port: int) -> Counts:
    """Answers so far in each bucket."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        text = page.read().decode()
    cumulative = Counter[float]()
    for edge, count in _BUCKET.findall(text):
        cumulative[float(edge)] += int(float(count))
    counts: Counts = np.array([cumulative[edge] for edge in EDGES], np.int64)
    counts[1:] -= counts[:-1].copy()
    return counts
