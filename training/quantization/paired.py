"""Two precisions on the same hearing of the same clips, and what sharing a batch does to one.

A clip is heard once, which is most of the time, and its sound is let go at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from service.classifier import Classifier
from service.domain import Logits, Samples
from service.runner import Runner
from training.config import ConfigError
from training.evaluation.scores import Scores, collect, logits_of, without_sound
from training.recording import Recording

MAX_BATCH = 8
"""Windows in the largest batch that parity is measured in: as many as the service takes."""


@dataclass(frozen=True, slots=True)
class Paired:
    """What both precisions said of the same clips."""

    reference: Scores
    reduced: Scores
    parity: float
    """The most a logit of the reduced precision moved between its window alone and in a batch."""


def measure(reference: Classifier, reduced: Classifier, recordings: Sequence[Recording]) -> Paired:
    """Hear recordings as the service would and keep what both precisions say of their windows.

    Raises:
        TimbreError: a recording cannot be decoded.
        ConfigError: the two never differ, so that one of them was not computed.
    """
    heard, ours, others = [], [], []
    parity = Parity(reduced.runner)
    for recording in tqdm(recordings, desc=reduced.runner.precision, unit="clip"):
        clip = reference.hear(recording.path.read_bytes())
        ours.append(logits_of(reference, clip))
        others.append(logits_of(reduced, clip))
        parity.add(clip.batch, others[-1])
        heard.append(without_sound(clip))
    pair = Paired(
        reference=collect(recordings, heard, ours),
        reduced=collect(recordings, heard, others),
        parity=parity.end(),
    )
    if np.array_equal(pair.reference.logits, pair.reduced.logits):
        raise ConfigError(
            f"{reduced.runner.precision} gives fp32's very logits: this CPU does not compute in "
            "it, so nothing can be said of what it costs. Measure on one that does."
        )
    return pair


class Parity:
    """How far a logit moves when its window shares a batch with those of other clips."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._waiting: list[tuple[Samples, Logits]] = []
        # Every size in turn: an engine may choose another kernel for each.
        self._sizes = itertools.cycle(range(2, MAX_BATCH + 1))
        self._size = next(self._sizes)
        self._largest = 0.0

    def add(self, windows: Sequence[Samples], alone: Logits) -> None:
        """Take windows, float32 [window] each, and their logits alone, [windows, labels]."""
        for pair in zip(windows, alone, strict=True):
            self._waiting.append(pair)
            if len(self._waiting) == self._size:
                self._compare()
                self._size = next(self._sizes)

    def end(self) -> float:
        """The largest movement there was, those that still wait among them."""
        if self._waiting:
            self._compare()
        return self._largest

    def _compare(self) -> None:
        together = self._runner([window for window, _ in self._waiting])
        for (_, alone), shared in zip(self._waiting, together, strict=True):
            self._largest = max(self._largest, float(np.abs(shared - alone).max()))
        self._waiting.clear()
