"""Figures and calibration, on scores whose truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.classifier import Heard
from service.domain import Clip, Window
from training import calibrate
from training.data import LABELS, Recording
from training.evaluate import Scored, figures, reference


def _scored(label: str, logits: list[list[float]], corpus: str = "a", speaker: str = "s") -> Scored:
    samples = np.zeros(16_000, np.float32)
    windows = [Window(i, i + 1_000, 1.0) for i in range(len(logits))]
    clip = Clip(samples, 1.0, 16_000, 1)
    heard = Heard(clip, float(len(logits)), windows, [samples] * len(logits))
    recording = Recording(Path("x"), "x", corpus, speaker, "en", label, "validation")
    return Scored(recording, heard, np.array(logits, np.float32))


def _one_hot(label: str, height: float = 5.0) -> list[float]:
    return [height * (name == label) for name in LABELS]


def test_figures_of_right_and_wrong_answers() -> None:
    """Accuracy counts clips, UAR the classes that are there."""
    clips = [_scored("angry", [_one_hot("angry")])] * 3 + [_scored("sad", [_one_hot("happy")])]
    found = figures(clips, 1.0)
    assert found["accuracy"] == 0.75
    assert found["uar"] == 0.5
    assert found["macro_f1"] == 0.5
    assert found["confusion"][LABELS.index("sad")][LABELS.index("happy")] == 1


def test_a_clip_without_speech_is_wrong_and_counted() -> None:
    """It lowers accuracy, and NLL leaves it out."""
    found = figures([_scored("angry", [_one_hot("angry")]), _scored("angry", [])], 1.0)
    assert (found["accuracy"], found["no_speech"]) == (0.5, 1)
    assert found["nll"] < 0.1


def test_each_corpus_has_its_figures() -> None:
    """So that a good one doesn't hide a bad one."""
    clips = [
        _scored("angry", [_one_hot("angry")], "good"),
        _scored("angry", [_one_hot("sad")], "bad"),
    ]
    per_corpus = figures(clips, 1.0)["per_corpus"]
    assert per_corpus["good"]["accuracy"] == 1
    assert per_corpus["bad"]["accuracy"] == 0


def _noisy(temperature: float, count: int = 3000) -> list[Scored]:
    """Clips whose labels are drawn from the softmax of their logits over `temperature`."""
    random = np.random.default_rng(0)
    clips = []
    for number in range(count):
        logits = 2 * random.standard_normal(len(LABELS))
        scaled = np.exp(logits / temperature)
        label = LABELS[random.choice(len(LABELS), p=scaled / scaled.sum())]
        clips.append(_scored(label, [logits.tolist()], speaker=f"s{number % 3}"))
    return clips


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_the_temperature_is_found(temperature: float) -> None:
    """Of labels drawn at a known one."""
    assert calibrate.fit(_noisy(temperature)) == pytest.approx(temperature, rel=0.08)


def test_calibration_is_measured_on_strangers() -> None:
    """Cross-fitted by speaker, a calibrated model's error is small, a distorted one's is not."""
    clips = _noisy(2.0)
    crossed = calibrate.cross_fitted(clips)
    assert crossed is not None
    assert crossed["ece"] < 0.05  # of a perfect one: about 0.03
    assert figures(clips, 0.5)["ece"] > 0.2


def test_one_speaker_cannot_be_cross_fitted() -> None:
    """There is nobody else to fit on."""
    assert calibrate.cross_fitted([_scored("sad", [_one_hot("sad")])]) is None


def test_the_reference_adds_up() -> None:
    """Predicted shares of the labels sum to 1, deciles rise."""
    found = reference(_noisy(1.0, 200), 1.0)
    assert sum(found["predicted_prior"].values()) == pytest.approx(1, abs=1e-3)
    assert found["confidence_deciles"] == sorted(found["confidence_deciles"])
    assert len(found["speech_s_deciles"]) == 11
