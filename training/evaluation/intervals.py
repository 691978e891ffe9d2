"""How far a figure would move with other speakers: a bootstrap over speakers within corpora.

Clips of one speaker resemble each other, so drawing clips alone would pretend to more evidence than
there is. A resample keeps each corpus, draws its speakers with replacement, and then draws each
drawn speaker's clips with replacement (the two-stage bootstrap of Davison and Hinkley 1997, §3.8).
A corpus of one speaker so varies by its clips only: what another speaker would change is not in its
interval. With two to four speakers the second stage makes up for what the first underestimates;
docs/evaluation.md has the coverage measured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95


def resample(
    corpora: NDArray[np.str_],
    speakers: NDArray[np.str_],
    names: NDArray[np.str_],
    resamples: int,
    seed: int,
) -> NDArray[np.int64]:
    """How often each row is in each resample, [resamples, rows].

    Args:
        corpora: of each row, [rows].
        speakers: of each row, [rows]; the same one in two corpora is two.
        names: of each row's clip, [rows]; a clip in several noises is drawn with all its rows.
        resamples: how many.
        seed: the same gives the same.
    """
    rng = np.random.default_rng(seed)
    weights = np.zeros((resamples, len(corpora)), np.int64)
    for corpus in np.unique(corpora):
        inside = corpora == corpus
        members = np.unique(speakers[inside])
        drawn = rng.multinomial(
            len(members), np.full(len(members), 1 / len(members)), size=resamples
        )
        for number, speaker in enumerate(members):
            rows = np.flatnonzero(inside & (speakers == speaker))
            clips, row_clip = np.unique(names[rows], return_inverse=True)
            times = rng.multinomial(
                drawn[:, number] * len(clips), np.full(len(clips), 1 / len(clips))
            )
            weights[:, rows] = times[:, row_clip]
    return weights


def interval(resampled: NDArray[np.float64]) -> tuple[float, float]:
    """The middle `LEVEL` of a figure's resampled values, [resamples]."""
    low, high = np.nanquantile(resampled, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
