"""The classifiers that may stand on a baseline's features, each with the hyperparameters to try.

Candidates stand in the order of growing freedom: of equals the first is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

INVERSE_PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1)
"""C of the logistic regressions on many features, standardised."""
FEW_FEATURES = (0.1, 1.0, 10.0)
"""C where features are too few to overfit."""
NO_SPEECH = -1
"""The guess for a clip without speech: wrong whatever the label."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What figures need of a set of clips; two arrays [clips]."""

    corpora: NDArray[np.str_]
    labels: NDArray[np.int64]

    def __getitem__(self, chosen: NDArray[np.bool_]) -> Labelled:
        return Labelled(self.corpora[chosen], self.labels[chosen])

    def __add__(self, others: Labelled) -> Labelled:
        return Labelled(
            np.concatenate([self.corpora, others.corpora]),
            np.concatenate([self.labels, others.labels]),
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """One classifier with its hyperparameters, on all features or on one layer of them."""

    name: str
    make: Callable[[], Any]
    layer: int | None = None
    balanced: bool = True
    """Whether corpora and labels weigh equally in the fit."""

    def fit(self, values: NDArray[np.float32], clips: Labelled) -> Fitted:
        """Fit on features [clips, …] of clips with speech."""
        classifier = self.make()
        settings = {}
        if self.balanced:
            settings[f"{classifier.steps[-1][0]}__sample_weight"] = weights(clips)
        classifier.fit(self.view(values), clips.labels, **settings)
        return Fitted(self, classifier)

    def view(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The features it looks at: [clips, features]."""
        if self.layer is not None:
            values = values[:, self.layer]
        return values.reshape(len(values), -1)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A candidate that can answer."""

    candidate: Candidate
    classifier: Any

    def guess(self, values: NDArray[np.float32], spoken: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Label of each clip [clips]; `values` are those of the clips with speech only."""
        guesses = np.full(len(spoken), NO_SPEECH, np.int64)
        if spoken.any():
            guesses[spoken] = self.classifier.predict(self.candidate.view(values))
        return guesses


def weights(clips: Labelled) -> NDArray[np.float64]:
    """Weigh clips [clips], 1 on average: corpora equally, and equally the labels within each."""
    result = np.zeros(len(clips.labels))
    corpora = np.unique(clips.corpora)
    for corpus in corpora:
        members = clips.corpora == corpus
        labels, counts = np.unique(clips.labels[members], return_counts=True)
        share = len(clips.labels) / len(corpora) / len(labels)
        for label, count in zip(labels, counts, strict=True):
            result[members & (clips.labels == label)] = share / count
    return result


def majority() -> list[Candidate]:
    """The most frequent label of the training clips, unweighted."""
    return [
        Candidate(
            "most frequent label", lambda: DummyClassifier(strategy="most_frequent"), balanced=False
        )
    ]


def logistic(
    layers: Sequence[int | None] = (None,), penalties: Sequence[float] = INVERSE_PENALTIES
) -> list[Candidate]:
    """Logistic regressions on each of the layers named; None is all features together."""

    def make(penalty: float) -> Callable[[], Any]:
        return lambda: make_pipeline(
            StandardScaler(), LogisticRegression(C=penalty, max_iter=2000, tol=1e-3)
        )

    return [
        Candidate(f"logistic regression, C {penalty:g}{_of(layer)}", make(penalty), layer)
        for penalty in penalties
        for layer in layers
    ]


def boosting() -> list[Candidate]:
    """Gradient boosting of small trees."""

    def make(rounds: int) -> Callable[[], Any]:
        return lambda: make_pipeline(
            HistGradientBoostingClassifier(
                max_iter=rounds,
                max_leaf_nodes=8,
                early_stopping=False,
                random_state=0,
            )
        )

    return [Candidate(f"gradient boosting, {n} rounds", make(n)) for n in (10, 30, 100, 300)]


def support_vectors() -> list[Candidate]:
    """Support vector machines with an RBF kernel."""

    def make(penalty: float, gamma: float) -> Callable[[], Any]:
        return lambda: make_pipeline(StandardScaler(), SVC(C=penalty, gamma=gamma))

    return [
        Candidate(f"SVM, C {penalty:g}, gamma {gamma:g}", make(penalty, gamma))
        for penalty in (0.3, 1.0, 3.0, 10.0)
        for gamma in (0.001, 0.003, 0.01)
    ]


def _of(layer: int | None) -> str:
    return "" if layer is None else f", layer {layer}"
