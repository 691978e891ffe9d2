"""Choose, fit and score a baseline: chosen on development speakers, scored on strangers once."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from training.baselines.classifiers import Candidate, Labelled
from training.baselines.extraction import Extracted
from training.data import LABELS
from training.evaluation.figures import accuracy, confusion, macro_f1, uar

FITTED = ("train", "development")
"""The sets that the final fit knows."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one baseline."""

    name: str
    candidates: int
    """How many were tried on the development speakers."""
    chosen: str
    figures: Mapping[str, dict[str, Any]]
    """By set; `development` is of the fit without these speakers that the choice was made by."""
    cpu_s: Mapping[str, float]
    """Processor seconds of this process: features (of all sets), choice, fit, answers."""


def attempt(
    name: str,
    candidates: Sequence[Candidate],
    clips: Mapping[str, Labelled],
    features: Mapping[str, Extracted],
) -> Attempt:
    """Choose by the corpora's mean macro-F1, refit on all training clips, score the other sets.

    Args:
        name: of the baseline.
        candidates: at least one.
        clips: by set. `train` is fitted, `development` chooses and is then fitted too; every other
            set is scored once.
        features: of the same sets and clips.
    """
    started = time.process_time()
    train, development = features["train"], features["development"]
    best, found = candidates[0], {"mean_macro_f1": -1.0}
    for candidate in tqdm(candidates, desc=f"{name}: choice", unit="fit"):
        fitted = candidate.fit(train.values, clips["train"][train.spoken])
        guesses = fitted.guess(development.values, development.spoken)
        reached = figures(clips["development"], guesses)
        if reached["mean_macro_f1"] > found["mean_macro_f1"]:
            best, found = candidate, reached
    after_choice = time.process_time()
    fitted = best.fit(
        np.concatenate([train.values, development.values]),
        clips["train"][train.spoken] + clips["development"][development.spoken],
    )
    after_fit = time.process_time()
    results: dict[str, dict[str, Any]] = {"development": found}
    for split in [split for split in clips if split not in FITTED]:
        guesses = fitted.guess(features[split].values, features[split].spoken)
        results[split] = figures(clips[split], guesses)
    return Attempt(
        name,
        len(candidates),
        best.name,
        results,
        {
            "features": round(sum(extracted.cpu_s for extracted in features.values()), 1),
            "choice": round(after_choice - started, 1),
            "fit": round(after_fit - after_choice, 1),
            "answers": round(time.process_time() - after_fit, 1),
        },
    )


def figures(clips: Labelled, guesses: NDArray[np.int64]) -> dict[str, Any]:
    """Accuracy, macro-F1 and UAR, pooled and per corpus, and macro-F1 as the corpora's mean.

    Each over the labels that are there. A clip without speech counts as wrong, whatever its label.
    """
    corpora = {
        str(corpus): _headline(clips.labels[members], guesses[members])
        for corpus in np.unique(clips.corpora)
        for members in [clips.corpora == corpus]
    }
    return {
        **_headline(clips.labels, guesses),
        "mean_macro_f1": round(float(np.mean([each["macro_f1"] for each in corpora.values()])), 4),
        "per_corpus": corpora,
    }


def _headline(truth: NDArray[np.int64], guesses: NDArray[np.int64]) -> dict[str, float]:
    counts = confusion(truth, guesses, len(LABELS))
    return {
        "clips": len(truth),
        "accuracy": round(float(accuracy(counts)), 4),
        "macro_f1": round(float(macro_f1(counts)), 4),
        "uar": round(float(uar(counts)), 4),
    }
