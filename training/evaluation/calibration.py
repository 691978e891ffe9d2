"""Whether a served score means what it says, and the temperature that makes it so.

A temperature is fitted on the pooled score of a clip and not on a window's, because that is the
score that is served (Guo et al. 2017). Figures of the clips a temperature was fitted on flatter, so
each has a cross-fitted twin: every speaker scored at the temperature of all the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from training.evaluation.scores import Scores

BOUNDS = (0.05, 20.0)
"""Temperatures looked at."""
BINS = 10
NULL_LEVEL = 0.95
"""A calibrated model's ECE is below this quantile of its null that often."""
_LEAST_PROBABILITY = 1e-12
"""A truth given less than this counts as this much: one clip must not decide the mean alone."""


def log_loss(truth: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Negative log likelihood of each clip's truth, in nats, [clips]."""
    picked = probabilities[np.arange(len(truth)), truth]
    losses: NDArray[np.float64] = -np.log(np.maximum(picked, _LEAST_PROBABILITY))
    return losses


def squared_distance(
    truth: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Squared distance of each clip's probabilities to its truth, 0 to 2, [clips] (Brier 1950)."""
    certain = np.eye(probabilities.shape[1])[truth]
    distances: NDArray[np.float64] = np.square(probabilities - certain).sum(axis=1)
    return distances


def nll(truth: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Mean negative log likelihood, in nats."""
    return float(log_loss(truth, probabilities).mean())


def brier(truth: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Mean Brier score over all labels, 0 to 2."""
    return float(squared_distance(truth, probabilities).mean())


def ece(truth: NDArray[np.int64], probabilities: NDArray[np.float64]) -> float:
    """Expected calibration error of the best label's score, in `BINS` bins of equal mass.

    The mean distance of a bin's confidence to its accuracy, weighted by the bin's clips (Nixon et
    al. 2019 call the bins adaptive). It is never 0 on few clips: see `null`.
    """
    confidence, right = _best(truth, probabilities)
    return float(_error(confidence, right[None])[0])


def null(probabilities: NDArray[np.float64], draws: int, seed: int) -> tuple[float, float]:
    """ECE of a perfectly calibrated model with these scores: its mean and `NULL_LEVEL` quantile.

    Whether the best label is right is drawn from its own score, so that nothing but chance is left.

    Args:
        probabilities: [clips, labels].
        draws: simulated sets of labels.
        seed: the same gives the same.
    """
    confidence = np.sort(probabilities.max(axis=1))
    rng = np.random.default_rng(seed)
    right = rng.random((draws, len(confidence))) < confidence
    errors = _error(confidence, right)
    return float(errors.mean()), float(np.quantile(errors, NULL_LEVEL))


def reliability(
    truth: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> list[tuple[float, float, int]]:
    """Mean confidence, accuracy and clips of each of the ECE's bins that has any."""
    confidence, right = _best(truth, probabilities)
    return [
        (float(confidence[members].mean()), float(right[members].mean()), int(members.size))
        for members in _bins(len(truth))
        if members.size
    ]


def fit(scores: Scores) -> float:
    """The temperature of least negative log likelihood; clips without speech don't count."""
    spoken = scores.where(scores.spoken)

    def loss(log_temperature: float) -> float:
        return nll(spoken.truth, spoken.probabilities(float(np.exp(log_temperature))))

    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded")
    return round(float(np.exp(found.x)), 4)


def cross_fitted(scores: Scores) -> NDArray[np.float64] | None:
    """Each clip's score at the temperature of all other speakers, [clips, labels].

    NaN without speech; None when a speaker's own clips are all there are to fit on.
    """
    speaking = set(scores.speakers[scores.spoken].tolist())
    if len(speaking) < 2:  # noqa: PLR2004 - one to score, another to fit on
        return None
    probabilities = np.full((len(scores), scores.logits.shape[1]), np.nan)
    for speaker in sorted(speaking):
        own = scores.speakers == speaker
        probabilities[own] = scores.where(own).probabilities(fit(scores.where(~own)))
    return probabilities


def _best(
    truth: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Confidence in rising order, and whether the best label is right, both [clips]."""
    confidence = probabilities.max(axis=1)
    order = np.argsort(confidence, kind="stable")
    return confidence[order], (probabilities.argmax(axis=1) == truth)[order]


def _bins(clips: int) -> list[NDArray[np.int64]]:
    return np.array_split(np.arange(clips), BINS)


def _error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """ECE of each row of `right` [rows, clips], whose columns have rising `confidence` [clips]."""
    gaps = [
        np.abs((confidence[members] - right[:, members]).sum(axis=1))
        for members in _bins(len(confidence))
    ]
    errors: NDArray[np.float64] = np.sum(gaps, axis=0) / len(confidence)
    return errors
