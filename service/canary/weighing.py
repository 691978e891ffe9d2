"""From an estimate to a check: what its bounds decide, and the sentence that says so. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass

from service.canary.statistics import Estimate, fixed, minimum_detectable_effect, sequential
from service.canary.verdict import Check, Outcome, Source

POWER = 0.95
"""Chance to find what a sentence calls findable."""
PLAIN_FROM = 10
"""Figures from here on need no second digit."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a check asks: of what figure, how much is allowed, and what chance may do."""

    name: str
    source: Source
    what: str
    """The figure, as a sentence names it."""
    margin: float
    samples: int
    needed: int
    false_pass: float
    alpha: float = 0.0
    """One-sided chance of a wrong fail; 0 for what can't fail."""
    share: float | None = None
    """Of the planned size, for data that is looked at again while it grows; None for one look."""
    ratio: bool = False
    """Whether the estimate is a logarithm of a ratio, rather than a difference of shares."""
    more_is_better: bool = False
    other: str = "stable"

    @property
    def unit(self) -> str:
        """As `Check` has it."""
        return "ratio" if self.ratio else "share"

    def critical(self, alpha: float, degrees: float) -> float:
        """Standard errors from an estimate to its one-sided bound."""
        if self.share is None:
            return fixed(alpha, degrees)
        return sequential(alpha, self.share, degrees)

    def said(
        self,
        outcome: Outcome,
        reason: str,
        effect: float | None = None,
        interval: tuple[float | None, float | None] = (None, None),
    ) -> Check:
        """Make the check."""
        return Check(
            name=self.name,
            source=self.source,
            outcome=outcome,
            reason=reason,
            unit=self.unit,
            effect=effect,
            low=interval[0],
            high=interval[1],
            margin=self.margin,
            samples=self.samples,
            needed=self.needed,
        )


def missing(name: str, source: Source, remedy: str) -> Check:
    """The check of a source that wasn't asked."""
    return Check(name, source, Outcome.INCONCLUSIVE, remedy)


def too_few(question: Question) -> Check | None:
    """The check of too small a sample, if it is one."""
    if question.samples >= question.needed:
        return None
    return question.said(
        Outcome.INCONCLUSIVE,
        f"{_capital(question.what)} is judged from {question.needed:,} clips on; so far there are "
        f"{question.samples:,}.",
    )


def non_inferior(question: Question, estimate: Estimate) -> Check:
    """Pass what is surely within the margin, fail what is surely worse and beyond it.

    The two ends of the interval are the bounds that the two decisions read, each at its own level:
    towards worse it is exceeded with chance `false_pass`, towards better with chance `alpha`.
    """
    worse = -1 if question.more_is_better else 1
    allowed = math.log1p(question.margin) if question.ratio else question.margin
    harm = worse * estimate.value
    reach = {
        level: estimate.reach(question.critical(level, estimate.degrees), level)
        for level in (question.alpha, question.false_pass)
    }
    least, most = harm - reach[question.alpha], harm + reach[question.false_pass]
    if most < allowed:
        outcome = Outcome.PASS
    elif least > 0 and harm > allowed:
        outcome = Outcome.FAIL
    else:
        outcome = Outcome.INCONCLUSIVE
    low, high = sorted((worse * least, worse * most))
    reason = (
        f"The candidate's {question.what} is {_beside(estimate.value, question)} "
        f"({_signed(low, question)} to {_signed(high, question)}); at most "
        f"{_amount(allowed, question)} {'less' if worse < 0 else 'more'} is allowed"
    )
    if outcome is Outcome.INCONCLUSIVE:
        critical = question.critical(question.alpha, estimate.degrees)
        found = minimum_detectable_effect(estimate.error, critical, POWER)
        reason += (
            f", which {question.samples:,} clips don't decide: "
            f"they would show {_amount(max(found, allowed), question)}"
        )
    return question.said(
        outcome,
        f"{reason}.",
        _plain(estimate.value, question),
        (_plain(low, question), _plain(high, question)),
    )


def bounds(question: Question, estimate: Estimate) -> tuple[float, float]:
    """Both ends at the level of passing, for what has no better and worse."""
    critical = question.critical(question.false_pass, estimate.degrees)
    reach = estimate.reach(critical, question.false_pass)
    return estimate.value - reach, estimate.value + reach


def points(value: float) -> str:
    """Write a share as percentage points."""
    return f"{_figure(abs(100 * value))} points"


def signed_points(value: float) -> str:
    """Write a share as percentage points with its sign."""
    return f"{'−' if value < 0 else ''}{_figure(abs(100 * value))}"


def _plain(value: float, question: Question) -> float:
    return math.exp(value) if question.ratio else value


def _amount(size: float, question: Question) -> str:
    return f"{_figure(100 * math.expm1(size))}%" if question.ratio else points(size)


def _signed(value: float, question: Question) -> str:
    if not question.ratio:
        return signed_points(value)
    change = math.expm1(value)
    return f"{'−' if change < 0 else ''}{_figure(abs(100 * change))}%"


def _beside(value: float, question: Question) -> str:
    if value == 0:
        return f"{question.other}'s"
    size = abs(math.expm1(value)) if question.ratio else abs(value)
    amount = f"{_figure(100 * size)}%" if question.ratio else points(size)
    return f"{amount} {'above' if value > 0 else 'below'} {question.other}'s"


def _figure(value: float) -> str:
    return f"{value:.0f}" if value >= PLAIN_FROM else f"{value:.2g}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
