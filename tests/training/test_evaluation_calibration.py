"""Calibration and the review threshold, on scores whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.scores import drawn, one_hot, scores_of
from training.evaluation import calibration, selective
from training.evaluation.intervals import resample
from training.evaluation.scores import Scores, guesses


def _ece(scores: Scores, temperature: float) -> tuple[float, float, float]:
    """ECE, and the mean and the 95% quantile of its null."""
    probabilities = scores.probabilities(temperature)
    return (
        calibration.ece(scores.truth, probabilities),
        *calibration.null(probabilities, 500, seed=0),
    )


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_the_temperature_is_found(temperature: float) -> None:
    """Of labels drawn at a known one."""
    found = calibration.fit(drawn(temperature, 3000))
    assert found == pytest.approx(temperature, rel=0.08)


def test_silence_has_no_part_in_the_temperature() -> None:
    """A clip without speech has no score to be calibrated."""
    spoken = drawn(1.5, 300)
    silent = scores_of(["sad"] * 5, [[]] * 5)
    assert calibration.fit(Scores.joined([spoken, silent])) == calibration.fit(spoken)


def test_known_scores_have_known_errors() -> None:
    """Always 0.8 sure and always right: 0.2 of ECE, and what the formulas give."""
    probabilities = np.tile([0.8, 0.2, 0, 0, 0, 0], (40, 1))
    truth = np.zeros(40, np.int64)
    assert calibration.ece(truth, probabilities) == pytest.approx(0.2)
    assert calibration.nll(truth, probabilities) == pytest.approx(-np.log(0.8))
    assert calibration.brier(truth, probabilities) == pytest.approx(0.2**2 + 0.2**2)
    bins = calibration.reliability(truth, probabilities)
    assert len(bins) == calibration.BINS
    assert bins[0][0] == pytest.approx(0.8)
    assert bins[0][1:] == (1.0, 4)


def test_a_calibrated_model_is_within_its_null() -> None:
    """Its ECE is under the 95% quantile about 95 times in 100, and never near 0."""
    within = 0
    for seed in range(60):
        ece, _, most = _ece(drawn(1.0, 400, seed=seed), 1.0)
        within += ece <= most
        assert ece > 0.005
    assert within >= 52


def test_the_null_is_the_mean_of_calibrated_models() -> None:
    """What is simulated from one model's scores is what other calibrated ones show."""
    shown = [_ece(drawn(1.0, 400, seed=seed), 1.0) for seed in range(60)]
    eces, means, _ = np.array(shown).T
    assert means.mean() == pytest.approx(eces.mean(), rel=0.12)


def test_a_distorted_model_is_beyond_its_null() -> None:
    """Twice too sure is seen on 400 clips."""
    ece, _, most = _ece(drawn(2.0, 400), 1.0)
    assert ece > 2 * most


def test_a_speaker_is_scored_at_the_temperature_of_the_others() -> None:
    """One whose scores are distorted keeps his distortion, and doesn't spread it to himself."""
    plain, distorted = drawn(1.0, 600, corpora=1), drawn(4.0, 200, seed=1, corpora=1, speakers=1)
    odd = scores_of(
        ["sad"] * 200, [[row] for row in distorted.logits.tolist()], speakers=["odd"] * 200
    )
    both = Scores.joined([plain, odd])
    found = calibration.cross_fitted(both)
    assert found is not None
    own = both.speakers == "odd"
    assert found[own] == pytest.approx(odd.probabilities(calibration.fit(plain)))


def test_one_speaker_cannot_be_cross_fitted() -> None:
    """There is nobody else to fit on."""
    assert calibration.cross_fitted(scores_of(["sad"] * 3, [[one_hot("sad")]] * 3)) is None


def _choose(scores: Scores, target: float) -> tuple[selective.Choice, np.ndarray, np.ndarray]:
    probabilities = scores.probabilities(1.0)
    wrong = guesses(probabilities) != scores.truth
    weights = resample(scores.corpora, scores.speakers, scores.names, 400, seed=0)
    return selective.choose(wrong, probabilities, weights, target), wrong, probabilities


