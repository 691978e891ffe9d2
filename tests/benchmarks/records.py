"""Made-up records of measurements, for tests of what is said about them."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.peers.cells import Cell
from benchmarks.peers.contenders import Contender
from benchmarks.peers.results import Results


def a_cell(contender: Contender | str, clips_per_s: float, **changes: Any) -> Cell:  # noqa: ANN401
    """Make a quiet, faultless cell of 8 clients on wav2vec2-base, `changes` applied."""
    facts: dict[str, Any] = {
        "model": "wav2vec2-base",
        "contender": contender if isinstance(contender, str) else contender.name,
        "kind": "closed",
        "round": 0,
        "load": 8,
        "requests": 100,
        "answered": 100,
        "statuses": {"200": 100},
        "seconds": 100 / clips_per_s,
        "clips_per_s": clips_per_s,
        "p50_ms": 10.0,
        "p95_ms": 20.0,
        "p99_ms": 30.0,
        "refused_p99_ms": math.nan,
        "cpu_ms": 5.0,
        "memory_mib": 300.0,
        "ready_s": 2.0,
        "labels_differ": 0,
        "largest_difference": 0.0,
        "others": 0.0,
    }
    return Cell(**{**facts, **changes})


def some_results(contenders: list[Contender], cells: list[Cell]) -> Results:
    """Put cells into results of a machine with 2 vCPUs and a peak of 100 GFLOPS."""
    names = dict.fromkeys(cell.model for cell in cells)
    return Results(
        machine={
            "cpu": "A CPU",
            "cpus": 2,
            "features": ["avx2"],
            "memory_gib": 8.0,
            "system": "Linux 6",
            "python": "3.12.0",
        },
        started="2026-01-02T03:04:05+00:00",
        profile="full",
        price=0.05,
        versions={"timbre": {"openvino": "1"}, "peers": {"openvino": "1"}},
        models={name: {"parameters": 94_600_000, "gflop": 40.0, "gated": []} for name in names},
        contenders=contenders,
        peaks={"fp32": 100.0},
        cells=cells,
    )
