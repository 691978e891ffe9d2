"""Scores → all figures of a bundle, without the model: see facts.py for what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training import config
from training.config import ConfigError
from training.evaluation import calibration, confounds, modules, noise, selective
from training.evaluation.answers import (
    Answers,
    by_class,
    confusion,
    corpora_mean,
    figure,
    headline,
)
from training.evaluation.facts import (
    Accepted,
    Bin,
    Calibration,
    Curve,
    Evaluation,
    Selection,
    SetFigures,
    Threshold,
)
from training.evaluation.scores import Scores, reference
from training.recording import LABELS

TRAIN_SAMPLE = "train-sample"
"""The set of clips of training speakers: how much of what was learned is its speakers."""
TEST = "test"
"""The set that no choice may look at, and so no probe either."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured, and what the measured weights are called."""

    name: str
    version: str
    precision: str
    architecture: str
    """As transformers names the type of model."""
    parameters: int
    fitted_on: str
    """The set that temperature and threshold are fitted on."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One set by itself: the calibration fitted on it, and its figures at that."""

    temperature: float
    threshold: Threshold
    figures: SetFigures


def judge(scores: Scores, settings: config.Evaluation) -> Judged:
    """Fit temperature and threshold on a set and make its figures, as `assess` does.

    Raises:
        ConfigError: no speech was found in it.
    """
    _need_speech("these recordings", scores)
    temperature, crossed, threshold = _calibrated(scores, settings)
    answers = _answers(scores, scores.probabilities(temperature), settings)
    figures = _set_figures(answers, threshold.value, settings, crossed)
    return Judged(temperature, threshold, figures)


def assess(
    about: Measured,
    sets: Mapping[str, Scores],
    settings: config.Evaluation,
    noisy: Mapping[str, Scores] | None = None,
) -> Evaluation:
    """Make every figure.

    Args:
        about: what was measured.
        sets: scores by set, `about.fitted_on` among them.
        settings: target risk, resamples and seed.
        noisy: scores of the clips of `about.fitted_on` in noise, as `noise.measure` gives them.

    Raises:
        ConfigError: no speech was found in a whole set, so that there is nothing to judge.
    """
    for name, scores in sets.items():
        _need_speech(name, scores)
    # As the report shows them: first what was chosen by, last what was trained on.
    order = {about.fitted_on: 0, TRAIN_SAMPLE: 2}
    sets = {name: sets[name] for name in sorted(sets, key=lambda name: (order.get(name, 1), name))}
    fitted = sets[about.fitted_on]
    temperature, crossed, threshold = _calibrated(fitted, settings)
    served = {
        name: _answers(scores, scores.probabilities(temperature), settings)
        for name, scores in sets.items()
    }
    return Evaluation(
        name=about.name,
        version=about.version,
        precision=about.precision,
        architecture=about.architecture,
        parameters=about.parameters,
        labels=LABELS,
        temperature=temperature,
        fitted_on=about.fitted_on,
        threshold=threshold,
        sets={
            name: _set_figures(
                answers,
                threshold.value,
                settings,
                crossed if name == about.fitted_on else None,
            )
            for name, answers in served.items()
        },
        confounds={name: confounds.confounds(answers) for name, answers in served.items()},
        probe=confounds.probe([scores for name, scores in sets.items() if name != TEST]),
        noise=noise.figures(
            about.fitted_on,
            served[about.fitted_on],
            {
                name: _answers(scores, scores.probabilities(temperature), settings)
                for name, scores in noisy.items()
            },
            lambda answers: accepted(answers, threshold.value),
        )
        if noisy
        else None,
        reference=reference(about.fitted_on, fitted, temperature),
        resamples=settings.resamples,
    )


def _need_speech(name: str, scores: Scores) -> None:
    if not scores.spoken.any():
        raise ConfigError(f"No speech was found in any clip of {name}; look at the recordings.")


def _calibrated(
    fitted: Scores, settings: config.Evaluation
) -> tuple[float, NDArray[np.float64] | None, Threshold]:
    """Temperature, cross-fitted probabilities and threshold of the set they are fitted on."""
    crossed = calibration.cross_fitted(fitted)
    return calibration.fit(fitted), crossed, _threshold(fitted, crossed, settings)


def _answers(
    scores: Scores, probabilities: NDArray[np.float64], settings: config.Evaluation
) -> Answers:
    return Answers(scores, probabilities, settings.resamples, settings.seed)


