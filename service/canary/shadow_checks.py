"""What clips that both sides answered say: how much changes, not whether for good.

Without labels nothing can fail a candidate: a change within its margin passes, any other is for
people to look at. Pairs grow in number, and bounds hold at every look. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from service.canary.observations import Pairs
from service.canary.policy import CheckName, Policy
from service.canary.statistics import (
    Estimate,
    disagreement,
    discordance_error,
    histogram_mean,
    marginal_homogeneity,
    moves,
    psi,
    psi_null,
    total_variation,
)
from service.canary.verdict import Check, Outcome, Source
from service.canary.weighing import Question, bounds, points, signed_points, too_few
from service.domain import Decision

NAMED = 3
"""Labels that are named at most, those that move most."""


def shadow_checks(pairs: Pairs, policy: Policy, weight: int) -> Iterator[tuple[CheckName, Check]]:
    """Give every check of shadow pairs."""

    def question(name: CheckName, what: str, samples: int) -> Question:
        return Question(
            name=name,
            source=Source.SHADOW,
            what=what,
            margin=policy.checks[name].margin,
            samples=samples,
            needed=policy.needed(name, weight),
            false_pass=policy.false_pass,
            share=samples / policy.planned.shadow,
        )

    clips, decided, scored = (
        int(counts.sum()) for counts in (pairs.table, pairs.decisions, pairs.difference)
    )
    asked = question(CheckName.DISAGREEMENT, "disagreement", clips)
    yield CheckName.DISAGREEMENT, too_few(asked) or _disagreement(asked, pairs)
    asked = question(CheckName.CLASS_PRIOR, "the share of each label", clips)
    yield CheckName.CLASS_PRIOR, too_few(asked) or _class_prior(asked, pairs)
    asked = question(CheckName.CONFIDENCE, "confidence", scored)
    yield CheckName.CONFIDENCE, too_few(asked) or _confidence(asked, pairs)
    asked = question(CheckName.REVIEW_RATE, "the share of clips for review", decided)
    yield CheckName.REVIEW_RATE, too_few(asked) or _review_rate(asked, pairs)


def _within(question: Question, estimates: list[Estimate], said: str) -> Check:
    """Pass if all intervals are within the margin to both sides; the first is told."""
    intervals = [bounds(question, estimate) for estimate in estimates]
    inside = all(max(-low, high) < question.margin for low, high in intervals)
    low, high = intervals[0]
    allowed = f"({signed_points(low)} to {signed_points(high)}); {points(question.margin)} pass"
    unsure = "" if inside else ", and this isn't surely within: look at what changed"
    return question.said(
        Outcome.PASS if inside else Outcome.INCONCLUSIVE,
        f"{said} {allowed}{unsure}.",
        estimates[0].value,
        (low, high),
    )


def _disagreement(question: Question, pairs: Pairs) -> Check:
    estimate = disagreement(pairs.table)
    return _within(
        question,
        [estimate],
        f"The two sides give different labels to {100 * estimate.value:.1f} of 100 clips",
    )


def _class_prior(question: Question, pairs: Pairs) -> Check:
    before, after = pairs.table.sum(axis=1), pairs.table.sum(axis=0)
    found = moves(pairs.table)
    order = sorted(range(len(found)), key=lambda place: -abs(found[place].value))
    names = [pairs.labels[place] or "no speech" for place in order]
    first = found[order[0]].value
    check = _within(
        question,
        [found[place] for place in order],
        f"The candidate says {names[0]} {points(first)} {'less' if first < 0 else 'more'} often",
    )
    others = ", ".join(
        f"{name} by {signed_points(found[place].value)}"
        for name, place in list(zip(names, order, strict=True))[1:NAMED]
    )
    clips = question.samples
    homogeneity = marginal_homogeneity(pairs.table)
    more = (
        f"Next {others}. In all {points(total_variation(before, after))} of clips move; PSI is "
        f"{psi(before, after):.3f}, and {psi_null(before.size, clips, clips):.3f} by chance with "
        f"other clips on each side; Stuart and Maxwell's p = {homogeneity:.2g}."
    )
    return replace(check, reason=f"{check.reason} {more}")


def _confidence(question: Question, pairs: Pairs) -> Check:
    estimate = histogram_mean(pairs.difference, pairs.difference_edges)
    return _within(
        question,
        [estimate],
        f"The candidate's confidence is {points(estimate.value)} "
        f"{'lower' if estimate.value < 0 else 'higher'} on average",
    )


def _review_rate(question: Question, pairs: Pairs) -> Check:
    named = dict(zip(pairs.decision_names, moves(pairs.decisions), strict=True))
    never = Estimate(0.0, discordance_error(0, 0, question.samples), samples=question.samples)
    estimate = named.get(Decision.REVIEW, never)
    return _within(
        question,
        [estimate],
        f"The candidate sends {points(estimate.value)} "
        f"{'fewer' if estimate.value < 0 else 'more'} clips to review",
    )
