"""What live traffic says of a candidate beside a baseline of the same age. Pure.

Both sides are laid out by blocks of time, each with all of a side's pods, so that a load that comes
to both at once cancels out. Clips grow in number, and bounds hold at every look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from service.canary.observations import Block, Counts, Live, LiveSide
from service.canary.policy import CheckName, Policy
from service.canary.statistics import Estimate, draw, quantile_ratio, rate_difference, weights
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
    counted = [
        _by_time(side.blocks, times, live.edges.size) for side in (live.baseline, live.candidate)
    ]

    def question(name: CheckName, what: str, counts: Sequence[Counts], *, ratio: bool) -> Question:
        samples = min(int(side.sum()) for side in counts)
        return Question(
            name=name,
            source=Source.LIVE,
            what=what,
            margin=policy.checks[name].margin,
            samples=samples,
            needed=policy.needed(name, weight),
            false_pass=policy.false_pass,
            alpha=policy.share_of_alpha,
            share=samples / policy.planned.live,
            ratio=ratio,
            other="the baseline",
        )

    def judged(asked: Question, estimate: partial[Estimate]) -> Check:
        return too_few(asked) or _too_short(asked, len(times)) or non_inferior(asked, estimate())

    yield CheckName.RESTARTS, _restarts(live, policy)
    requests, errors, seconds = zip(*counted, strict=True)
    yield (
        CheckName.ERROR_RATE,
        judged(
            question(
                CheckName.ERROR_RATE, "share of clips that were not answered", requests, ratio=False
            ),
            partial(rate_difference, requests[0], requests[1], errors[0], errors[1]),
        ),
    )
    weighed = weights(max(len(times), 1), policy.resamples, policy.seed)
    before, after = (draw(side, weighed) for side in seconds)
    for name, share in QUANTILES.items():
        asked = question(name, f"{name} of latency", seconds, ratio=True)
        estimate = partial(quantile_ratio, before, after, live.edges, share)
        yield name, judged(asked, estimate)


def _by_time(
    blocks: Sequence[Block], times: Sequence[float], bins: int
) -> tuple[Counts, Counts, Counts]:
    """Requests, errors, [times], and histograms, [times, bins], of all pods; one row if no time."""
    place = {time: index for index, time in enumerate(times)}
    size = max(len(times), 1)
    requests, errors = np.zeros(size, np.int64), np.zeros(size, np.int64)
    seconds = np.zeros((size, bins), np.int64)
    for block in blocks:
        at = place[block.start_s]
        requests[at] += block.requests
        errors[at] += block.errors
        seconds[at] += block.seconds
    return requests, errors, seconds


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
