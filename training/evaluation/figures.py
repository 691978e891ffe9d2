"""Accuracy, precision, recall, F1 and their means, from counts of truth and guess.

Every function takes confusion counts [..., labels, labels + 1], whose last column is clips without
speech, so that thousands of resampled sets are one call. A clip without speech counts as wrong.
Means over labels are over those that a set has: a corpus without `neutral` isn't blamed for it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]


def confusion(
    truth: NDArray[np.int64],
    guesses: NDArray[np.int64],
    labels: int,
    weights: NDArray[np.int64] | None = None,
) -> Counts:
    """Count clips by truth (row) and guess (column; -1, no speech, is the last).

    Args:
        truth: [clips].
        guesses: [clips].
        labels: how many there are.
        weights: how often each clip counts, [resamples, clips]; without them once.

    Returns:
        [labels, labels + 1], or [resamples, labels, labels + 1].
    """
    columns = labels + 1
    cells = truth * columns + guesses % columns
    if weights is None:
        counted = np.bincount(cells, minlength=labels * columns).astype(np.float64)
        return counted.reshape(labels, columns)
    of_cell = np.zeros((len(truth), labels * columns))
    of_cell[np.arange(len(truth)), cells] = 1
    resampled: Counts = (weights @ of_cell).reshape(-1, labels, columns)
    return resampled


def accuracy(counts: Counts) -> NDArray[np.float64]:
    """Share of the clips that are right."""
    return _ratio(_right(counts).sum(axis=-1), counts.sum(axis=(-2, -1)))


def recall(counts: Counts) -> NDArray[np.float64]:
    """By label, the share of its clips that are right; NaN for a label the set hasn't."""
    clips = counts.sum(axis=-1)
    return np.where(clips > 0, _ratio(_right(counts), clips), np.nan)


def precision(counts: Counts) -> NDArray[np.float64]:
    """By label, the share of clips it was given to that are right; 0 if it was given to none."""
    return _ratio(_right(counts), counts.sum(axis=-2)[..., :-1])


def f1(counts: Counts) -> NDArray[np.float64]:
    """By label, the harmonic mean of precision and recall; NaN for a label the set hasn't."""
    clips, given = counts.sum(axis=-1), counts.sum(axis=-2)[..., :-1]
    return np.where(clips > 0, _ratio(2 * _right(counts), clips + given), np.nan)


def macro_f1(counts: Counts) -> NDArray[np.float64]:
    """Mean F1 of the labels the set has."""
    return _mean(f1(counts))


def uar(counts: Counts) -> NDArray[np.float64]:
    """Unweighted average recall: mean over the labels the set has, whatever their share."""
    return _mean(recall(counts))


def _right(counts: Counts) -> Counts:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _ratio(part: Counts, whole: Counts) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)


def _mean(by_label: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis without NaN; NaN where all are."""
    there = ~np.isnan(by_label)
    return np.where(
        there.any(axis=-1),
        _ratio(np.where(there, by_label, 0).sum(axis=-1), there.sum(axis=-1).astype(np.float64)),
        np.nan,
    )
