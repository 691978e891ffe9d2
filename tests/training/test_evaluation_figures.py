"""Figures of labels, their `evaluate` modules, and their intervals, on answers that are known."""

from __future__ import annotations

import socket

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from training.evaluation import figures, modules
from training.evaluation.intervals import interval, resample
from training.recording import LABELS

CLIPS = st.lists(
    st.tuples(st.integers(0, len(LABELS) - 1), st.integers(-1, len(LABELS) - 1)), min_size=1
)


@given(CLIPS)
def test_figures_are_the_usual_ones(clips: list[tuple[int, int]]) -> None:
    """They agree with scikit-learn's over the labels that are there, no speech being wrong."""
    truth, given_labels = np.array(clips).T
    present = np.unique(truth)
    counts = figures.confusion(truth, given_labels, len(LABELS))
    expected = precision_recall_fscore_support(truth, given_labels, labels=present, zero_division=0)
    assert figures.precision(counts)[present] == pytest.approx(expected[0])
    assert figures.recall(counts)[present] == pytest.approx(expected[1])
    assert figures.f1(counts)[present] == pytest.approx(expected[2])
    assert figures.macro_f1(counts) == pytest.approx(expected[2].mean())
    assert figures.uar(counts) == pytest.approx(expected[1].mean())
    assert figures.accuracy(counts) == pytest.approx((truth == given_labels).mean())


@given(CLIPS, st.integers(0, 99))
def test_a_weight_is_a_number_of_clips(clips: list[tuple[int, int]], seed: int) -> None:
    """Counts of a weighted set are those of the set with its clips repeated."""
    truth, given_labels = np.array(clips).T
    weights = np.random.default_rng(seed).integers(0, 4, (3, len(clips)))
    weighted = figures.confusion(truth, given_labels, len(LABELS), weights)
    for row, times in zip(weighted, weights, strict=True):
        again = figures.confusion(truth.repeat(times), given_labels.repeat(times), len(LABELS))
        assert (row == again).all()


def test_a_label_that_is_missing_is_in_no_mean() -> None:
    """A set without sad clips isn't blamed for them."""
    counts = figures.confusion(np.array([0, 0, 1]), np.array([0, 0, 5]), len(LABELS))
    assert figures.uar(counts) == 0.5
    assert np.isnan(figures.recall(counts)[5])


def test_modules_combine_and_ask_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """All figures in one call each, without a network."""

    def refuse(*_: object) -> None:
        raise AssertionError("a module asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    found = modules.of_labels().compute(predictions=[0, 1, 2, -1], references=[0, 1, 1, 1])
    assert found == {
        "accuracy": 0.5,
        "macro_f1": pytest.approx((1 + 0.5) / 2),
        "uar": pytest.approx((1 + 1 / 3) / 2),
    }
    sure = np.eye(len(LABELS))[[0, 1]]
    found = modules.of_probabilities().compute(predictions=sure, references=[0, 1])
    assert found == {"nll": 0, "brier": 0, "ece": 0}


def test_a_module_takes_batches() -> None:
    """What is added piece by piece is computed as one set."""
    module = modules.Accuracy()
    module.add_batch(predictions=[0, 1], references=[0, 0])
    module.add_batch(predictions=[2], references=[2])
    assert module.compute() == {"accuracy": pytest.approx(2 / 3)}


def _resampled(speakers: list[str], corpora: list[str] | None = None) -> np.ndarray:
    rows = len(speakers)
    return resample(
        np.array(corpora or ["a"] * rows),
        np.array(speakers),
        np.arange(rows).astype(str),
        2000,
        seed=0,
    )


def test_a_resample_keeps_every_corpus() -> None:
    """With as many clips as it has, where its speakers have equally many."""
    weights = _resampled(["x", "x", "y", "y", "z"], ["a", "a", "a", "a", "b"])
    assert (weights[:, :4].sum(axis=1) == 4).all()
    assert (weights[:, 4] == 1).all()


def test_speakers_are_drawn_whole() -> None:
    """One of two is left out of half the resamples, with all its clips."""
    weights = _resampled(["x"] * 30 + ["y"] * 30)
    totals = weights[:, :30].sum(axis=1)
    assert set(totals.tolist()) == {0, 30, 60}
    assert (totals == 30).mean() == pytest.approx(0.5, abs=0.05)


def test_a_single_speaker_varies_by_clips() -> None:
    """Each resample has as many clips as there are, and they differ."""
    weights = _resampled(["x"] * 40)
    assert (weights.sum(axis=1) == 40).all()
    assert weights.std(axis=0).min() > 0.5


def test_rows_of_one_clip_are_drawn_together() -> None:
    """A clip that was heard in two noises is no two clips."""
    names = np.array(["1", "2", "3", "1", "2", "3"])
    weights = resample(np.array(["a"] * 6), np.array(["x"] * 6), names, 500, seed=0)
    assert (weights[:, :3] == weights[:, 3:]).all()


def test_a_seed_gives_the_same_resamples() -> None:
    """And with them the same intervals."""
    assert (_resampled(["x", "y"] * 9) == _resampled(["x", "y"] * 9)).all()


def test_speakers_that_differ_widen_the_interval() -> None:
    """The same share of right clips says less when each speaker is all right or all wrong."""
    speakers = [f"s{number // 25}" for number in range(200)]
    alike = np.tile([True, False], 100)
    apart = np.repeat([True, False] * 4, 25)
    weights = _resampled(speakers)
    low, high = interval(weights @ alike / weights.sum(axis=1))
    low_apart, high_apart = interval(weights @ apart / weights.sum(axis=1))
    assert high_apart - low_apart > 2 * (high - low)


def test_an_interval_holds_the_truth_of_new_speakers() -> None:
    """Of 4 + 2 + 1 speakers, whose accuracies differ, nine times in ten or more."""
    random = np.random.default_rng(0)
    held, tries = 0, 120
    corpora = np.repeat(["a", "b"], [160, 80])
    speakers = np.repeat([f"s{number}" for number in range(6)], 40)
    for number in range(tries):
        # On the scale of the logarithm of the odds: about 0.7, a standard deviation of 0.1.
        ability = 1 / (1 + np.exp(-random.normal(0.85, 0.5, 6)))
        right = random.random(240) < ability.repeat(40)
        weights = resample(corpora, speakers, np.arange(240).astype(str), 300, seed=number)
        low, high = interval(weights @ right / weights.sum(axis=1))
        held += low <= 0.691 <= high
    assert held / tries >= 0.9
