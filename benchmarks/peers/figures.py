"""The arithmetic of the figures: schedules, percentiles, spread, cost. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

HOUR_S = 3600
MILLION = 1_000_000


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Arrivals of a Poisson process of `rate` a second: times in [0, seconds), in order.

    The same seed gives the same gaps, scaled by the rate, so that all contenders meet one pattern.
    """
    if rate <= 0:
        raise ValueError(f"a rate must be above 0, not {rate}")
    random = np.random.default_rng(seed)
    arrivals: list[float] = []
    now = 0.0
    while (now := now + float(random.exponential()) / rate) < seconds:
        arrivals.append(now)
    return arrivals


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values don't exceed; nan of none."""
    if not values:
        return math.nan
    ranked = sorted(values)
    # Rounded, because 0.95 * 20 is a little more than 19 in binary.
    return ranked[max(0, math.ceil(round(share * len(ranked), 9)) - 1)]


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over rounds."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Median and range; all nan of none."""
        if not values:
            return Spread(math.nan, math.nan, math.nan)
        return Spread(statistics.median(values), min(values), max(values))


def clips_per_vcpu_hour(clips_per_s: float, vcpus: int) -> float:
    """What one vCPU does in an hour of full use."""
    return clips_per_s * HOUR_S / vcpus


def dollars_per_million(clips_per_s: float, vcpus: int, price: float) -> float:
    """The cost of a million clips at `price` dollars a vCPU-hour, at full use."""
    if not clips_per_s:
        return math.inf
    return MILLION / clips_per_vcpu_hour(clips_per_s, vcpus) * price


def share_of_peak(clips_per_s: float, gflop: float, peak: float) -> float:
    """How much of a measured GEMM peak (GFLOPS) a rate of clips of `gflop` each makes use of."""
    return clips_per_s * gflop / peak
