"""What lets a reduced precision in: what it costs against fp32 on the same clips, and the limits.

The limits hold for what was measured; the interval beside it says how far other speakers could
move it.
"""

from __future__ import annotations

import math

import numpy as np

from service.bundle import GateFacts, Lost
from training.evaluation import figures
from training.evaluation.answers import Answers
from training.evaluation.facts import DIGITS
from training.evaluation.intervals import interval

MAX_LOST = 0.005
"""The most that macro-F1 may fall."""
MIN_AGREEMENT = 0.98
"""Share of the clips that must keep fp32's label."""
PARITY_DIGITS = 6


class RefusedError(Exception):
    """A precision that did not pass; the message has the figures and the limits."""


def weigh(split: str, reference: Answers, reduced: Answers, parity: float) -> GateFacts:
    """Compare two precisions' answers to the same clips, each at its own temperature.

    Args:
        split: what the clips are called.
        reference: fp32's answers.
        reduced: the other's, to the same clips with the same resamples and seed, so that both are
            drawn alike and the interval of the loss is paired.
        parity: as `paired.measure` gives it.
    """
    value = figures.macro_f1(reference.counts) - figures.macro_f1(reduced.counts)
    resampled = figures.macro_f1(reference.resampled) - figures.macro_f1(reduced.resampled)
    low, high = interval(resampled)
    # Rounded before anybody judges them: what is printed is what was judged.
    return GateFacts(
        split=split,
        clips=len(reference.scores),
        macro_f1_lost=Lost(
            value=round(float(value), DIGITS), low=round(low, DIGITS), high=round(high, DIGITS)
        ),
        agreement=round(float(np.mean(reference.guesses == reduced.guesses)), DIGITS),
        # A bound: rounding must not make it smaller than what was seen.
        parity=math.ceil(parity * 10**PARITY_DIGITS) / 10**PARITY_DIGITS,
    )


def objections(facts: GateFacts) -> list[str]:
    """What speaks against a precision, a sentence each; none lets it in."""
    found = []
    if facts.macro_f1_lost.value > MAX_LOST:
        found.append(
            f"Macro-F1 falls by {100 * facts.macro_f1_lost.value:.2f} points; "
            f"at most {100 * MAX_LOST:g} are let in."
        )
    if facts.agreement < MIN_AGREEMENT:
        found.append(
            f"{100 * facts.agreement:.2f}% of the clips keep fp32's label; "
            f"at least {100 * MIN_AGREEMENT:g}% must."
        )
    return found


def told(facts: GateFacts) -> str:
    """Say the figures in one line."""
    lost = facts.macro_f1_lost
    return (
        f"{facts.split}, {facts.clips} clips: macro-F1 lost {100 * lost.value:.2f} points "
        f"({100 * lost.low:.2f} to {100 * lost.high:.2f}), "
        f"{100 * facts.agreement:.2f}% of the labels kept, parity {facts.parity:g}"
    )
