"""Recordings → the logits of their windows: all that the figures are made of, kept on disk.

The classifier that serves is the one measured. What it said is kept as numbers, without audio, so
that a report can be made again, or a temperature tried, without the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from service.classifier import Classifier, Heard
from service.domain import Logits, TimbreError
from service.windows import scored, softmax
from training.config import ConfigError
from training.corpora import sentence_is_shared
from training.recording import LABELS, Recording

CLIPS_OF_A_SPEAKER = 24
"""Of training: enough to know the speaker by, and one with thousands counts no more than others."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Clips as columns [clips], and their windows with speech [windows], clip after clip."""

    names: NDArray[np.str_]
    corpora: NDArray[np.str_]
    speakers: NDArray[np.str_]
    sexes: NDArray[np.str_]
    """Of the speaker: female, male, or empty where it is not known."""
    sentence_shared: NDArray[np.int8]
    """1 where the sentence is said in all of its corpus's emotions, 0 where not, -1 unknown."""
    truth: NDArray[np.int64]
    """Index of the label a clip was recorded with."""
    duration_s: NDArray[np.float64]
    speech_s: NDArray[np.float64]
    windows: NDArray[np.int64]
    """Windows with speech in each clip; 0 where none was found."""
    weights: NDArray[np.float64]
    """Seconds of speech in each window."""
    logits: Logits
    """float32 [windows, labels]."""

    def __len__(self) -> int:
        """Clips."""
        return len(self.names)

    @property
    def spoken(self) -> NDArray[np.bool_]:
        """Whether speech was found in each clip, and so a label can be given."""
        return self.windows > 0

    def probabilities(self, temperature: float) -> NDArray[np.float64]:
        """Each clip's score [clips, labels], as `service.windows.pool`; NaN without speech."""
        weighted = softmax(self.logits, temperature) * self.weights[:, None]
        sums = np.full((len(self), weighted.shape[1]), np.nan)
        if len(weighted):
            starts = np.cumsum(self.windows) - self.windows
            spoken = self.spoken
            sums[spoken] = np.add.reduceat(weighted, starts[spoken])
            sums[spoken] /= np.add.reduceat(self.weights, starts[spoken])[:, None]
        return sums

    def where(self, chosen: NDArray[np.bool_]) -> Scores:
        """The clips that are chosen, bool [clips]."""
        of_windows = np.repeat(chosen, self.windows)
        return Scores(
            **{
                field.name: getattr(self, field.name)[
                    of_windows if field.name in {"weights", "logits"} else chosen
                ]
                for field in fields(self)
            }
        )

    @staticmethod
    def joined(parts: Sequence[Scores]) -> Scores:
        """The clips of several sets, one after another."""
        columns = [field.name for field in fields(parts[0])]
        return Scores(
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns}
        )


def guesses(probabilities: NDArray[np.float64]) -> NDArray[np.int64]:
    """The label given to each clip, [clips]; -1 where there was no speech."""
    spoken = ~np.isnan(probabilities[:, 0])
    found = np.full(len(probabilities), -1)
    found[spoken] = probabilities[spoken].argmax(axis=1)
    return found


def of_each_speaker(recordings: Sequence[Recording]) -> list[Recording]:
    """At most `CLIPS_OF_A_SPEAKER` of each, evenly spread over their order."""
    speakers: dict[str, list[Recording]] = {}
    for recording in recordings:
        speakers.setdefault(recording.speaker, []).append(recording)
    return [
        own[place]
        for own in speakers.values()
        for place in np.linspace(0, len(own) - 1, min(len(own), CLIPS_OF_A_SPEAKER)).astype(int)
    ]


def measure(classifier: Classifier, recordings: Sequence[Recording], description: str) -> Scores:
    """Hear recordings as the service would and keep their windows' logits.

    Raises:
        ConfigError: a recording cannot be decoded.
    """

    def one(recording: Recording) -> tuple[Heard, Logits]:
        try:
            heard = classifier.hear(recording.path.read_bytes())
        except TimbreError as error:
            raise ConfigError(f"{recording.path}: {error}") from error
        return without_sound(heard), logits_of(classifier, heard)

    # One clip to each stream of the runtime; the order stays.
    with ThreadPoolExecutor(classifier.runner.runtime.streams) as pool:
        answers = list(
            tqdm(pool.map(one, recordings), total=len(recordings), desc=description, unit="clip")
        )
    return collect(recordings, [heard for heard, _ in answers], [logits for _, logits in answers])


