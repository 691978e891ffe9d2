"""What trials answered → how good each recipe is, and how much better than the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from training.evaluation import figures
from training.evaluation.answers import Answers, figure
from training.evaluation.facts import Figure, Number

MEASURES = {"accuracy": figures.accuracy, "macro_f1": figures.macro_f1}


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Fold(_Facts):
    """A recipe on clips that its trials did not train on."""

    clips: int
    accuracy: tuple[Number, ...]
    """Of each seed."""
    macro_f1: tuple[Number, ...]
    """Of each seed, over the labels that the clips have."""


class Recipe(_Facts):
    """A recipe over all folds."""

    folds: dict[str, Fold]
    accuracy: Figure
    """Mean of the folds' means over seeds; the interval is over speakers, not over seeds."""
    macro_f1: Figure
    """Likewise."""
    gained: dict[str, Figure] | None
    """By measure, the difference to the first recipe on the same resamples of the same clips; none
    for the first."""
    train_s: float
    """Seconds that the trainings took, together; of one that was resumed, its last part."""


class Comparison(_Facts):
    """What `comparison.json` says."""

    recipes: dict[str, Recipe]
    """In the order in which they were named."""
    resamples: int


@dataclass(frozen=True, slots=True)
class Answered:
    """What one trial said of the clips that it is judged by."""

    recipe: str
    fold: str
    answers: Answers
    train_s: float


@dataclass(frozen=True, slots=True)
class _Measured:
    """A recipe's figures by fold: of each seed, and of each resample as the seeds' mean."""

    clips: dict[str, int]
    seeds: dict[str, dict[str, NDArray[np.float64]]]
    """measure → fold → [seeds]."""
    resampled: dict[str, dict[str, NDArray[np.float64]]]
    """measure → fold → [resamples]."""

    def mean(self, measure: str) -> float:
        return float(np.mean([values.mean() for values in self.seeds[measure].values()]))

    def resampled_mean(self, measure: str) -> NDArray[np.float64]:
        mean: NDArray[np.float64] = np.mean(list(self.resampled[measure].values()), axis=0)
        return mean


def compare(trials: Sequence[Answered]) -> Comparison:
    """Make the figures; every recipe has the same folds, and each of them as many trials."""
    recipes: dict[str, list[Answered]] = {}
    for trial in trials:
        recipes.setdefault(trial.recipe, []).append(trial)
    measured = {name: _measured(own) for name, own in recipes.items()}
    first = next(iter(measured.values()))
    return Comparison(
        recipes={
            name: Recipe(
                folds={
                    fold: Fold(
                        clips=clips,
                        accuracy=tuple(found.seeds["accuracy"][fold].tolist()),
                        macro_f1=tuple(found.seeds["macro_f1"][fold].tolist()),
                    )
                    for fold, clips in found.clips.items()
                },
                accuracy=figure(found.mean("accuracy"), found.resampled_mean("accuracy")),
                macro_f1=figure(found.mean("macro_f1"), found.resampled_mean("macro_f1")),
                gained=None if found is first else _gained(found, first),
                train_s=sum(trial.train_s for trial in recipes[name]),
            )
            for name, found in measured.items()
        },
        resamples=trials[0].answers.resamples,
    )


def _measured(trials: Sequence[Answered]) -> _Measured:
    folds: dict[str, list[Answers]] = {}
    for trial in trials:
        folds.setdefault(trial.fold, []).append(trial.answers)
    return _Measured(
        clips={fold: len(answers[0].scores) for fold, answers in folds.items()},
        seeds={
            name: {
                fold: np.array([float(measure(given.counts)) for given in answers])
                for fold, answers in folds.items()
            }
            for name, measure in MEASURES.items()
        },
        resampled={
            name: {
                fold: np.mean([measure(given.resampled) for given in answers], axis=0)
                for fold, answers in folds.items()
            }
            for name, measure in MEASURES.items()
        },
    )


def _gained(ours: _Measured, first: _Measured) -> dict[str, Figure]:
    """The clips are the same and resampled alike, so differences are of pairs."""
    return {
        name: figure(
            ours.mean(name) - first.mean(name),
            ours.resampled_mean(name) - first.resampled_mean(name),
        )
        for name in MEASURES
    }
