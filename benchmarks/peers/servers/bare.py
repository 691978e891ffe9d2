"""An engine with nothing around it: `python -m benchmarks.peers.servers.bare MODEL …` prints JSON.

Batches of 1 and of 8, whichever is faster: what a service has to come up to.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.servers.engines import open_engine

BATCHES = (1, 8)


def measure(
    folder: Path, engine: str, precision: str, *, streams: int, threads: int, seconds: float
) -> dict[str, Any]:
    """Clips a second and CPU time of a clip, for each size of batch."""
    run = open_engine(engine, folder, precision=precision, threads=threads, streams=streams)
    windows = np.load(folder / "windows.npy")
    figures = []
    # Alone: OpenVINO makes its table of types in the first call, and two first calls at once can
    # wait for each other for good.
    run(windows[:1])
    with ThreadPoolExecutor(streams) as pool:
        for size in BATCHES:
            batch = np.ascontiguousarray(np.resize(windows, (size, windows.shape[1])))
            list(pool.map(run, [batch] * streams))
            calls, used, started = 0, time.process_time(), time.monotonic()
            while (elapsed := time.monotonic() - started) < seconds or not calls:
                # Enough calls at a time that no stream waits for another long.
                many = streams * max(1, max(BATCHES) // size)
                list(pool.map(run, [batch] * many))
                calls += many
            spent = time.process_time() - used
            elapsed = time.monotonic() - started
            clips = calls * size
            figures.append(
                {
                    "batch": size,
                    "clips": clips,
                    "seconds": elapsed,
                    "clips_per_s": clips / elapsed,
                    "cpu_ms": spent * 1e3 / clips,
                }
            )
    return max(figures, key=lambda figure: figure["clips_per_s"])


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.stdout.write(
        json.dumps(
            measure(
                Path(given[0]),
                given[1],
                given[2],
                streams=int(given[3]),
                threads=int(given[4]),
                seconds=float(given[5]),
            )
        )
    )
