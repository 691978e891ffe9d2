"""Clips with the score they are given at one temperature, and the figures of the labels given."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from training.evaluation import figures, modules
from training.evaluation.facts import ClassFigures, Confusion, Figure, Headline, Means
from training.evaluation.intervals import interval, resample
from training.evaluation.scores import Scores, guesses
from training.recording import LABELS


@dataclass(frozen=True)
class Answers:
    """Clips and their scores, [clips, labels]; NaN where there was no speech."""

    scores: Scores
    probabilities: NDArray[np.float64]
    resamples: int
    seed: int

    @cached_property
    def weights(self) -> NDArray[np.int64]:
        """How often each clip is in each resample, [resamples, clips]."""
        scores = self.scores
        return resample(scores.corpora, scores.speakers, scores.names, self.resamples, self.seed)

    @cached_property
    def guesses(self) -> NDArray[np.int64]:
        """The label given to each clip; -1 without speech."""
        return guesses(self.probabilities)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Whether another label was given than the true one, or none."""
        wrong: NDArray[np.bool_] = self.guesses != self.scores.truth
        return wrong

    @property
    def present(self) -> list[int]:
        """Indices of the labels that the clips have."""
        present: list[int] = np.unique(self.scores.truth).tolist()
        return present

    def where(self, chosen: NDArray[np.bool_]) -> Answers:
        """The clips that are chosen, bool [clips], with resamples of their own."""
        return Answers(
            self.scores.where(chosen), self.probabilities[chosen], self.resamples, self.seed
        )

    def by(self, names: NDArray[np.str_]) -> dict[str, Answers]:
        """The clips of each name there is, [clips]."""
        return {str(name): self.where(names == name) for name in np.unique(names)}

    def masked(self) -> Answers:
        """As if labels that no clip has were impossible: without them, and renormalised."""
        probabilities = np.zeros_like(self.probabilities)
        kept = self.probabilities[:, self.present]
        probabilities[:, self.present] = kept / kept.sum(axis=1, keepdims=True)
        # Without speech there is still no score.
        probabilities[np.isnan(self.probabilities)] = np.nan
        return Answers(self.scores, probabilities, self.resamples, self.seed)

    @cached_property
    def counts(self) -> figures.Counts:
        """Clips by truth and guess, [labels, labels + 1]."""
        return figures.confusion(self.scores.truth, self.guesses, len(LABELS))

    @cached_property
    def resampled(self) -> figures.Counts:
        """The same of each resample, [resamples, labels, labels + 1]."""
        return figures.confusion(self.scores.truth, self.guesses, len(LABELS), self.weights)


def figure(value: float, resampled: NDArray[np.float64]) -> Figure:
    """A figure with the interval of its resampled values."""
    low, high = interval(resampled)
    return Figure(value=value, low=low, high=high)


def headline(answers: Answers) -> Headline:
    """Accuracy, macro-F1 and UAR; the values are those of the `evaluate` modules."""
    found = modules.of_labels().compute(
        predictions=answers.guesses, references=answers.scores.truth
    )
    counts = answers.resampled
    return Headline(
        clips=len(answers.scores),
        no_speech=int((~answers.scores.spoken).sum()),
        accuracy=figure(found["accuracy"], figures.accuracy(counts)),
        macro_f1=figure(found["macro_f1"], figures.macro_f1(counts)),
        uar=figure(found["uar"], figures.uar(counts)),
    )


def corpora_mean(answers: Answers) -> Means:
    """Mean of the corpora's figures; a resample keeps every corpus, so each has a mean too."""
    scores = answers.scores
    single, resampled = [], []
    for corpus in np.unique(scores.corpora):
        inside = scores.corpora == corpus
        truth, given = scores.truth[inside], answers.guesses[inside]
        single.append(figures.confusion(truth, given, len(LABELS)))
        weights = answers.weights[:, inside]
        resampled.append(figures.confusion(truth, given, len(LABELS), weights))
    one, many = np.array(single), np.array(resampled)
    return Means(
        corpora=len(single),
        **{
            name: figure(float(compute(one).mean()), compute(many).mean(axis=0))
            for name, compute in (
                ("accuracy", figures.accuracy),
                ("macro_f1", figures.macro_f1),
                ("uar", figures.uar),
            )
        },
    )


def by_class(answers: Answers) -> dict[str, ClassFigures]:
    """Precision, recall and F1 of each label the clips have."""
    one, many = answers.counts, answers.resampled
    return {
        LABELS[label]: ClassFigures(
            clips=int(one[label].sum()),
            **{
                name: figure(float(compute(one)[label]), compute(many)[:, label])
                for name, compute in (
                    ("precision", figures.precision),
                    ("recall", figures.recall),
                    ("f1", figures.f1),
                )
            },
        )
        for label in answers.present
    }


def confusion(answers: Answers) -> Confusion:
    """Counts, shares by row and shares by column."""
    counts = answers.counts
    given = counts[:, :-1]
    rows = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    columns = given / np.maximum(given.sum(axis=0, keepdims=True), 1)
    return Confusion(
        counts=tuple(map(tuple, counts.astype(int).tolist())),
        by_row=tuple(map(tuple, rows.tolist())),
        by_column=tuple(map(tuple, columns.tolist())),
    )
