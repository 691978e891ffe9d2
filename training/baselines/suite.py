"""Which baselines there are, and a run of them over the recordings."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from service.runtime import cpu_features
from training.baselines import classifiers, features
from training.baselines.classifiers import Candidate, Labelled
from training.baselines.extraction import extract
from training.baselines.features import Features
from training.baselines.protocol import FITTED, Attempt, attempt
from training.config import ConfigError, Windows
from training.data import LABELS, Recording, load, prepare, thin
from training.data_settings import Data

RESULT = "baselines.json"
EXTRACTORS = {
    "majority": features.durations,  # it looks at none; these cost the least
    "duration": features.durations,
    "log-mel": features.log_mel,
    "egemaps": features.egemaps,
}


def measure(
    root: Path,
    names: Sequence[str],
    checkpoints: Sequence[str],
    *,
    speakers: Sequence[str],
    splits: Sequence[str],
    run: Path,
) -> list[Attempt]:
    """Fit baselines on the training clips and score them on others.

    Args:
        root: folder with speech/manifest.csv.
        names: of baselines, as the command lists them, without `probe`.
        checkpoints: to probe after these; folders, absolute or in `root`, or models of a hub.
        speakers: of training clips, for choosing hyperparameters.
        splits: to score.
        run: gets `RESULT`, written after each baseline, and features, which are not made again.

    Raises:
        ConfigError: the recordings cannot be used, a split has none, no such checkpoint.
    """
    recordings = load(Data(development_speakers=tuple(speakers)), root)
    sets = {split: thin(recordings, split, None) for split in (*FITTED, *splits)}
    for split, members in sets.items():
        if not members:
            hint = "; name other speakers with --development" if split in FITTED else ""
            raise ConfigError(f"No clips in split {split}{hint}.")
    clips = {split: labelled(members) for split, members in sets.items()}
    prepared = {split: prepare(members, run / "cache") for split, members in sets.items()}
    attempts: list[Attempt] = []
    for name, known in _opened(names, checkpoints, root):
        extracted = {
            split: extract(rows, known, run / "features") for split, rows in prepared.items()
        }
        tried = candidates(name, extracted["train"].values)
        attempts.append(attempt(name, tried, clips, extracted))
        _write(run / RESULT, attempts, clips, speakers)
    return attempts


def _opened(
    names: Sequence[str], checkpoints: Sequence[str], root: Path
) -> Iterator[tuple[str, Features]]:
    """Yield each baseline's name and extractor when its turn has come: encoders are large."""
    for name in names:
        yield name, EXTRACTORS[name]()
    for source in checkpoints:
        probe = features.checkpoint(source, root, Windows().spec)
        yield probe.name, probe


def candidates(name: str, values: NDArray[np.float32]) -> list[Candidate]:
    """The classifiers to try on the features, [clips, …], of a baseline."""
    match name:
        case "majority":
            return classifiers.majority()
        case "duration":
            return [
                *classifiers.logistic(penalties=classifiers.FEW_FEATURES),
                *classifiers.boosting(),
            ]
        case "log-mel":
            return classifiers.logistic()
        case "egemaps":
            return classifiers.support_vectors()
        case _:
            return classifiers.logistic([*range(values.shape[1]), None])


def labelled(recordings: Sequence[Recording]) -> Labelled:
    """What is known of recordings without hearing them."""
    return Labelled(
        np.array([recording.corpus for recording in recordings]),
        np.array([LABELS.index(recording.label) for recording in recordings]),
    )


def _write(
    file: Path,
    attempts: Sequence[Attempt],
    clips: Mapping[str, Labelled],
    speakers: Sequence[str],
) -> None:
    content = {
        "clips": {split: len(members.labels) for split, members in clips.items()},
        "development_speakers": list(speakers),
        "cpu_features": cpu_features(),
        "baselines": [asdict(each) for each in attempts],
    }
    file.write_text(json.dumps(content, indent=2) + "\n")
