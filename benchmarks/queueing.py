"""What the batcher costs by itself: CPU time a window, with an engine that does nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from service.batching import Batcher

WINDOWS = 3
"""Of each clip."""
MAX_BATCH = 8
QUEUES = (1, 64, 4096)
"""Clips that are inside at a time."""
DEADLINE_S = 600.0


def costs(clips: int) -> dict[str, Any]:
    """CPU microseconds a window, by how many clips are inside at a time.

    The way to the engine's thread and back is part of it, so batches of one window, which a clip
    alone has, cost the most.
    """
    return {
        "cpu_us_per_window": {
            f"{inside}_clips_inside": round(asyncio.run(_cost(clips, inside)) * 1e6, 1)
            for inside in QUEUES
        }
    }


async def _cost(clips: int, inside: int) -> float:
    batcher: Batcher[int, int] = Batcher(_answer, streams=1, max_batch=MAX_BATCH)
    numbers = iter(range(max(clips, 2 * inside)))
    items = range(WINDOWS)
    windows = 0

    async def client() -> None:
        nonlocal windows
        for _ in numbers:
            deadline = asyncio.get_running_loop().time() + DEADLINE_S
            batched = await batcher.submit(items, deadline=deadline)
            windows += len(batched.answers)

    began = time.process_time()
    await asyncio.gather(*(client() for _ in range(inside)))
    spent = time.process_time() - began
    await batcher.close()
    return spent / windows


def _answer(items: Sequence[int]) -> Sequence[int]:
    return items
