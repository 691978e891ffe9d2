"""From a configuration to recordings, and from recordings to samples and speech frames on disk.

Clips are heard exactly as the service hears them: same decoder, same voice activity.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets.arrow_writer import ArrowWriter
from numpy.typing import NDArray
from tqdm.auto import tqdm

from service import __version__
from service.audio import decode
from service.domain import Samples, TimbreError
from service.voice import NAME, VoiceActivity
from training.config import ConfigError
from training.data_settings import SOURCE_LABELS, Data
from training.digests import content, digest
from training.recording import LABELS, SPLITS, Recording
from training.sources import read
from training.splits import divide

__all__ = ["LABELS", "SPLITS", "Recording", "arrays", "digest", "load", "prepare", "thin"]

MAX_DURATION_S = 60.0
CLIPS_A_FILE = 128
"""Of the cache: what a kill can cost, about two seconds of work."""


def load(settings: Data, root: Path) -> list[Recording]:
    """Read the sources, give their clips our labels, divide them, and refuse what would mislead.

    Args:
        settings: the `data` section of a configuration.
        root: folder that relative paths of sources are in.

    Raises:
        ConfigError: a source cannot be read, a label isn't known, a file is missing, or the
            division isn't possible or not clean (`training.splits.divide`).
    """
    recordings = _labelled(read(settings.sources, root), settings)
    if not recordings:
        raise ConfigError("No clips are left; check `labels` and `drop` in [data].")
    return divide(recordings, settings)


def _labelled(recordings: Sequence[Recording], settings: Data) -> list[Recording]:
    """Map the sources' labels; those that are mapped to nothing, or dropped, are left out."""
    ours = SOURCE_LABELS | {name.lower(): label for name, label in settings.labels.items()}
    kept = []
    for recording in recordings:
        label = ours.get(recording.label.strip().lower())
        if label is None:
            raise ConfigError(
                f"{recording.path}: unknown label {recording.label!r}; say in [data.labels] which "
                f'of {", ".join(LABELS)} it is, or "" to leave its clips out.'
            )
        if label and label not in settings.drop:
            if not recording.path.is_file():
                raise ConfigError(f"{recording.path} isn't there, but its source lists it.")
            kept.append(replace(recording, label=label))
    return kept


def thin(recordings: list[Recording], split: str, most: int | None) -> list[Recording]:
    """The recordings of one split, at most `most` of them, evenly spread over their order."""
    chosen = [recording for recording in recordings if recording.split == split]
    if most is None or most >= len(chosen):
        return chosen
    return [chosen[i] for i in np.linspace(0, len(chosen) - 1, most).astype(int)]


_HEARD = datasets.Features(
    key=datasets.Value("string"), samples=datasets.Value("binary"), speech=datasets.Value("binary")
)
_FACTS = datasets.Features(
    clip=datasets.Value("string"),
    path=datasets.Value("string"),
    corpus=datasets.Value("string"),
    speaker=datasets.Value("string"),
    label=datasets.ClassLabel(names=list(LABELS)),
)


def prepare(recordings: Sequence[Recording], cache: Path) -> datasets.Dataset:
    """Decode recordings once into Arrow files under `cache`; the second time they are there.

    What is kept is the sound of a file's bytes and nothing else, so that other labels, splits and
    selections of the same recordings find it too. A run that was killed goes on where it was, but
    for the last `CLIPS_A_FILE` clips.

    Args:
        recordings: in the order of the rows; none gives no rows.
        cache: a folder for this purpose, which only ever grows.

    Returns:
        Columns: clip (the recording's name), path, corpus, speaker, label (class index), samples,
        speech; the last two are the raw bytes of arrays (ten times as fast to store as lists), see
        `arrays`. The samples stay on disk until they are asked for.

    Raises:
        ConfigError: a recording cannot be decoded.
    """
    folder = cache / f"heard-{NAME}-{__version__}"
    folder.mkdir(parents=True, exist_ok=True)
    # The same bytes twice are two rows: each has its own facts.
    seen: Counter[str] = Counter()
    wanted: dict[str, Recording] = {}
    for recording in recordings:
        sha256 = content(recording.path)
        wanted[f"{sha256}-{seen[sha256]}"] = recording
        seen[sha256] += 1
    there = {key for file in _files(folder) for key in _open(file)["key"]}
    _hear({key: recording for key, recording in wanted.items() if key not in there}, folder)
    opened = map(_open, _files(folder))
    parts = [part for part in opened if not wanted.keys().isdisjoint(part["key"])]
    if not parts:
        return datasets.Dataset.from_dict(
            {name: [] for name in (*_FACTS, "samples", "speech")},
            datasets.Features({**_FACTS, **{k: _HEARD[k] for k in ("samples", "speech")}}),
        )
    heard = datasets.concatenate_datasets(parts)
    keys = list(heard["key"])
    # Facts are put beside all rows and the rows chosen afterwards: putting them beside chosen rows
    # would copy the samples.
    facts = datasets.Dataset.from_list([_facts(wanted.get(key)) for key in keys], _FACTS)
    rows = datasets.concatenate_datasets([facts, heard.remove_columns("key")], axis=1)
    place = {key: number for number, key in enumerate(keys)}
    return rows.select([place[key] for key in wanted])


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.arrow"))


def _open(file: Path) -> datasets.Dataset:
    return datasets.Dataset.from_file(str(file))


def _facts(recording: Recording | None) -> dict[str, Any]:
    if recording is None:
        return dict.fromkeys(_FACTS)
    return {
        "clip": recording.name,
        "path": str(recording.path),
        "corpus": recording.corpus,
        "speaker": recording.speaker,
        "label": LABELS.index(recording.label),
    }


def _hear(missing: dict[str, Recording], folder: Path) -> None:
    """Decode recordings and find their speech, file by file."""
    if not missing:
        return
    rows = _rows(missing)
    while batch := list(itertools.islice(rows, CLIPS_A_FILE)):
        # Renamed when it is whole, so that a kill leaves no half file; and named by the process,
        # since several may prepare the same recordings at once. Named by all it holds: another
        # selection may begin with the same recording.
        keys = "\n".join(row["key"] for row in batch)
        file = folder / f"{hashlib.sha256(keys.encode()).hexdigest()}.arrow"
        half = file.with_suffix(f".{os.getpid()}.part")
        with ArrowWriter(features=_HEARD, path=str(half)) as writer:
            for row in batch:
                writer.write(row)
            writer.finalize()
        half.replace(file)


def _rows(missing: dict[str, Recording]) -> Iterator[dict[str, Any]]:
    voice = VoiceActivity()
    for key, recording in tqdm(missing.items(), desc="prepare", unit="clip"):
        try:
            clip = decode(recording.path.read_bytes(), max_duration_s=MAX_DURATION_S)
        except TimbreError as error:
            raise ConfigError(f"{recording.path}: {error}") from error
        speech = voice(clip.samples)
        yield {"key": key, "samples": clip.samples.tobytes(), "speech": speech.tobytes()}


def arrays(row: dict[str, Any]) -> tuple[Samples, NDArray[np.bool_]]:
    """A row's samples, float32 [n] at 16 kHz, and speech, bool [frames]."""
    return np.frombuffer(row["samples"], np.float32), np.frombuffer(row["speech"], np.bool_)
