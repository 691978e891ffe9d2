"""What two bundles say of the same labelled clips, as a table that holds no audio."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from service.bundle import open_bundle
from service.canary.observations import NO_SPEECH, Scores
from service.classifier import Classifier, open_classifier
from service.runtime import cpus

PREDICTIONS = Path(__file__).with_name("predictions.csv")
FACTS = ("clip", "corpus", "speaker", "truth")
DIGITS = 4
"""Of a probability in the table."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """Two models' answers to n clips; probabilities are float [2, n, labels], the older first."""

    labels: tuple[str, ...]
    speakers: NDArray[np.str_]
    truth: NDArray[np.str_]
    probabilities: Scores

    @property
    def answers(self) -> NDArray[np.str_]:
        """The label of each answer, [2, n]; `NO_SPEECH` where all probabilities are zero."""
        best = np.array(self.labels)[self.probabilities.argmax(axis=2)]
        return np.where(self.probabilities.any(axis=2), best, NO_SPEECH)


def record(speech: Path, split: str, bundles: Sequence[Path], file: Path = PREDICTIONS) -> None:
    """Let two bundles, in fp32, hear every clip of a split, and write what they say.

    Args:
        speech: folder with manifest.csv.
        split: of the manifest.
        bundles: the older first; both have the same labels.
        file: where to write it; clips are named by a hash of their path.
    """
    opened = [open_classifier(open_bundle(bundle), threads=cpus()) for bundle in bundles]
    labels = opened[0].runner.bundle.manifest.labels
    with (speech / "manifest.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["split"] == split]
    with file.open("w", newline="") as lines:
        writer = csv.writer(lines, lineterminator="\n")
        sides = [f"{side}:{label}" for side in ("old", "new") for label in labels]
        writer.writerow([*FACTS, *sides])
        for row in tqdm(rows, unit="clip"):
            name = hashlib.sha256(row["path"].encode()).hexdigest()[:12]
            data = (speech / row["path"]).read_bytes()
            scores = [score for each in opened for score in _scores(each, data, labels)]
            writer.writerow([name, row["corpus"], row["speaker"], row["label"], *scores])


def _scores(classifier: Classifier, data: bytes, labels: Sequence[str]) -> list[str]:
    found = classifier.classify(classifier.hear(data)).probabilities
    return [f"{found.get(label, 0):.{DIGITS}f}" for label in labels]


def read(file: Path = PREDICTIONS) -> Predictions:
    """Read what `record` wrote; a speaker of two corpora is two."""
    with file.open(newline="") as lines:
        head, *rows = list(csv.reader(lines))
    table = np.array(rows)
    names = [name.partition(":") for name in head[len(FACTS) :]]
    labels = tuple(label for side, _, label in names if side == "old")
    scores = table[:, len(FACTS) :].astype(float)
    return Predictions(
        labels=labels,
        speakers=np.char.add(np.char.add(table[:, 1], "/"), table[:, 2]),
        truth=table[:, 3],
        probabilities=np.stack(np.split(scores, 2, axis=1)),
    )
