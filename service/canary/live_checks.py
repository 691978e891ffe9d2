"""What live traffic says of a candidate beside a baseline of the same age. Pure.

Both sides are laid out by blocks of time, each with all of a side's pods, and weigh as much as each
other in every block, whatever share of the traffic they had: so a load that comes to both at once
cancels out. Clips grow in number, and bounds hold at every look.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

from service.canary.observations import Block, Counts, Live, LiveSide, Scores
from service.canary.policy import CheckName, Policy
from service.canary.statistics import (
    Estimate,
    Places,
    Sums,
    draw,
    effective,
    quantile_ratio,
    rate_difference,
    standardised,
    weights,
)
from service.canary.verdict import Check, Outcome, Source
from service.canary.weighing import Question, non_inferior, too_few

FEWEST_BLOCKS = 5
"""Blocks of time below which nothing is said of how others would differ."""
QUANTILES = {CheckName.P50: 0.5, CheckName.P95: 0.95}


def live_checks(live: Live, policy: Policy, weight: int) -> Iterator[tuple[CheckName, Check]]:
    """Give every check of live traffic."""
    times = sorted(
        {block.start_s for side in (live.baseline, live.candidate) for block in side.blocks}
    )
    sides = [
        _by_time(side.blocks, times, live.edges.size) for side in (live.baseline, live.candidate)
    ]
    requests = _Common.of(*(side.requests for side in sides))
    answered = _Common.of(*(side.seconds.sum(axis=1) for side in sides))

    def question(name: CheckName, what: str, common: _Common, *, ratio: bool) -> Question:
        return Question(
            name=name,
            source=Source.LIVE,
            what=what,
            margin=policy.checks[name].margin,
            samples=common.samples,
            needed=policy.needed(name, weight),
            false_pass=policy.false_pass,
            alpha=policy.share_of_alpha,
            share=common.samples / policy.planned.live,
            ratio=ratio,
            other="the baseline",
        )

    def judged(asked: Question, common: _Common, estimate: Callable[[], Estimate]) -> Check:
        few = too_few(asked) or _too_short(asked, common.blocks.size)
        return few or non_inferior(asked, estimate())

    yield CheckName.RESTARTS, _restarts(live, policy)
    asked = question(
        CheckName.ERROR_RATE, "share of clips that were not answered", requests, ratio=False
    )
    errors = (side.errors[requests.blocks] for side in sides)
    yield (
        CheckName.ERROR_RATE,
        judged(asked, requests, partial(rate_difference, *requests.counts, *errors)),
    )

    @cache
    def drawn() -> tuple[Sums, Sums]:
        weighed = weights(answered.blocks.size, policy.resamples, policy.seed)
        before, after = (
            draw(weighs[:, None] * side.seconds[answered.blocks], weighed)
            for side, weighs in zip(sides, answered.weighs, strict=True)
        )
        return before, after

    def ratio(share: float) -> Estimate:
        return quantile_ratio(*drawn(), live.edges, share)

    for name, share in QUANTILES.items():
        asked = question(name, f"{name} of latency", answered, ratio=True)
        yield name, judged(asked, answered, partial(ratio, share))


@dataclass(frozen=True, slots=True)
class _Side:
    """A side by blocks of time: [times], and histograms [times, bins]."""

    requests: Counts
    errors: Counts
    seconds: Counts


@dataclass(frozen=True, slots=True)
class _Common:
    """Blocks in which both sides have something, and what it weighs there."""

    blocks: Places
    """Their places among all."""
    counts: tuple[Counts, Counts]
    """Of both sides, [blocks] each."""
    weighs: tuple[Scores, Scores]
    """What each of that weighs, as `standardised` has it."""
    samples: int
    """What it comes to, of the side that has less."""

    @classmethod
    def of(cls, baseline: Counts, candidate: Counts) -> _Common:
        """Find them of both sides' counts, [times] each."""
        blocks = np.flatnonzero((baseline > 0) & (candidate > 0))
        counts = baseline[blocks], candidate[blocks]
        weighs = standardised(*counts)
        samples = min(effective(*each) for each in zip(counts, weighs, strict=True))
        return cls(blocks, counts, weighs, round(samples))


def _by_time(blocks: Sequence[Block], times: Sequence[float], bins: int) -> _Side:
    """Sum what all pods of a side counted."""
    place = {time: index for index, time in enumerate(times)}
    requests, errors = np.zeros(len(times), np.int64), np.zeros(len(times), np.int64)
    seconds = np.zeros((len(times), bins), np.int64)
    for block in blocks:
        at = place[block.start_s]
        requests[at] += block.requests
        errors[at] += block.errors
        seconds[at] += block.seconds
    return _Side(requests, errors, seconds)


def _too_short(question: Question, blocks: int) -> Check | None:
    if blocks >= FEWEST_BLOCKS:
        return None
    return question.said(
        Outcome.INCONCLUSIVE,
        f"Live traffic is judged from {FEWEST_BLOCKS} blocks of time on; now there are {blocks}.",
    )


def _restarts(live: Live, policy: Policy) -> Check:
    """Count ends; a candidate may have as many as the baseline, or as the policy allows.

    A server that ended either started again or is down.
    """
    name = CheckName.RESTARTS
    allowed = policy.checks[name].margin
    ours, theirs = (side.restarts + side.down for side in (live.candidate, live.baseline))
    fails = ours > allowed and ours > theirs
    return Check(
        name=name,
        source=Source.LIVE,
        outcome=Outcome.FAIL if fails else Outcome.PASS,
        reason=f"The candidate's servers started again {_ends(live.candidate)}, the baseline's "
        f"{_ends(live.baseline)}; {allowed:g} are allowed, or as many as the baseline's.",
        unit="restarts",
        effect=ours - theirs,
        margin=allowed,
        samples=1,
        needed=1,
    )


def _ends(side: LiveSide) -> str:
    again = "once" if side.restarts == 1 else f"{side.restarts} times"
    if not side.down:
        return again
    return f"{again} and {side.down} {'is' if side.down == 1 else 'are'} down"
