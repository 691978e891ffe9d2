"""The latency histograms: a quantile that moves by a tenth is seen to move."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from prometheus_client import Histogram

from service.metrics import FINE_BUCKETS, Metrics

FINEST_S, COARSEST_S = 0.0052, 30.0
"""Seconds between which the fine buckets are fine."""
GROWTH = 1.05


def histogram_quantile(quantile: float, histogram: Histogram) -> float:
    """Estimate a quantile as Prometheus does: even within the bucket it falls into."""
    (family,) = histogram.collect()
    samples = [sample for sample in family.samples if sample.name.endswith("_bucket")]
    bounds = [float(sample.labels["le"]) for sample in samples]
    counts = [sample.value for sample in samples]
    rank = quantile * counts[-1]
    bucket = next(number for number, count in enumerate(counts) if count >= rank)
    below, start = (counts[bucket - 1], bounds[bucket - 1]) if bucket else (0.0, 0.0)
    return start + (bounds[bucket] - start) * (rank - below) / (counts[bucket] - below)


def test_the_buckets_grow_by_five_percent_at_most() -> None:
    """From 5 ms to the default deadline."""
    fine = [bound for bound in FINE_BUCKETS if 0.005 <= bound <= 60]
    assert fine[0] <= FINEST_S
    assert fine[-2] >= COARSEST_S
    for below, above in pairwise(fine[:-1]):
        assert above / below <= GROWTH


@pytest.mark.parametrize("name", ["request_seconds", "queue_seconds", "engine_seconds"])
@pytest.mark.parametrize("p95_s", np.geomspace(FINEST_S, COARSEST_S / 1.1, 20).round(4))
def test_a_95th_percentile_that_moves_by_a_tenth_is_seen_to_move(name: str, p95_s: float) -> None:
    """Prometheus' estimate moves by 5 to 15%, wherever between the bounds it is."""
    times = np.random.default_rng(7).lognormal(sigma=0.4, size=2000)
    times *= p95_s / np.quantile(times, 0.95)
    estimates = []
    for factor in (1.0, 1.1):
        histogram = getattr(Metrics(), name)
        labelled = name == "request_seconds"
        child = histogram.labels("/v1/classify", "live") if labelled else histogram
        for seconds in times * factor:
            child.observe(seconds)
        estimates.append(histogram_quantile(0.95, histogram))
    assert estimates[0] == pytest.approx(p95_s, rel=GROWTH - 1)
    assert 1.05 <= estimates[1] / estimates[0] <= 1.15
