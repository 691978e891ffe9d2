"""The trials by name: each takes a stage and gives an outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from benchmarks.soak.results import Outcome
from benchmarks.soak.stage import Stage
from benchmarks.soak.trials import (
    capacity,
    decoder,
    drift,
    overload,
    slow,
    start,
    termination,
    vanishing,
)

TRIALS: Mapping[str, Callable[[Stage], Outcome]] = {
    "start": start.run,
    "capacity": capacity.run,
    "overload": overload.run,
    "slow": slow.run,
    "vanishing": vanishing.run,
    "decoder": decoder.run,
    "termination": termination.run,
    "drift": drift.run,
}
