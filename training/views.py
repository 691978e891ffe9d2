"""What a model hears of a clip: an augmented window to learn from, a plain one to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import datasets
import torch

from service.domain import Samples, Window, WindowSpec
from service.voice import FRAME
from service.windows import cut, span
from training import corpora as published
from training.augment import augment, rng_of
from training.config import Augmentation
from training.data import arrays
from training.recording import LABELS
from training.sampling import Draw


class TrainingWindows(torch.utils.data.Dataset[dict[str, Any]]):
    """An augmented window of a clip for each draw; a pure function of the seed and the draw.

    Items: input_values, float32 [window]; labels, the class's index; annotated, bool [labels]:
    which classes the clip's corpus could have been given at all.
    """

    def __init__(
        self,
        clips: datasets.Dataset,
        spec: WindowSpec,
        settings: Augmentation,
        noises: Sequence[Samples],
        seed: int,
    ) -> None:
        self._clips = clips
        self._spec = spec
        self._settings = settings
        self._noises = noises
        self._seed = seed
        self._annotated = annotated(clips["corpus"], clips["label"])

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, draw: Draw) -> dict[str, Any]:
        clip = self._clips[draw.index]
        samples, speech = arrays(clip)
        # A clip that an epoch hears twice is heard in two ways.
        name = f"{clip['clip']}#{draw.turn}" if draw.turn else clip["clip"]
        rng = rng_of(self._seed, draw.epoch, name)
        view, window = augment(samples, speech, self._spec, self._settings, self._noises, rng=rng)
        return {
            "input_values": cut(view, window, self._spec),
            "labels": clip["label"],
            "annotated": self._annotated[clip["corpus"]],
        }


class CentredWindows(torch.utils.data.Dataset[dict[str, Any]]):
    """The middle window of each clip: quick figures while training, never a headline."""

    def __init__(self, clips: datasets.Dataset, spec: WindowSpec) -> None:
        self._clips = clips
        self._spec = spec

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self._clips[index]
        samples, speech = arrays(clip)
        first, last = span(speech, FRAME, samples.size)
        start = max(first, (first + last - self._spec.window) // 2)
        window = Window(start, min(start + self._spec.window, last), 0.0)
        return {"input_values": cut(samples, window, self._spec), "labels": clip["label"]}


def annotated(corpora: Sequence[str], labels: Sequence[int]) -> dict[str, torch.Tensor]:
    """Which classes the authors of each corpus chose from: bool [labels] by corpus.

    That a corpus has none of a class says nothing of how its clips would be called if it had.
    """
    seen: dict[str, set[str]] = {corpus: set() for corpus in corpora}
    for corpus, label in zip(corpora, labels, strict=True):
        seen[corpus].add(LABELS[label])
    chosen = {
        corpus: found.union(published.annotated(corpus, found)) for corpus, found in seen.items()
    }
    return {
        corpus: torch.tensor([label in classes for label in LABELS])
        for corpus, classes in chosen.items()
    }
