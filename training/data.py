"""A manifest of recordings → a data set of samples and speech frames, cached on disk.

Clips are heard exactly as the service hears them: same decoder, same voice activity.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from numpy.typing import NDArray

from service import __version__
from service.audio import decode
from service.domain import Samples, TimbreError
from service.voice import NAME, VoiceActivity
from training.config import ConfigError

LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad")
SPLITS = ("train", "validation", "test")
MAX_DURATION_S = 60.0


@dataclass(frozen=True, slots=True)
class Recording:
    """One labelled file of a manifest."""

    path: Path
    name: str
    """The path in the manifest."""
    corpus: str
    speaker: str
    language: str
    label: str
    split: str


def read_manifest(folder: Path) -> list[Recording]:
    """Read `folder`/manifest.csv (path, corpus, speaker, language, label, split).

    Raises:
        ConfigError: no manifest, a missing column, an unknown label or split, a speaker in two
            splits (figures on unseen speakers would be false).
    """
    file = folder / "manifest.csv"
    if not file.is_file():
        raise ConfigError(f"No manifest.csv in {folder}; give the folder with --data.")
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    recordings = []
    for number, row in enumerate(rows, start=2):
        try:
            recording = Recording(
                folder / row["path"],
                row["path"],
                *(row[key] for key in ("corpus", "speaker", "language", "label", "split")),
            )
        except KeyError as error:
            raise ConfigError(f"{file}: no column {error}.") from error
        if recording.label not in LABELS or recording.split not in SPLITS:
            raise ConfigError(f"{file}:{number}: unknown label or split in {row}.")
        recordings.append(recording)
    splits: dict[str, str] = {}
    for recording in recordings:
        if splits.setdefault(recording.speaker, recording.split) != recording.split:
            raise ConfigError(f"Speaker {recording.speaker} is in two splits of {file}.")
    return recordings


def thin(recordings: list[Recording], split: str, most: int | None) -> list[Recording]:
    """The recordings of one split, at most `most` of them, evenly spread over the manifest."""
    chosen = [recording for recording in recordings if recording.split == split]
    if most is None or most >= len(chosen):
        return chosen
    return [chosen[i] for i in np.linspace(0, len(chosen) - 1, most).astype(int)]


def digest(recordings: Sequence[Recording]) -> str:
    """sha256 over the names, labels and bytes of the recordings, in order of path."""
    sha = hashlib.sha256()
    for recording in sorted(recordings, key=lambda recording: recording.path):
        content = hashlib.sha256(recording.path.read_bytes()).hexdigest()
        name = recording.name
        sha.update(f"{name}\t{recording.label}\t{content}\n".encode())
    return sha.hexdigest()


def prepare(recordings: Sequence[Recording], cache: Path) -> datasets.Dataset:
    """Decode recordings once into Arrow files under `cache`; the second time they are there.

    Returns:
        Columns: path, corpus, speaker, label (class index), samples, speech; the last two are the
        raw bytes of arrays (ten times as fast to store as lists), see `arrays`.

    Raises:
        ConfigError: a recording cannot be decoded.
    """
    features = datasets.Features(
        path=datasets.Value("string"),
        corpus=datasets.Value("string"),
        speaker=datasets.Value("string"),
        label=datasets.ClassLabel(names=list(LABELS)),
        samples=datasets.Value("binary"),
        speech=datasets.Value("binary"),
    )
    # What the rows are made of is in the cache's fingerprint: the bytes, and the code that hears.
    made_of = (digest(recordings), NAME, __version__)
    # A tuple: of a list it would make one shard, and one detector, for each recording.
    return datasets.Dataset.from_generator(
        _examples,
        features=features,
        cache_dir=str(cache),
        gen_kwargs={"recordings": tuple(recordings), "made_of": made_of},
    )


def _examples(
    recordings: tuple[Recording, ...],
    made_of: tuple[str, ...],  # noqa: ARG001 - for the fingerprint
) -> Iterator[dict[str, Any]]:
    """Yield the rows."""
    voice = VoiceActivity()
    for recording in recordings:
        try:
            clip = decode(recording.path.read_bytes(), max_duration_s=MAX_DURATION_S)
        except TimbreError as error:
            raise ConfigError(f"{recording.path}: {error}") from error
        yield {
            "path": str(recording.path),
            "corpus": recording.corpus,
            "speaker": recording.speaker,
            "label": recording.label,
            "samples": clip.samples.tobytes(),
            "speech": voice(clip.samples).tobytes(),
        }


def arrays(row: dict[str, Any]) -> tuple[Samples, NDArray[np.bool_]]:
    """A row's samples, float32 [n] at 16 kHz, and speech, bool [frames]."""
    return np.frombuffer(row["samples"], np.float32), np.frombuffer(row["speech"], np.bool_)
