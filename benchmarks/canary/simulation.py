"""Rollouts made of what was measured, and what the judge says of them at every look."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.canary.latencies import EDGES
from benchmarks.canary.predictions import Predictions
from service.canary.checks import judge
from service.canary.observations import (
    NO_SPEECH,
    Block,
    Counts,
    Golden,
    Live,
    LiveSide,
    Observations,
    Pairs,
    Scores,
    Side,
)
from service.canary.policy import CheckName, Policy, Step
from service.canary.verdict import Outcome, Verdict
from service.domain import Decision

CLIPS_A_SPEAKER = 20
"""Of a golden set: one of 6,000 clips has 300 speakers."""
ROWS_A_RUN = 5
"""Consecutive rows of the recording that are drawn together, so that bursts stay together."""
RUNS_A_BLOCK = 4
"""Of a block of time, as if the load were so many times as high on as many pods."""
ERRORS = 0.001
"""Share of requests that end in a 5xx on both sides: the recording has none."""
REVIEW_BELOW = 0.75
LOOKS = tuple(0.6**look for look in range(9, -1, -1))
"""At these shares of the whole size: each has two thirds more than the one before."""
STEP = 48
"""Buckets of latency to the power of ten."""
GOLDEN_CHECKS = (
    *(CheckName.SIDES, CheckName.ACCURACY, CheckName.MACRO_F1, CheckName.UAR),
    *(CheckName.RECALL, CheckName.ECE),
)
GROWING_CHECKS = (
    *(CheckName.DISAGREEMENT, CheckName.CLASS_PRIOR, CheckName.CONFIDENCE, CheckName.REVIEW_RATE),
    *(CheckName.RESTARTS, CheckName.ERROR_RATE, CheckName.P50, CheckName.P95),
)


class Effect(StrEnum):
    """What is wrong with the candidate."""

    NONE = "none (A/A)"
    ACCURACY = "−3 points of accuracy"
    LATENCY = "+10% p95"
    ERRORS = "+1 point of errors"


EVER_FAILED = "failed at any look"
LOST_ACCURACY, SLOWER, MORE_ERRORS = 0.03, 1.1, 0.01


@dataclass(frozen=True, slots=True)
class Size:
    """How much there is at the last look: clips of the golden set, pairs, and clips a live side."""

    golden: int
    pairs: int
    live: int


@dataclass(frozen=True, slots=True)
class Rollout:
    """What one rollout came to: its first look that decides, and whether any look failed it."""

    decided: Outcome
    ever_failed: bool


@dataclass(frozen=True)
class World:
    """What rollouts are made of.

    Sides are swapped at random, a speaker and a block of time at a time, so that neither is better
    and each differs from the other as much as it did.
    """

    predictions: Predictions
    latencies: dict[int, dict[str, Block]]
    policy: Policy

    def rollout(self, effect: Effect, size: Size, random: np.random.Generator) -> Rollout:
        """Look at one rollout again and again; its golden set, which doesn't grow, is seen once."""
        golden = self._golden(size.golden, effect, random)
        first = self._judge(Observations(_SIDE, _SIDE, golden=golden), GOLDEN_CHECKS)
        looks = [
            _both(first, self._judge(seen, GROWING_CHECKS))
            for seen in self._looks(size, effect, random)
        ]
        decisive = [outcome for outcome in looks if outcome is not Outcome.INCONCLUSIVE]
        return Rollout([*decisive, Outcome.INCONCLUSIVE][0], Outcome.FAIL in looks)

    def _judge(self, seen: Observations, required: Sequence[CheckName]) -> Outcome:
        policy = self.policy.model_copy(update={"steps": {0: Step(requires=tuple(required))}})
        verdict: Verdict = judge(seen, policy, 0)
        return verdict.outcome

    @cached_property
    def _by_speaker(self) -> list[NDArray[np.intp]]:
        speakers = self.predictions.speakers
        return [np.flatnonzero(speakers == speaker) for speaker in np.unique(speakers)]

    def _golden(self, clips: int, effect: Effect, random: np.random.Generator) -> Golden:
        """Draw speakers, and of each some clips."""
        speakers = -(-clips // CLIPS_A_SPEAKER)
        drawn = random.integers(len(self._by_speaker), size=speakers)
        rows = np.concatenate(
            [random.choice(self._by_speaker[speaker], CLIPS_A_SPEAKER) for speaker in drawn]
        )[:clips]
        names = np.repeat(np.arange(speakers), CLIPS_A_SPEAKER)[:clips]
        swapped = (random.integers(2, size=speakers) == 1)[names]
        before, after = self.predictions.probabilities[:, rows]
        stable = np.where(swapped[:, None], after, before)
        candidate = np.where(swapped[:, None], before, after)
        truth = self.predictions.truth[rows]
        labels = np.array(self.predictions.labels)
        if effect is Effect.ACCURACY:
            right = np.flatnonzero(labels[candidate.argmax(axis=1)] == truth)
            flipped = random.choice(right, round(LOST_ACCURACY * clips), replace=False)
            # All scores move on by one label, and the best is another's.
            candidate[flipped] = np.roll(candidate[flipped], 1, axis=1)
        zero = np.zeros(clips)
        return Golden(
            version="simulated",
            labels=self.predictions.labels,
            truth=tuple(truth),
            speakers=tuple(map(str, names)),
            stable=tuple(labels[stable.argmax(axis=1)]),
            candidate=tuple(labels[candidate.argmax(axis=1)]),
            stable_probabilities=stable,
            candidate_probabilities=candidate,
            stable_s=zero,
            candidate_s=zero,
        )

    def _looks(self, size: Size, effect: Effect, random: np.random.Generator) -> list[Observations]:
        rows = random.integers(len(self.predictions.truth), size=size.pairs)
        swapped = random.integers(2, size=size.pairs) == 1
        blocks = self._blocks(size.live, effect, random)
        found = []
        for look in LOOKS:
            seen, until = math.ceil(look * size.pairs), math.ceil(look * len(blocks))
            sides = [tuple(side) for side in zip(*blocks[:until], strict=True)]
            live = Live(EDGES, LiveSide(sides[0], 0), LiveSide(sides[1], 0))
            pairs = self._pairs(rows[:seen], swapped[:seen])
            found.append(Observations(_SIDE, _SIDE, pairs=pairs, live=live))
        return found

    @cached_property
    def _answered(self) -> tuple[NDArray[np.intp], NDArray[np.intp], Scores]:
        """Of both sides, [2, n]: the label's place, whether it is for review, its confidence."""
        scores = self.predictions.probabilities
        confidence = scores.max(axis=2)
        return scores.argmax(axis=2), (confidence < REVIEW_BELOW).astype(np.intp), confidence

    def _pairs(self, rows: NDArray[np.intp], swapped: NDArray[np.bool_]) -> Pairs:
        labels, review, confidence = self._answered
        first, second = swapped.astype(np.intp), 1 - swapped.astype(np.intp)
        count = len(self.predictions.labels) + 1
        edges = np.linspace(-1, 1, 41)
        return Pairs(
            labels=(*self.predictions.labels, NO_SPEECH),
            table=_cross(labels[first, rows], labels[second, rows], count),
            decision_names=(Decision.ACCEPT, Decision.REVIEW),
            decisions=_cross(review[first, rows], review[second, rows], 2),
            difference_edges=edges,
            difference=np.histogram(confidence[second, rows] - confidence[first, rows], edges)[0],
        )

    def _blocks(
        self, clips: int, effect: Effect, random: np.random.Generator
    ) -> list[tuple[Block, Block]]:
        """Blocks of time, each of a baseline and a candidate, of about so many clips a side."""
        runs, pods = self._runs, np.arange(2)
        blocks = math.ceil(clips / (runs[:, 0].sum() / len(runs) * RUNS_A_BLOCK))
        drawn = random.integers(len(runs), size=(blocks, RUNS_A_BLOCK, 1))
        swapped = random.integers(2, size=drawn.shape)
        histograms = runs[drawn, pods ^ swapped].sum(axis=1)
        wrong = (ERRORS, ERRORS + MORE_ERRORS * (effect is Effect.ERRORS))
        found = []
        for place, (baseline, candidate) in enumerate(histograms):
            took = slower(candidate, random) if effect is Effect.LATENCY else candidate
            requests = [int(seconds.sum()) for seconds in (baseline, took)]
            errors = [int(each) for each in random.binomial(requests, wrong)]
            found.append(
                (
                    Block("baseline", float(place), requests[0], errors[0], baseline),
                    Block("canary", float(place), requests[1], errors[1], took),
                )
            )
        return found

    @cached_property
    def _runs(self) -> Counts:
        """Histograms of both pods over each run of consecutive rows, [runs, 2, bins]."""
        rows = np.array(
            [[block.seconds for block in pods.values()] for pods in self.latencies.values()]
        )
        together = [np.roll(rows, -row, axis=0) for row in range(ROWS_A_RUN)]
        summed: Counts = np.sum(together, axis=0, dtype=np.int64)
        return summed


def slower(seconds: Counts, random: np.random.Generator) -> Counts:
    """Shift a histogram by `SLOWER`: a part of each bin by one bucket more than the rest."""
    steps = STEP * np.log10(SLOWER)
    far = random.binomial(seconds, steps % 1)
    near = seconds - far
    shifted = np.zeros_like(seconds)
    for counts, by in ((near, int(steps)), (far, int(steps) + 1)):
        shifted[by:] += counts[: counts.size - by]
        shifted[-1] += counts[counts.size - by :].sum()
    return shifted


def simulate(
    world: World,
    effect: Effect,
    size: Size,
    rollouts: int,
    progress: Callable[[], object] = lambda: None,
) -> Counter[str]:
    """Count what rollouts come to: their outcomes, and `EVER_FAILED`."""
    told: Counter[str] = Counter()
    for seed in range(rollouts):
        rollout = world.rollout(effect, size, np.random.default_rng(seed))
        told[rollout.decided] += 1
        told[EVER_FAILED] += rollout.ever_failed
        progress()
    return told


def _both(first: Outcome, second: Outcome) -> Outcome:
    """What a verdict of both halves' checks says."""
    if Outcome.FAIL in {first, second}:
        return Outcome.FAIL
    return second if first is Outcome.PASS else first


def _cross(before: NDArray[np.intp], after: NDArray[np.intp], count: int) -> Counts:
    return np.bincount(before * count + after, minlength=count**2).reshape(count, count)


_SIDE = Side(("simulated",), ("simulated",), ("fp32",), ("",), 1)
