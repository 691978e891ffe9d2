"""What is gathered of live and shadowed traffic, from a real Prometheus with a written past.

Counters and their resets are in it; that Prometheus reads them as the code thinks it does is what
a stand-in could not show.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pytest

from service.canary.compare import Comparison, Watching
from service.canary.observations import NO_SPEECH, LiveSide, Observations
from service.canary.pods import Names, NothingThere
from service.canary.prometheus import Prometheus, PrometheusFailed
from tests.support.past import AFTER, BEFORE, SAMPLES, SCRAPE_S, Past, ramp, remembering

pytestmark = pytest.mark.needs_prometheus

NAMES = Names.of_release("audio", "t")
STABLE, BASELINE, CANARY, ANOTHER, GONE, OLD = (
    "t-5d8f7c9b4-aaaaa",
    "t-baseline-5d8f7c9b4-aaaaa",
    "t-canary-6d8f7c9b4-aaaaa",
    "t-canary-6d8f7c9b4-bbbbb",
    "t-canary-6d8f7c9b4-ccccc",
    "t-canary-7d8f7c9b4-aaaaa",
)
CLIPS = {"traffic": "live", "route": "/v1/classify"}


def written(begin_s: float) -> Past:
    """Write 20 minutes with all that can happen to pods.

    Stable and baseline run throughout. The canary's first pod starts at 60 s and again at 600 s. A
    third, which came at 60 s too, answers nobody from 120 s on, and is gone at 195 s; a second
    comes at 480 s and stays. There is an older canary, of another digest, until then too. What
    ends is seen for 5 minutes more: only a Prometheus that scrapes writes that a series has ended.
    """
    past = Past(begin_s)
    past.server(STABLE, BEFORE, [-9000.0] * SAMPLES)
    past.server(BASELINE, BEFORE, [20.0] * (SAMPLES - 2), late=2)
    past.server(CANARY, AFTER, [55.0] * 36 + [600.5] * (SAMPLES - 40), late=4)
    past.server(ANOTHER, AFTER, [470.0] * (SAMPLES - 32), late=32)
    past.server(GONE, AFTER, [55.0] * 4, late=4)
    past.write("up", GONE, [1.0] * 4 + [0.0] * 5, late=4)
    past.server(OLD, "sha256:" + "c" * 64, [-500.0] * 8)
    # A sidecar of the pod, which starts again and again, is no server of the comparison.
    past.write(
        "process_start_time_seconds", CANARY, ramp(100, SAMPLES - 4), late=4, instance="sidecar"
    )

    def answered(pod: str, values: Sequence[float | None], late: int) -> None:
        past.write("timbre_requests_total", pod, values, late=late, status="200", **CLIPS)
        # Scraped a second time, by another job.
        past.write(
            "timbre_requests_total", pod, values, late=late, status="200", job="again", **CLIPS
        )
        for bound, share in (("0.1", 0.5), ("1.0", 1.0), ("+Inf", 1.0)):
            shared = [None if value is None else value * share for value in values]
            past.write("timbre_request_seconds_bucket", pod, shared, late=late, le=bound, **CLIPS)

    answered(BASELINE, ramp(4, SAMPLES - 2), 2)
    answered(CANARY, [*ramp(2, 36), *ramp(2, SAMPLES - 40)], 4)
    answered(ANOTHER, ramp(2, SAMPLES - 32), 32)
    answered(OLD, ramp(100, 8), 0)
    # Errors come to be at 600 s; what is no live traffic is not counted.
    for status, count in (("500", 3.0), ("429", 2.0)):
        failed = [count] * (SAMPLES - 40)
        past.write("timbre_requests_total", ANOTHER, failed, late=40, status=status, **CLIPS)
    past.write(
        "timbre_requests_total",
        *(CANARY, ramp(1000, SAMPLES - 4)),
        late=4,
        status="200",
        traffic="forced",
        route="/v1/classify",
    )
    shadowed(past)
    return past


def shadowed(past: Past) -> None:
    """Write what stable's pods told of pairs: with this candidate, with others and the baseline."""

    def told(metric: str, values: Sequence[float | None], **labels: str) -> None:
        late = SAMPLES - len(values)
        for candidate, digest in (("canary", "b"), ("canary", "c"), ("baseline", "b")):
            shadow = {"candidate": candidate, "digest": digest * 12, **labels}
            past.write(f"timbre_shadow_{metric}", STABLE, values, late=late, **shadow)

    told("pairs_total", ramp(8, SAMPLES - 6), stable_label="sad", candidate_label="sad")
    told("pairs_total", ramp(4, SAMPLES - 6), stable_label="sad", candidate_label="happy")
    told("pairs_total", [5.0] * (SAMPLES - 30), stable_label="", candidate_label="sad")
    told("decisions_total", ramp(12), stable_decision="accept", candidate_decision="review")
    for bound, upto in {"-1.0": 0, "-0.5": 1, "0.0": 3, "0.5": 11, "1.0": 12, "+Inf": 12}.items():
        told("confidence_difference_bucket", ramp(upto), le=bound)


@pytest.fixture(scope="module")
def begin_s() -> float:
    """When the past begins: it ends now."""
    return round(time.time()) - SCRAPE_S * (SAMPLES - 1.0)


