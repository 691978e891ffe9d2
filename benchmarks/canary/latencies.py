"""How long canary and baseline take in a cluster where both are stable again, block by block."""

from __future__ import annotations

import asyncio
import csv
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np

from benchmarks.peers.figures import poisson
from service.canary.live import edges, live
from service.canary.observations import Block, Counts, Live, LiveSide, Scores
from service.canary.pods import Names, see
from service.canary.prometheus import Prometheus
from service.metrics import FINE_BUCKETS

LATENCIES = Path(__file__).with_name("latencies.csv")
ROUTE = "/v1/classify"
EDGES: Scores = np.array([*FINE_BUCKETS, np.inf])
TIMEOUT_S = 60.0


def load(
    clips: Sequence[bytes],
    gateway: str,
    host: str,
    *,
    rate: float,
    seconds: float,
    progress: Callable[[float], object] = lambda _: None,
) -> None:
    """Send clips at random moments (Poisson), whether or not earlier ones were answered.

    Args:
        clips: files to send, chosen at random.
        gateway: its URL.
        host: the name that the release's route has.
        rate: clips a second.
        seconds: for which they are sent.
        progress: told of seconds that went by.

    Raises:
        RuntimeError: a clip is not answered with 2xx.
    """
    chance = random.Random(0)  # noqa: S311 - a load that can be repeated keeps no secret

    async def ask(http: httpx.AsyncClient) -> None:
        answer = await http.post(ROUTE, content=chance.choice(clips), headers={"host": host})
        answer.raise_for_status()

    async def send() -> None:
        began, before = time.monotonic(), 0.0
        async with (
            httpx.AsyncClient(base_url=gateway, timeout=TIMEOUT_S) as http,
            asyncio.TaskGroup() as sent,
        ):
            for due in [*poisson(rate, seconds, 0), seconds]:
                await asyncio.sleep(max(0.0, began + due - time.monotonic()))
                progress(due - before)
                before = due
                if due < seconds:
                    sent.create_task(ask(http))

    refused = None
    try:
        asyncio.run(send())
    except* httpx.HTTPError as failed:
        # Raised in here, some versions of Python would put it into a group of its own.
        refused = failed.exceptions[0]
    if refused is not None:
        raise RuntimeError(f"a clip was not answered: {refused}") from refused


def record(
    prometheus: Prometheus, names: Names, since_s: float, block_s: float, file: Path = LATENCIES
) -> None:
    """Write what Prometheus has of canary and baseline since a moment.

    Args:
        prometheus: scrapes both.
        names: of their pods.
        since_s: when the first block begins.
        block_s: seconds each.
        file: see `write`.

    Raises:
        RuntimeError: the servers' buckets are another version's.
        TimbreError: Prometheus has no such pods, or doesn't answer.
    """
    now_s = prometheus.now()
    baseline, canary = (
        see(prometheus, names.namespace, pods, now_s) for pods in (names.baseline, names.candidate)
    )
    found = live(prometheus, baseline, canary, edges(since_s, now_s, block_s))
    write(found, since_s, block_s, file)


def write(found: Live, since_s: float, block_s: float, file: Path) -> None:
    """Write a row a block and side; its histogram as counts by the index of the bucket.

    Raises:
        RuntimeError: the buckets are another version's.
    """
    if not np.array_equal(found.edges, EDGES):
        raise RuntimeError("the servers' histograms have other buckets than this version's")
    sides = {"baseline": found.baseline, "canary": found.candidate}
    rows = [row for side, seen in sides.items() for row in _rows(side, seen, since_s, block_s)]
    with file.open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        writer.writerow(["block", "side", "requests", "errors", "seconds"])
        writer.writerows(sorted(rows))


def _rows(
    side: str, seen: LiveSide, since_s: float, block_s: float
) -> Iterator[tuple[int, str, int, int, str]]:
    """Sum up a side's pods in each block."""
    pods: dict[int, list[Block]] = {}
    for block in seen.blocks:
        pods.setdefault(round((block.start_s - since_s) / block_s), []).append(block)
    for number, blocks in pods.items():
        seconds: Counts = np.sum([block.seconds for block in blocks], axis=0)
        filled = " ".join(f"{place}:{seconds[place]}" for place in np.flatnonzero(seconds))
        requests = sum(block.requests for block in blocks)
        yield number, side, requests, sum(block.errors for block in blocks), filled


def read(file: Path = LATENCIES) -> dict[int, dict[str, Block]]:
    """Read what `record` wrote: blocks of time, and in each both sides."""
    found: dict[int, dict[str, Block]] = {}
    with file.open(newline="") as lines:
        for row in csv.DictReader(lines):
            seconds = np.zeros(EDGES.size, np.int64)
            for cell in row["seconds"].split():
                place, _, count = cell.partition(":")
                seconds[int(place)] = int(count)
            found.setdefault(int(row["block"]), {})[row["side"]] = Block(
                row["side"], float(row["block"]), int(row["requests"]), int(row["errors"]), seconds
            )
    return found
