"""The figures as `evaluate` modules: they combine, take batches, and never ask a hub.

`of_labels` and `of_probabilities` are what this project reports, combined; a module from elsewhere
can stand beside them in an `evaluate.combine`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import NDArray

from training.evaluation import calibration, figures
from training.recording import LABELS


class _OfLabels(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """A figure of guessed labels, as indices; -1 is a clip without speech."""

    figure: Callable[[figures.Counts], NDArray[np.float64]]

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        index = datasets.Value("int64")
        return _about(self, datasets.Features(predictions=index, references=index))

    def _compute(self, predictions: list[int], references: list[int]) -> dict[str, float]:
        counts = figures.confusion(np.array(references), np.array(predictions), len(LABELS))
        return {self.name: float(type(self).figure(counts))}


class Accuracy(_OfLabels):
    """Share of the clips that are right."""

    figure = staticmethod(figures.accuracy)


class MacroF1(_OfLabels):
    """Mean F1 of the labels a set has."""

    figure = staticmethod(figures.macro_f1)


class UAR(_OfLabels):
    """Unweighted average recall of the labels a set has."""

    figure = staticmethod(figures.uar)


class _OfProbabilities(evaluate.Metric):  # type: ignore[misc]  # as above
    """A figure of clips' probabilities, a row of them for each clip."""

    figure: Callable[[NDArray[np.int64], NDArray[np.float64]], float]

    def __init__(self) -> None:
        super().__init__(keep_in_memory=True)

    def _info(self) -> evaluate.MetricInfo:
        row = datasets.List(datasets.Value("float64"), length=len(LABELS))
        return _about(self, datasets.Features(predictions=row, references=datasets.Value("int64")))

    def _compute(self, predictions: list[list[float]], references: list[int]) -> dict[str, float]:
        figure = type(self).figure(np.array(references), np.array(predictions))
        return {self.name: float(figure)}


class NLL(_OfProbabilities):
    """Negative log likelihood, in nats."""

    figure = staticmethod(calibration.nll)


class Brier(_OfProbabilities):
    """Brier score: squared distance of the probabilities to the truth, 0 to 2."""

    figure = staticmethod(calibration.brier)


class ECE(_OfProbabilities):
    """Expected calibration error of the best label, in bins of equal mass."""

    figure = staticmethod(calibration.ece)


def _about(module: evaluate.Metric, features: datasets.Features) -> evaluate.MetricInfo:
    return evaluate.MetricInfo(
        description=type(module).__doc__, citation="", inputs_description="", features=features
    )


def of_labels() -> Any:  # noqa: ANN401 - evaluate has no types
    """Accuracy, macro-F1 and UAR, combined."""
    return evaluate.combine([Accuracy(), MacroF1(), UAR()])


def of_probabilities() -> Any:  # noqa: ANN401 - as above
    """NLL, Brier score and ECE, combined."""
    return evaluate.combine([NLL(), Brier(), ECE()])
