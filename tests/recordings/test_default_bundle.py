"""The shipped model on the recordings it was measured on, for machines that have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import recordings
from benchmarks.server import running
from service.bundle import DEFAULT_BUNDLE, Precision, open_bundle
from service.classifier import Classifier, open_classifier
from service.domain import Samples

pytestmark = [pytest.mark.needs_data, pytest.mark.timeout(300)]

MAX_MISSED = 0.01
"""Of validation clips, answered `no_speech`."""
MAX_FALSE_ALARMS = 0.05
"""Of noises, taken for speech."""


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    """The embedded default model."""
    return open_classifier(open_bundle(DEFAULT_BUNDLE), threads=2)


@pytest.fixture(scope="module")
def speech(speech_data: Path) -> list[recordings.Labelled]:
    """The validation clips."""
    return recordings.read(speech_data, "validation")


def test_over_http_it_says_what_its_card_says(
    classifier: Classifier, speech: list[recordings.Labelled]
) -> None:
    """In fp32 every label, every decision and the accuracy are the evaluation's."""
    with running(TIMBRE_PRECISION="fp32") as server:
        found = recordings.over_http(server.port, classifier, speech)
    figures = open_bundle(DEFAULT_BUNDLE).manifest.precisions["fp32"].metrics["validation"]
    assert found["clips"] == figures["clips"]
    assert found["labels_that_differ"] == found["decisions_that_differ"] == 0
    assert found["largest_difference_of_a_probability"] < 1e-4
    # The card was measured on another machine, whose arithmetic may tip a clip or two.
    assert found["accuracy_over_http"] == pytest.approx(figures["accuracy"], abs=0.003)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_it_does_real_work(precision: Precision) -> None:
    """Macro-F1 of strangers' emotions is far above chance (0.17), in each precision."""
    figures = open_bundle(DEFAULT_BUNDLE).manifest.precisions[precision].metrics["validation"]
    assert isinstance(figures["macro_f1"], float)
    assert figures["macro_f1"] >= 0.65


@pytest.mark.parametrize("snr_db", [float("inf"), 10.0, 5.0])
def test_speech_is_heard(
    classifier: Classifier, speech: list[recordings.Labelled], speech_data: Path, snr_db: float
) -> None:
    """Clean and in noise."""
    noises = list(recordings.noise_recordings(speech_data.parent / "noise").values())
    missed = recordings.heard_as_silence(classifier, speech, noises, snr_db)
    assert sum(missed) <= MAX_MISSED * len(missed)


def test_noise_is_no_speech(classifier: Classifier, speech_data: Path) -> None:
    """Dishes, rain, dogs and chainsaws have no emotion."""
    noises = recordings.noise_recordings(speech_data.parent / "noise")
    assert len(noises) > 50
    taken = [name for name, samples in noises.items() if _has_speech(classifier, samples)]
    assert len(taken) <= MAX_FALSE_ALARMS * len(noises), taken


def _has_speech(classifier: Classifier, samples: Samples) -> bool:
    return bool(classifier.listen(recordings.as_clip(samples)).batch)
