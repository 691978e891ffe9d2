"""What a folder of recordings (speech/manifest.csv, noise/) shows about a served model."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from tqdm.auto import tqdm

from benchmarks.load import solo
from service.audio import decode
from service.classifier import Classifier
from service.domain import SAMPLE_RATE, Clip, Decision, Result, Samples

MAX_NOISE_S = 600.0


@dataclass(frozen=True, slots=True)
class Labelled:
    """A recording of the manifest."""

    path: Path
    corpus: str
    label: str


def read(folder: Path, split: str) -> list[Labelled]:
    """The recordings of one split."""
    with (folder / "manifest.csv").open(newline="") as lines:
        return [
            Labelled(folder / row["path"], row["corpus"], row["label"])
            for row in csv.DictReader(lines)
            if row["split"] == split
        ]


def as_clip(samples: Samples) -> Clip:
    """Samples at SAMPLE_RATE as a decoded clip."""
    return Clip(samples, samples.size / SAMPLE_RATE, SAMPLE_RATE, 1)


def wav(samples: Samples) -> bytes:
    """Samples as a 16-bit WAV file."""
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def heard_as_silence(
    classifier: Classifier, speech: Sequence[Labelled], noises: Sequence[Samples], snr_db: float
) -> list[bool]:
    """Whether each recording, with noise mixed in at `snr_db` (inf: none), is `no_speech`.

    The SNR is that of the span that has speech in the clean recording.
    """
    # Here, so that only who needs it waits for torch.
    from training.augment import add_noise  # noqa: PLC0415

    random = np.random.default_rng(0)
    missed = []
    for recording in tqdm(speech, desc=f"speech at {snr_db:g} dB", unit="clip"):
        samples = decode(recording.path.read_bytes()).samples
        if np.isfinite(snr_db):
            first, last = _spoken(classifier, samples)
            noise = noises[int(random.integers(len(noises)))]
            noise = np.roll(noise, -int(random.integers(noise.size)))
            samples = add_noise(samples, noise, snr_db, slice(first, last))
        missed.append(not classifier.listen(as_clip(samples)).batch)
    return missed


def _spoken(classifier: Classifier, samples: Samples) -> tuple[int, int]:
    windows = classifier.listen(as_clip(samples)).windows
    return (windows[0].start, windows[-1].stop) if windows else (0, samples.size)


def noise_recordings(folder: Path) -> dict[str, Samples]:
    """Every noise recording, decoded, by its path."""
    return {
        path.relative_to(folder).as_posix(): decode(
            path.read_bytes(), max_duration_s=MAX_NOISE_S
        ).samples
        for path in sorted(folder.rglob("*"))
        if path.suffix in {".flac", ".ogg", ".wav"}
    }


def label_changes(
    classifier: Classifier, speech: Sequence[Labelled], silence_s: float
) -> dict[str, int]:
    """Labels that change when silence is put before, after, and around each recording."""
    silence = np.zeros(round(silence_s * SAMPLE_RATE), np.float32)
    changes = {"before": 0, "after": 0, "both": 0}
    for recording in tqdm(speech, desc=f"{silence_s:g} s of silence", unit="clip"):
        samples = decode(recording.path.read_bytes()).samples
        label = _result(classifier, samples).label
        for where, parts in (
            ("before", (silence, samples)),
            ("after", (samples, silence)),
            ("both", (silence, samples, silence)),
        ):
            changes[where] += _result(classifier, np.concatenate(parts)).label != label
    return changes


def _result(classifier: Classifier, samples: Samples) -> Result:
    return classifier.classify(classifier.listen(as_clip(samples)))


def over_http(port: int, classifier: Classifier, speech: Sequence[Labelled]) -> dict[str, Any]:
    """Compare a server's answers with the evaluation's own, clip by clip."""
    clips = [recording.path.read_bytes() for recording in speech]
    answers = asyncio.run(solo(port, clips))
    labels = decisions = right = 0
    largest = 0.0
    for recording, clip, answer in zip(speech, clips, answers, strict=True):
        result = classifier.classify(classifier.hear(clip))
        labels += answer["label"] != result.label
        decisions += Decision(answer["decision"]) is not result.decision
        right += answer["label"] == recording.label
        for label, score in result.probabilities.items():
            largest = max(largest, abs(answer["probabilities"][label] - score))
    return {
        "clips": len(clips),
        "labels_that_differ": labels,
        "decisions_that_differ": decisions,
        "largest_difference_of_a_probability": largest,
        "accuracy_over_http": round(right / len(clips), 4),
    }