@pytest.fixture(scope="module")
def prometheus(begin_s: float, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """The Prometheus that has it."""
    with remembering(written(begin_s), tmp_path_factory.mktemp("prometheus")) as prometheus:
        yield prometheus


@pytest.fixture(scope="module")
def seen(prometheus: Prometheus) -> Observations:
    """What is gathered of it."""
    return Comparison(watching=Watching(prometheus, NAMES, 60.0)).observe()


def test_facts_are_of_the_pods_that_are_there(seen: Observations) -> None:
    """Of each side; the candidate's two pods agree."""
    assert (seen.stable.versions, seen.stable.digests, seen.stable.pods) == (
        ("1.0.0",),
        (BEFORE,),
        1,
    )
    assert (seen.candidate.versions, seen.candidate.digests) == (("1.1.0",), (AFTER,))
    assert seen.candidate.pods == 2
    assert seen.candidate.precisions == ("fp32",)
    assert seen.candidate.cpu_features == ("avx2,fma",)
    assert seen.notes == ()


def by_pod(side: LiveSide) -> Mapping[str, int]:
    """Sum the live clips by pod."""
    return {
        pod: sum(block.requests for block in side.blocks if block.pod == pod)
        for pod in {block.pod for block in side.blocks}
    }


def errors(side: LiveSide) -> int:
    """Sum the errors."""
    return sum(block.errors for block in side.blocks)


def test_clips_are_counted_exactly(seen: Observations, begin_s: float) -> None:
    """From the first start of the oldest pod there is, in whole blocks that both sides have.

    A second's scrape counts once, an older canary not at all, and of the clips before a server
    started again only those that were seen at an edge.
    """
    live = seen.live
    assert live is not None
    starts = sorted({block.start_s for block in live.candidate.blocks})
    assert starts[0] == begin_s + 55
    assert {block.start_s for block in live.baseline.blocks} == set(starts)
    assert {round(b - a) for a, b in pairwise(starts)} == {60}
    blocks = len(starts)
    assert 17 <= blocks <= 19
    # A block has 4 scrapes; the first of a pod finds nothing counted yet.
    assert by_pod(live.baseline)[BASELINE] == 4 * 4 * blocks
    assert by_pod(live.candidate)[ANOTHER] == 2 * (
        sum(1 for start in starts if start + 60 > begin_s + 480) * 4 - 1
    ) + errors(live.candidate)
    assert OLD not in by_pod(live.candidate)


def test_errors_are_clips_that_were_not_answered(seen: Observations) -> None:
    """Failed or refused; a status that has not been before began at 0."""
    assert seen.live is not None
    assert errors(seen.live.candidate) == 3 + 2
    assert errors(seen.live.baseline) == 0


def test_seconds_are_counted_between_bounds(seen: Observations) -> None:
    """The last bound is infinity."""
    assert seen.live is not None
    np.testing.assert_array_equal(seen.live.edges, [0.1, 1.0, np.inf])
    for side in (seen.live.baseline, seen.live.candidate):
        total = sum(block.seconds for block in side.blocks)
        clips = sum(block.requests - block.errors for block in side.blocks)
        np.testing.assert_array_equal(total, [clips / 2, clips / 2, 0])


def test_restarts_are_a_server_s_and_a_failed_pod_s(seen: Observations) -> None:
    """One in its pod, and one pod that was down before it went; no sidecar's."""
    assert seen.live is not None
    assert (seen.live.candidate.restarts, seen.live.baseline.restarts) == (2, 0)


def test_pairs_are_of_this_candidate(seen: Observations) -> None:
    """Neither the baseline's nor another digest's; no label is no speech."""
    pairs = seen.pairs
    assert pairs is not None
    assert pairs.labels == (NO_SPEECH, "happy", "sad")
    happy, sad = pairs.labels.index("happy"), pairs.labels.index("sad")
    assert pairs.table[0, sad] == 5
    assert pairs.table[sad, sad] == 2 * pairs.table[sad, happy] > 0
    assert pairs.table.sum() == pairs.table[sad].sum() + 5
    assert pairs.decision_names == ("accept", "review")
    clips = pairs.decisions[0, 1]
    assert pairs.decisions.sum() == clips > 0
    np.testing.assert_array_equal(pairs.difference_edges, [-1, -0.5, 0, 0.5, 1])
    np.testing.assert_array_equal(pairs.difference, np.array([1, 2, 8, 1]) * clips / 12)


def test_a_start_may_be_told(prometheus: Prometheus, begin_s: float) -> None:
    """Then blocks begin there."""
    watching = Watching(prometheus, NAMES, 60.0, since_s=begin_s + 600)
    live = Comparison(watching=watching).observe().live
    assert live is not None
    assert min(block.start_s for block in live.candidate.blocks) == begin_s + 600


def test_without_a_baseline_it_is_stable(prometheus: Prometheus) -> None:
    """Which the reader is told."""
    names = Names("audio", NAMES.stable, NAMES.candidate, "nobody")
    seen = Comparison(watching=Watching(prometheus, names, 60.0)).observe()
    assert seen.live is not None
    assert {block.pod for block in seen.live.baseline.blocks} == {STABLE}
    assert "no baseline" in seen.notes[0]


def test_a_side_without_pods_is_said(prometheus: Prometheus) -> None:
    """By the expression that found none."""
    names = Names("audio", NAMES.stable, "nobody", NAMES.baseline)
    with pytest.raises(NothingThere, match="audio called nobody"):
        Comparison(watching=Watching(prometheus, names, 60.0)).observe()


def test_an_expression_that_is_none_is_a_sentence(prometheus: Prometheus) -> None:
    """In Prometheus' own words."""
    names = Names("audio", NAMES.stable, "(", NAMES.baseline)
    with pytest.raises(PrometheusFailed, match="error parsing regexp"):
        Comparison(watching=Watching(prometheus, names, 60.0)).observe()