def _set_figures(
    answers: Answers,
    threshold: float,
    settings: config.Evaluation,
    crossed: NDArray[np.float64] | None,
) -> SetFigures:
    scores = answers.scores
    uncalibrated = _answers(scores, scores.probabilities(1.0), settings)
    present = answers.present
    return SetFigures(
        labels=tuple(LABELS[label] for label in present),
        speakers=len(np.unique(scores.speakers)),
        pooled=headline(answers),
        corpora_mean=corpora_mean(answers),
        by_corpus={name: headline(some) for name, some in answers.by(scores.corpora).items()},
        by_speaker={name: headline(some) for name, some in answers.by(scores.speakers).items()},
        by_class=by_class(answers),
        confusion=confusion(answers),
        masked=headline(answers.masked()) if len(present) < len(LABELS) else None,
        uncalibrated=_calibration(uncalibrated),
        served=_calibration(answers),
        cross_fitted=None if crossed is None else _calibration(_answers(scores, crossed, settings)),
        selection=Selection(
            all=accepted(answers, threshold),
            by_corpus={
                name: accepted(some, threshold) for name, some in answers.by(scores.corpora).items()
            },
            fallback=accepted(answers, selective.FALLBACK),
            curve=_curve(answers),
        ),
    )


def _calibration(answers: Answers) -> Calibration:
    spoken = answers.where(answers.scores.spoken)
    truth, probabilities = spoken.scores.truth, spoken.probabilities
    found = modules.of_probabilities().compute(predictions=probabilities, references=truth)
    mean, quantile = calibration.null(probabilities, answers.resamples, answers.seed)
    clips = spoken.weights.sum(axis=1)
    return Calibration(
        nll=figure(
            found["nll"], spoken.weights @ calibration.log_loss(truth, probabilities) / clips
        ),
        brier=figure(
            found["brier"],
            spoken.weights @ calibration.squared_distance(truth, probabilities) / clips,
        ),
        ece=found["ece"],
        ece_null=mean,
        ece_null_95=quantile,
        reliability=tuple(
            Bin(clips=members, confidence=confidence, accuracy=accuracy)
            for confidence, accuracy, members in calibration.reliability(truth, probabilities)
        ),
    )


def accepted(answers: Answers, threshold: float | NDArray[np.float64]) -> Accepted:
    """What is accepted at a threshold, or at one for each clip, [clips], and how much is right."""
    confidence = np.nan_to_num(answers.probabilities.max(axis=1), nan=-1.0)
    taken = (confidence >= threshold)[:, None]
    among = answers.weights @ taken[:, 0]
    coverage = figure(float(taken.mean()), among / answers.weights.sum(axis=1))
    precision = None
    if taken.any():
        right = 1 - selective.risk(answers.wrong, taken, answers.weights)[:, 0]
        precision = figure(1 - float(selective.risk(answers.wrong, taken)[0]), right)
    return Accepted(clips=int(taken.sum()), coverage=coverage, precision=precision)


def _curve(answers: Answers) -> Curve:
    taken = selective.accepted(answers.probabilities, selective.GRID)
    kept = taken.any(axis=0)
    return Curve(
        threshold=tuple(selective.GRID[kept].tolist()),
        coverage=tuple(taken.mean(axis=0)[kept].tolist()),
        risk=tuple(selective.risk(answers.wrong, taken)[kept].tolist()),
    )


def _threshold(
    scores: Scores,
    crossed: NDArray[np.float64] | None,
    settings: config.Evaluation,
) -> Threshold:
    """Choose the review threshold, and see what the same choice is worth on each speaker left out.

    With one speaker nothing is cross-fitted, and no interval knows of other speakers: the fallback.
    """
    if crossed is None:
        return Threshold(
            value=selective.FALLBACK,
            target_risk=settings.selective_risk,
            risk_bound=None,
            cross_fitted=None,
        )
    answers = _answers(scores, crossed, settings)

    def choose(some: Answers) -> selective.Choice:
        return selective.choose(
            some.wrong, some.probabilities, some.weights, settings.selective_risk
        )

    strangers = np.ones(len(scores))
    for speaker in np.unique(scores.speakers):
        own = scores.speakers == speaker
        strangers[own] = choose(answers.where(~own)).threshold
    chosen = choose(answers)
    return Threshold(
        value=chosen.threshold,
        target_risk=settings.selective_risk,
        risk_bound=chosen.risk_bound,
        cross_fitted=accepted(answers, strangers),
    )
