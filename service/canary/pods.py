"""Which pods are a side's, what they serve, and since when: from what Prometheus has of them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from service.canary.observations import Counts, Scores, Side
from service.canary.prometheus import Prometheus, Sample, Samples, quoted
from service.domain import TimbreError

LOOKBACK = "7d"
"""How far back the first start of a pod's server is looked for."""
DOWN_S = 60.0
"""From a pod's first scrape that fails to the last, all between failing too, when it is down.

A restart in its place takes seconds. A pod that ends in an orderly way answers no scrapes while it
finishes its clips, which takes it 40 s by the chart's own settings; then it is no target any more,
and no scrape fails.
"""
SCRAPES = "5m"
"""How far back scrapes are looked at; Prometheus itself takes a target as there for so long."""
_TARGET = ("pod", "instance", "job")
"""Labels that tell a pod's own server from what else of the pod is scraped."""
_ON_TARGET = f"and on ({', '.join(_TARGET)})"


class NothingThere(TimbreError):
    """A side has no pods that Prometheus knows of: not yet, or not any more."""

    slug = "nothing-there"
    title = "A side has no pods"


@dataclass(frozen=True, slots=True)
class Names:
    """Where pods are, and regular expressions for the names of each side's."""

    namespace: str
    stable: str
    candidate: str
    baseline: str

    @classmethod
    def of_release(cls, namespace: str, name: str) -> Names:
        """Give those of the chart's Deployments; `name` is the release's full name."""
        name = name.replace(".", r"\.")
        pod = "[0-9a-f]{6,10}-[a-z0-9]{5}"
        return cls(namespace, f"{name}-{pod}", f"{name}-canary-{pod}", f"{name}-baseline-{pod}")


@dataclass(frozen=True, slots=True)
class Seen:
    """One side: what its pods serve, and all pods that served the same of late.

    `there` are those that have not gone, up or down; `down` those of them whose server ended and
    hasn't started again.
    """

    side: Side
    namespace: str
    pods: tuple[str, ...]
    there: tuple[str, ...]
    down: tuple[str, ...]

    def selector(self, metric: str, **matchers: str) -> str:
        """Select a metric of these pods; `matchers` are regular expressions."""
        return _selector(metric, self.namespace, "|".join(map(_escaped, self.pods)), **matchers)

    @property
    def short_digests(self) -> str:
        """Match the first 12 digits of the digests, as the shadow's metrics have them."""
        return "|".join(digest.removeprefix("sha256:")[:12] for digest in self.side.digests)


@dataclass(frozen=True, slots=True)
class Watched:
    """A side's pods at the edges of blocks.

    `starts_s` is float [pods, edges]: when the server that is seen there started, NaN where none
    is.
    """

    pods: tuple[str, ...]
    edges_s: Scores
    starts_s: Scores

    @property
    def known(self) -> NDArray[np.bool_]:
        """Say of each pod and block, bool [pods, blocks], whether it's known what happened in it.

        It is where the pod is seen at both edges, or its server is new: it started in this block,
        or in the one before and hadn't been scraped yet.
        """
        before, after = self.starts_s[:, :-1], self.starts_s[:, 1:]
        earliest = self.edges_s[:-1] - np.diff(self.edges_s)
        return np.isfinite(after) & (np.isfinite(before) | (after >= earliest))

    @property
    def up(self) -> NDArray[np.bool_]:
        """Say of each block, bool [blocks], whether something of the side is known in it."""
        return np.asarray(self.known.any(axis=0))

    def increments(self, pod: str, values: Scores) -> Counts:
        """Tell by how much a counter grew in each block.

        Exact: a counter that is seen first, or again after its server has started anew, began at 0.
        What a server counted between an edge and its end is lost with it.

        Args:
            pod: whose counter it is.
            values: float [edges], NaN where it isn't seen.

        Returns:
            int64 [blocks]; 0 in blocks that aren't `known`.
        """
        row = self.pods.index(pod)
        values = np.nan_to_num(values)
        same = self.starts_s[row, :-1] == self.starts_s[row, 1:]
        grown = values[1:] - np.where(same, values[:-1], 0.0)
        return np.where(self.known[row], np.maximum(grown, 0.0), 0.0).astype(np.int64)


def see(prometheus: Prometheus, namespace: str, names: str, now_s: float) -> Seen:
    """Look at the pods whose names match a regular expression.

    Where all of them are down, they are told by what they served.

    Raises:
        NothingThere: none does.
        PrometheusFailed.
    """
    info = _selector("timbre_model_info", namespace, names)
    earlier = prometheus.instant(f"last_over_time({info}[{LOOKBACK}])", now_s)
    silent = _silent(prometheus, namespace, names, now_s)
    found = prometheus.instant(info, now_s) or [
        sample for sample in earlier if sample.labels.get("pod") in silent
    ]
    if not found:
        raise NothingThere(f"Prometheus knows no pod in {namespace} called {names}.")
    digests = _distinct(found, "digest")
    same = [sample for sample in earlier if sample.labels.get("digest") in digests]
    pods = _distinct([*found, *same], "pod")
    down = tuple(pod for pod in pods if pod in silent)
    there = tuple(sorted({*_distinct(found, "pod"), *down}))
    side = Side(
        versions=_distinct(found, "version"),
        digests=digests,
        precisions=_distinct(found, "precision"),
        cpu_features=_distinct(found, "cpu_features"),
        pods=len(there),
    )
    return Seen(side, namespace, pods, there, down)


