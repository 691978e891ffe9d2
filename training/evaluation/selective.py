"""Which answers may be accepted without review: the risk of those that are, and a threshold for it.

Selective risk is the share of accepted clips that are wrong, coverage the share of clips that are
accepted (El-Yaniv and Wiener 2010). A threshold is good when its risk stays within the target even
at the upper end of the interval over speakers: a point estimate would break its promise for every
second set of new speakers.

Many thresholds are looked at, and the luckiest of many bad ones can look good. So they are tested
in an order fixed beforehand, from the strictest down, and the first failure ends it: then a bad
threshold is chosen no more often than a single test lets it pass (fixed-sequence testing, as in
Learn then Test, Angelopoulos et al. 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

GRID = np.round(np.arange(0, 1, 0.01), 2)
"""Thresholds looked at: two digits are as many as an operator remembers."""
FALLBACK = 0.75
"""The threshold where none keeps the target."""
MIN_ACCEPTED = 50
"""Fewer accepted clips than this show nothing, whatever their bootstrap says; see `fewest`."""
CONFIDENCE = 0.95
"""With which the risk at the chosen threshold is within the target."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A threshold, and the bound on its risk that it was chosen by (None: the fallback)."""

    threshold: float
    risk_bound: float | None


def accepted(
    probabilities: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether each clip is accepted at each threshold, [clips, thresholds]; no speech: never."""
    confidence = np.nan_to_num(probabilities.max(axis=1), nan=-1.0)
    taken: NDArray[np.bool_] = confidence[:, None] >= thresholds
    return taken


def risk(
    wrong: NDArray[np.bool_], taken: NDArray[np.bool_], weights: NDArray[np.int64] | None = None
) -> NDArray[np.float64]:
    """Share of wrong clips among those taken, by threshold; NaN where none is.

    Args:
        wrong: [clips].
        taken: [clips, thresholds].
        weights: how often each clip counts, [resamples, clips]; without them once.

    Returns:
        [thresholds], or [resamples, thresholds].
    """
    if weights is None:
        weights = np.ones(len(wrong), np.int64)
    # Of floats, which BLAS multiplies; counts stay exact in them.
    kept = taken.astype(np.float64)
    among = weights @ kept
    wrongly = weights @ (kept * wrong[:, None])
    nothing = np.full(among.shape, np.nan)
    shares: NDArray[np.float64] = np.divide(wrongly, among, out=nothing, where=among > 0)
    return shares


def fewest(target: float) -> int:
    """How many clips the first threshold that is tested must accept, to show a risk of `target`.

    A bootstrap of clips that are all right has no width. So there are as many as would be all right
    by luck, at that risk, no more often than `CONFIDENCE` allows.
    """
    return max(MIN_ACCEPTED, math.ceil(math.log(1 - CONFIDENCE) / math.log1p(-target)))


def choose(
    wrong: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    weights: NDArray[np.int64],
    target: float,
) -> Choice:
    """The last threshold, from the strictest down, before one's risk isn't surely within `target`.

    Surely is with `CONFIDENCE`. `FALLBACK` where the strictest fails, or none accepts the `fewest`
    clips.

    Args:
        wrong: whether each clip's best label is wrong, [clips].
        probabilities: [clips, labels], each speaker's at a temperature fitted on the others.
        weights: how often each clip is in each resample, [resamples, clips].
        target: selective risk, 0 to 1.
    """
    taken = accepted(probabilities, GRID)
    resampled = risk(wrong, taken, weights)
    choice = Choice(FALLBACK, None)
    for column in reversed(np.flatnonzero(taken.sum(axis=0) >= fewest(target))):
        bound = float(np.nanquantile(resampled[:, column], CONFIDENCE))
        if bound > target:
            break
        choice = Choice(float(GRID[column]), bound)
    return choice