def logits_of(classifier: Classifier, heard: Heard) -> Logits:
    """Logits of a clip's windows, float32 [windows, labels]."""
    # One window at a time: the same answer as in a batch, and no padding to think of.
    rows = [classifier.runner([window])[0] for window in heard.batch]
    return np.array(rows, np.float32).reshape(-1, len(LABELS))


def without_sound(heard: Heard) -> Heard:
    """The same, but for its samples: what is needed of it once its windows have logits."""
    silent = replace(heard.clip, samples=heard.clip.samples[:0].copy())
    return replace(heard, clip=silent, batch=())


def collect(
    recordings: Sequence[Recording], heard: Sequence[Heard], logits: Sequence[Logits]
) -> Scores:
    """Put what was heard of each recording, and the logits of its windows, into columns."""
    speaking = [scored(clip.windows) for clip in heard]
    return Scores(
        names=np.array([recording.name for recording in recordings], str),
        corpora=np.array([recording.corpus for recording in recordings], str),
        speakers=np.array([recording.speaker for recording in recordings], str),
        sexes=np.array([recording.sex or "" for recording in recordings], str),
        sentence_shared=np.array([_shared(recording) for recording in recordings], np.int8),
        truth=np.array([LABELS.index(recording.label) for recording in recordings], np.int64),
        duration_s=np.array([clip.clip.duration_s for clip in heard]),
        speech_s=np.array([clip.speech_s for clip in heard]),
        windows=np.array([len(windows) for windows in speaking], np.int64),
        weights=np.array([window.speech_s for windows in speaking for window in windows]),
        logits=np.concatenate([np.empty((0, len(LABELS)), np.float32), *logits]),
    )


def _shared(recording: Recording) -> int:
    shared = sentence_is_shared(recording)
    return -1 if shared is None else int(shared)


def save(folder: Path, sets: Mapping[str, Scores]) -> None:
    """Write each set to `folder`/NAME.npz, beside the labels' order in labels.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.json").write_text(json.dumps(LABELS) + "\n", encoding="utf-8")
    for name, scores in sets.items():
        columns = {field.name: getattr(scores, field.name) for field in fields(scores)}
        np.savez_compressed(folder / f"{name}.npz", **columns)


def load(folder: Path) -> dict[str, Scores]:
    """Read every set that `save` wrote.

    Raises:
        ConfigError: there are none, or their labels are others.
    """
    file = folder / "labels.json"
    if not file.is_file() or json.loads(file.read_text(encoding="utf-8")) != list(LABELS):
        raise ConfigError(f"{folder} holds no scores of these labels; evaluate first.")
    return {path.stem: _read(path) for path in sorted(folder.glob("*.npz"))}


def _read(path: Path) -> Scores:
    with np.load(path) as columns:  # without pickles, which is numpy's default
        return Scores(**{field.name: columns[field.name] for field in fields(Scores)})


def reference(name: str, scores: Scores, temperature: float) -> dict[str, Any]:
    """Statistics of inputs and answers on the set `name`, for measuring drift against."""
    probabilities = scores.probabilities(temperature)[scores.spoken]
    deciles = np.linspace(0, 1, 11)
    confidence = probabilities.max(axis=1)
    prior = np.bincount(probabilities.argmax(axis=1), minlength=len(LABELS)) / len(probabilities)
    return {
        "set": name,
        "clips": len(scores),
        "predicted_prior": dict(zip(LABELS, np.round(prior, 4).tolist(), strict=True)),
        "confidence_deciles": np.round(np.quantile(confidence, deciles), 4).tolist(),
        "duration_s_deciles": np.round(np.quantile(scores.duration_s, deciles), 3).tolist(),
        "speech_s_deciles": np.round(np.quantile(scores.speech_s, deciles), 3).tolist(),
    }