def first_start(prometheus: Prometheus, seen: Seen, now_s: float) -> float:
    """Tell when the first server started in the oldest of the pods that are there now.

    A server that starts again in its pod, or one more pod, doesn't make the comparison begin anew:
    the first would hide what is to be found, the second throw away what has been.

    Raises:
        NothingThere, PrometheusFailed.
    """
    span = f"[{LOOKBACK}]"
    there = replace(seen, pods=seen.there)
    first = f"min_over_time({_process(there)}{span}) {_of_timbre(there, span)}"
    starts = prometheus.instant(f"min by (pod) ({first})", now_s)
    if not starts:
        raise NothingThere("Prometheus has no process_start_time_seconds of the candidate's pods.")
    return min(sample.value for sample in starts)


def watch(prometheus: Prometheus, seen: Seen, edges_s: Scores) -> Watched:
    """See which servers ran at the edges of blocks."""
    series = prometheus.range(f"max by (pod) ({_process(seen)} {_of_timbre(seen)})", edges_s)
    starts = np.full((len(seen.pods), edges_s.size), np.nan)
    for one in series:
        starts[seen.pods.index(one.labels["pod"])] = one.values
    return Watched(seen.pods, edges_s, starts)


def restarts(prometheus: Prometheus, seen: Seen, since_s: float) -> int:
    """Count servers that started again in their pod, and pods that went after they were down.

    Until now, and not until the last edge only: one that has just crashed and is ready again would
    look well for a block more.

    A pod that just goes ended in an orderly way: an autoscaler, a drain or an update took it. That
    another comes soon after says nothing, since it does after each of these as well.
    """
    now_s = prometheus.now()
    span = f"{max(1, math.ceil(now_s - since_s))}s"
    changes = f"changes({_process(seen)}[{span}]) {_of_timbre(seen, f'[{span}]')}"
    found = prometheus.instant(f"max by (pod) ({changes})", now_s)
    return round(sum(sample.value for sample in found)) + len(
        _failed(prometheus, seen, span, now_s)
    )


def silent_s(scrapes: Samples) -> float:
    """Tell how long scrapes have failed: from the first of those at the end to the last."""
    answered = np.flatnonzero(scrapes.values)
    failed = scrapes.moments_s[answered[-1] + 1 if answered.size else 0 :]
    return float(failed[-1] - failed[0]) if failed.size else 0.0


def _silent(prometheus: Prometheus, namespace: str, names: str, now_s: float) -> set[str]:
    """Name pods that are still there, and whose servers were and answer nobody any more.

    Of a pod that is gone Prometheus has no `up`. One that several jobs scrape is silent to all.
    """
    up, info = (_selector(metric, namespace, names) for metric in ("up", "timbre_model_info"))
    there = prometheus.instant(f"{up} {_ON_TARGET} last_over_time({info}[{LOOKBACK}])", now_s)
    return _lost(prometheus.samples(up, SCRAPES, now_s), there)


def _failed(prometheus: Prometheus, seen: Seen, span: str, now_s: float) -> set[str]:
    """Name pods that are gone, and whose servers answered nobody at the end."""
    gone = replace(seen, pods=tuple(sorted(set(seen.pods) - set(seen.there))))
    if not gone.pods:
        return set()
    info = gone.selector("timbre_model_info")
    served = prometheus.instant(f"last_over_time({info}[{span}])", now_s)
    return _lost(prometheus.samples(gone.selector("up"), span, now_s), served)


def _lost(scraped: Iterable[Samples], servers: Iterable[Sample]) -> set[str]:
    """Name pods whose servers, told by their targets, no scrape has had for `DOWN_S` at the end."""
    targets = {_target(sample) for sample in servers}
    lasting: dict[str, list[bool]] = {}
    for scrapes in scraped:
        if _target(scrapes) in targets:
            lasting.setdefault(scrapes.labels["pod"], []).append(silent_s(scrapes) >= DOWN_S)
    return {pod for pod, each in lasting.items() if all(each)}


def _target(series: Sample | Samples) -> tuple[str, ...]:
    return tuple(series.labels.get(label, "") for label in _TARGET)


def _process(seen: Seen) -> str:
    return seen.selector("process_start_time_seconds")


def _of_timbre(seen: Seen, span: str = "") -> str:
    """Leave out other programs of a pod, which have a start time too."""
    info = seen.selector("timbre_model_info")
    return f"{_ON_TARGET} {f'last_over_time({info}{span})' if span else info}"


def _selector(metric: str, namespace: str, pods: str, **matchers: str) -> str:
    patterns = "".join(f",{label}=~{quoted(regex)}" for label, regex in matchers.items())
    return f"{metric}{{namespace={quoted(namespace)},pod=~{quoted(pods)}{patterns}}}"


def _escaped(pod: str) -> str:
    return pod.replace(".", r"\.")


def _distinct(samples: Iterable[Sample], label: str) -> tuple[str, ...]:
    return tuple(sorted({sample.labels.get(label, "") for sample in samples}))
