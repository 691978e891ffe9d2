"""Figures of the served score of whole clips: the classifier that serves is the one measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from tqdm.auto import tqdm

from service.classifier import Classifier, Heard
from service.domain import Logits
from service.windows import pool, scored, softmax
from training.data import LABELS, Recording

ECE_BINS = 10


@dataclass(frozen=True, slots=True)
class Scored:
    """A recording with its windows and their logits; no windows when no speech was found."""

    recording: Recording
    heard: Heard
    logits: Logits

    @property
    def truth(self) -> int:
        """Index of the label it was recorded with."""
        return LABELS.index(self.recording.label)

    @property
    def spoken(self) -> bool:
        """Whether speech was found, and so a label can be given."""
        return bool(self.heard.batch)

    def probabilities(self, temperature: float) -> NDArray[np.float64]:
        """The clip's calibrated score [labels], as it is served."""
        return pool(softmax(self.logits, temperature), scored(self.heard.windows))


def score(
    classifier: Classifier, recordings: Sequence[Recording], description: str
) -> list[Scored]:
    """Hear recordings as the service would and keep their windows' logits."""
    results = []
    for recording in tqdm(recordings, desc=description, unit="clip"):
        heard = classifier.hear(recording.path.read_bytes())
        # One window at a time: the same answer as in a batch, and no padding to think of.
        logits = [classifier.runner([window])[0] for window in heard.batch]
        results.append(Scored(recording, heard, np.array(logits, np.float32)))
    return results


def figures(clips: Sequence[Scored], temperature: float) -> dict[str, Any]:
    """Accuracy, macro-F1, UAR, per class and per corpus, NLL and ECE of one set.

    A clip without speech counts as wrong in every figure of the label, and is left out of NLL and
    ECE, since it has no score.
    """
    truth = np.array([clip.truth for clip in clips])
    spoken = np.array([clip.spoken for clip in clips])
    probabilities = np.array([clip.probabilities(temperature) for clip in clips if clip.spoken])
    guesses = np.full(len(clips), -1)
    guesses[spoken] = probabilities.argmax(axis=1)
    present = sorted(set(truth.tolist()))
    per_class = precision_recall_fscore_support(truth, guesses, labels=present, zero_division=0)
    by_corpus = {}
    for corpus in sorted({clip.recording.corpus for clip in clips}):
        chosen = np.array([clip.recording.corpus == corpus for clip in clips])
        by_corpus[corpus] = {
            "clips": int(chosen.sum()),
            **_headline(truth[chosen], guesses[chosen]),
        }
    return {
        "clips": len(clips),
        "no_speech": int((~spoken).sum()),
        **_headline(truth, guesses),
        **calibration(truth[spoken], probabilities),
        "per_class": {
            LABELS[label]: {
                "precision": round(float(per_class[0][i]), 4),
                "recall": round(float(per_class[1][i]), 4),
                "f1": round(float(per_class[2][i]), 4),
                "clips": int(per_class[3][i]),
            }
            for i, label in enumerate(present)
        },
        "per_corpus": by_corpus,
        "confusion": confusion_matrix(
            truth[spoken], guesses[spoken], labels=range(len(LABELS))
        ).tolist(),
    }


def calibration(truth: NDArray[np.int64], probabilities: NDArray[np.float64]) -> dict[str, float]:
    """Negative log likelihood, and expected calibration error over bins of equal mass.

    ECE as in Nixon et al. 2019 (adaptive bins) of the top label's confidence; a perfectly
    calibrated model has about 0.04 at a few hundred clips, not 0.
    """
    picked = probabilities[np.arange(len(truth)), truth]
    confidence = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    error = 0.0
    for members in np.array_split(np.argsort(confidence), ECE_BINS):
        if members.size:
            gap = abs(float(confidence[members].mean() - right[members].mean()))
            error += gap * members.size / len(truth)
    return {
        "nll": round(float(-np.log(np.maximum(picked, 1e-12)).mean()), 4),
        "ece": round(error, 4),
    }


def _headline(truth: NDArray[np.int64], guesses: NDArray[np.int64]) -> dict[str, float]:
    """Accuracy, macro-F1 and unweighted average recall over the classes that are there."""
    present = sorted(set(truth.tolist()))
    _, recall, f1, _ = precision_recall_fscore_support(
        truth, guesses, labels=present, zero_division=0
    )
    return {
        "accuracy": round(float((truth == guesses).mean()), 4),
        "macro_f1": round(float(np.mean(f1)), 4),
        "uar": round(float(np.mean(recall)), 4),
    }


def reference(clips: Sequence[Scored], temperature: float) -> dict[str, Any]:
    """Statistics of inputs and answers on known data, for measuring drift against."""
    probabilities = np.array([clip.probabilities(temperature) for clip in clips if clip.spoken])
    deciles = np.linspace(0, 1, 11)
    confidence = probabilities.max(axis=1)
    prior = np.bincount(probabilities.argmax(axis=1), minlength=len(LABELS)) / len(probabilities)
    duration = [clip.heard.clip.duration_s for clip in clips]
    speech = [clip.heard.speech_s for clip in clips]
    return {
        "set": "validation",
        "clips": len(clips),
        "predicted_prior": dict(zip(LABELS, np.round(prior, 4).tolist(), strict=True)),
        "confidence_deciles": np.round(np.quantile(confidence, deciles), 4).tolist(),
        "duration_s_deciles": np.round(np.quantile(duration, deciles), 3).tolist(),
        "speech_s_deciles": np.round(np.quantile(speech, deciles), 3).tolist(),
    }
