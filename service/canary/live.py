"""Live and shadowed traffic, counted in blocks of time that both sides have in common.

Counters are read as they are at the edges of blocks and subtracted: `rate` and `increase` would
extrapolate, and a test on counts needs counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from service.canary.observations import (
    NO_SPEECH,
    Block,
    Counts,
    Live,
    LiveSide,
    Pairs,
    Scores,
)
from service.canary.pods import Seen, Watched, restarts, watch
from service.canary.prometheus import Prometheus

MAX_BLOCKS = 1440
"""The newest that are looked at: a day of minutes."""
SETTLED_S = 5.0
"""How old the last edge is at least: all samples before it have arrived."""

_LIVE = {"traffic": "live", "route": "/v1/classify|/v1/audio-classification"}


def edges(since_s: float, now_s: float, block_s: float) -> Scores:
    """Lay the edges of whole blocks from a moment to now, float [blocks + 1]."""
    blocks = max(0, math.floor((now_s - SETTLED_S - since_s) / block_s))
    return since_s + block_s * np.arange(max(0, blocks - MAX_BLOCKS), blocks + 1, dtype=np.float64)


def live(prometheus: Prometheus, baseline: Seen, candidate: Seen, edges_s: Scores) -> Live:
    """Count what both sides answered, in the blocks in which something is known of both.

    Raises:
        PrometheusFailed.
    """
    before, after = (_Side(prometheus, seen, edges_s) for seen in (baseline, candidate))
    bounds = sorted(set(before.buckets) & set(after.buckets) | {math.inf})
    common = before.watched.up & after.watched.up

    def told(side: _Side) -> LiveSide:
        blocks = tuple(side.blocks(bounds, common))
        again = restarts(prometheus, side.seen, float(edges_s[0]))
        return LiveSide(blocks, again, down=len(side.seen.down))

    return Live(np.array(bounds), told(before), told(after))


def pairs(prometheus: Prometheus, stable: Seen, candidate: Seen, edges_s: Scores) -> Pairs:
    """Count the clips that stable answered and the candidate's shadow too.

    Raises:
        PrometheusFailed.
    """
    watched = watch(prometheus, stable, edges_s)

    def counted(metric: str, *labels: str) -> dict[tuple[str, ...], int]:
        selected = stable.selector(
            f"timbre_shadow_{metric}", candidate="canary", digest=candidate.short_digests
        )
        grown = _grown(prometheus, watched, selected, labels)
        totals: dict[tuple[str, ...], int] = {}
        for (_, *values), blocks in grown.items():
            key = tuple(values)
            totals[key] = totals.get(key, 0) + int(blocks.sum())
        return totals

    labels, table = _square(counted("pairs_total", "stable_label", "candidate_label"), {NO_SPEECH})
    names, decisions = _square(
        counted("decisions_total", "stable_decision", "candidate_decision"), set()
    )
    difference_edges, difference = _binned(counted("confidence_difference_bucket", "le"))
    return Pairs(labels, table, names, decisions, difference_edges, difference)


class _Side:
    """One side's counters in blocks."""

    def __init__(self, prometheus: Prometheus, seen: Seen, edges_s: Scores) -> None:
        self.seen = seen
        self.watched = watch(prometheus, seen, edges_s)

        def grown(metric: str, *labels: str, **matchers: str) -> dict[tuple[str, ...], Counts]:
            selected = seen.selector(metric, **_LIVE, **matchers)
            return _grown(prometheus, self.watched, selected, labels, inner=("route", "status"))

        self._requests = grown("timbre_requests_total")
        # Refused and given up, too: where a slow server does that, its answers may be quick.
        self._errors = grown("timbre_requests_total", status="[^2]..")
        self.buckets: dict[float, dict[str, Counts]] = {}
        for (pod, bound), blocks in grown("timbre_request_seconds_bucket", "le").items():
            self.buckets.setdefault(float(bound), {})[pod] = blocks

    def blocks(self, bounds: Sequence[float], common: NDArray[np.bool_]) -> Iterator[Block]:
        """Give the blocks of all pods that are known and in common, in order of time."""
        watched = self.watched
        nothing = np.zeros(watched.edges_s.size - 1, dtype=np.int64)
        upto = {
            pod: np.array([self.buckets.get(bound, {}).get(pod, nothing) for bound in bounds])
            for pod in watched.pods
        }
        for block in np.flatnonzero(common):
            for row, pod in enumerate(watched.pods):
                if watched.known[row, block]:
                    yield Block(
                        pod=pod,
                        start_s=float(watched.edges_s[block]),
                        requests=int(self._requests.get((pod,), nothing)[block]),
                        errors=int(self._errors.get((pod,), nothing)[block]),
                        seconds=np.diff(upto[pod][:, block], prepend=0),
                    )


def _grown(
    prometheus: Prometheus,
    watched: Watched,
    selected: str,
    labels: Sequence[str],
    inner: Sequence[str] = (),
) -> dict[tuple[str, ...], Counts]:
    """Tell by how much a pod's counters grew in each block, by pod and these labels.

    A pod that is scraped twice counts once: of series that agree in the labels and in `inner`, one
    is taken.
    """
    outer = ", ".join(("pod", *labels))
    each = ", ".join(("pod", *labels, *inner))
    series = prometheus.range(f"sum by ({outer}) (max by ({each}) ({selected}))", watched.edges_s)
    grown: dict[tuple[str, ...], Counts] = {}
    for one in series:
        pod = one.labels["pod"]
        key = (pod, *(one.labels.get(label, "") for label in labels))
        grown[key] = watched.increments(pod, one.values)
    return grown


def _square(
    counts: Mapping[tuple[str, ...], int], always: set[str]
) -> tuple[tuple[str, ...], Counts]:
    """Make a table of what both sides said, with the same names for rows and columns."""
    names = tuple(sorted(always.union(*counts)))
    table = np.zeros((len(names), len(names)), dtype=np.int64)
    for (row, column), count in counts.items():
        table[names.index(row), names.index(column)] += count
    return names, table


def _binned(upto: Mapping[tuple[str, ...], int]) -> tuple[Scores, Counts]:
    """Turn a histogram's sums into bins between its finite bounds; what is beyond is in the ends'.

    Without a histogram it is one empty bin of all there could be.
    """
    found = sorted((float(bound), count) for (bound,), count in upto.items())
    finite = [(bound, count) for bound, count in found if math.isfinite(bound)]
    if not finite:
        return np.array([-1.0, 1.0]), np.zeros(1, dtype=np.int64)
    bounds, sums = (np.array(column) for column in zip(*finite, strict=True))
    sums[0], sums[-1] = 0, found[-1][1]
    return bounds, np.diff(sums).astype(np.int64)
