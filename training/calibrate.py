"""The temperature that makes a clip's served score mean what it says (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from training.evaluate import Scored, calibration

BOUNDS = (0.05, 20.0)
"""Temperatures looked at."""


def fit(clips: Sequence[Scored]) -> float:
    """The temperature of least negative log likelihood, on the pooled score and not a window's."""
    spoken = [clip for clip in clips if clip.spoken]

    def loss(log_temperature: float) -> float:
        temperature = float(np.exp(log_temperature))
        picked = [clip.probabilities(temperature)[clip.truth] for clip in spoken]
        return float(-np.log(np.maximum(picked, 1e-12)).mean())

    found = minimize_scalar(loss, bounds=np.log(BOUNDS), method="bounded")
    return round(float(np.exp(found.x)), 4)


def cross_fitted(clips: Sequence[Scored]) -> dict[str, float] | None:
    """NLL and ECE where each speaker's temperature was fitted on all the others; None for one."""
    spoken = [clip for clip in clips if clip.spoken]
    speakers = sorted({clip.recording.speaker for clip in spoken})
    if len(speakers) == 1:
        return None
    truth, probabilities = [], []
    for speaker in speakers:
        temperature = fit([clip for clip in spoken if clip.recording.speaker != speaker])
        for clip in spoken:
            if clip.recording.speaker == speaker:
                truth.append(clip.truth)
                probabilities.append(clip.probabilities(temperature))
    return calibration(np.array(truth), np.array(probabilities))