def test_risk_and_coverage_of_a_known_set() -> None:
    """Wrong ones among the accepted, at each threshold; nothing accepted has no risk."""
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [np.nan, np.nan]])
    wrong = np.array([False, True, False, True])
    taken = selective.accepted(probabilities, np.array([0.0, 0.65, 0.95]))
    assert taken.mean(axis=0).tolist() == [0.75, 0.5, 0]
    assert selective.risk(wrong, taken) == pytest.approx([1 / 3, 0, np.nan], nan_ok=True)
    twice = selective.risk(wrong, taken, np.array([[1, 2, 1, 5]]))
    assert twice[0] == pytest.approx([0.5, 0, np.nan], nan_ok=True)


@pytest.mark.parametrize("target", [0.1, 0.2])
def test_the_chosen_threshold_keeps_the_target(target: float) -> None:
    """At its bound, which is above the risk that is seen; a step lower it isn't kept."""
    choice, wrong, probabilities = _choose(drawn(1.0, 1500), target)
    assert choice.risk_bound is not None
    assert choice.risk_bound <= target
    thresholds = np.array([choice.threshold])
    risk = selective.risk(wrong, selective.accepted(probabilities, thresholds))[0]
    assert 0.3 * target < risk < choice.risk_bound
    assert 0 < choice.threshold < 1


def test_a_smaller_risk_needs_a_higher_threshold() -> None:
    """And accepts fewer clips."""
    scores = drawn(1.0, 1500)
    assert _choose(scores, 0.1)[0].threshold > _choose(scores, 0.2)[0].threshold


def _in_steps(*steps: tuple[int, float, bool]) -> Scores:
    """Clips that are called sad: how many, how sure, and whether they are right."""
    clips = [(height, right) for count, height, right in steps for _ in range(count)]
    return scores_of(
        ["sad" if right else "happy" for _, right in clips],
        [[one_hot("sad", height)] for height, _ in clips],
    )


def test_thresholds_under_one_that_fails_are_not_looked_at() -> None:
    """Although the lowest would pass: it was not shown by a test that could still be made."""
    sure, doubtful, unsure = 5.0, 3.0, 2.0  # scores of 0.97, 0.80 and 0.60
    dipping = _in_steps((200, sure, True), (60, doubtful, False), (800, unsure, True))
    choice, wrong, probabilities = _choose(dipping, 0.1)
    taken = selective.accepted(probabilities, np.array([0.0, 0.7, choice.threshold]))
    assert selective.risk(wrong, taken) == pytest.approx([60 / 1060, 60 / 260, 0])
    assert choice == selective.Choice(0.81, 0.0)


def test_a_failure_of_the_strictest_threshold_falls_back() -> None:
    """Its errors are not made up for by clips that the model is less sure of."""
    blundering = _in_steps((40, 5.0, True), (20, 5.0, False), (800, 2.0, True))
    assert _choose(blundering, 0.1)[0] == selective.Choice(selective.FALLBACK, None)


def test_what_cannot_be_kept_falls_back() -> None:
    """Scores that tell nothing have no threshold with few errors."""
    random = np.random.default_rng(0)
    scores = drawn(1.0, 600)
    shuffled = scores.where(np.ones(600, bool))
    random.shuffle(shuffled.truth)
    assert _choose(shuffled, 0.1)[0] == selective.Choice(selective.FALLBACK, None)


@pytest.mark.parametrize(("target", "fewest"), [(0.1, 50), (0.05, 59), (0.02, 149)])
def test_a_handful_proves_nothing(target: float, fewest: int) -> None:
    """Few accepted clips, all right, are no evidence of a small risk: the smaller, the more."""
    few = fewest - 1
    scores = scores_of(["sad"] * few, [[one_hot("sad")]] * few)
    assert _choose(scores, target)[0].risk_bound is None
    one_more = scores_of(["sad"] * (few + 1), [[one_hot("sad")]] * (few + 1))
    assert _choose(one_more, target)[0] == selective.Choice(0.0, 0.0)
