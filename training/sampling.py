"""Which clips an epoch hears, and in which order; a pure function of seed and epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from training.config import Sampling


@dataclass(frozen=True, slots=True)
class Draw:
    """One clip's turn in an epoch."""

    index: int
    """Of the clip."""
    epoch: int
    turn: int
    """How often this epoch drew the clip before."""


@dataclass(frozen=True, slots=True)
class Group:
    """What a clip is balanced by."""

    corpus: str
    speaker: str
    label: int


class Draws(torch.utils.data.Sampler[Draw]):
    """Draws the clips of an epoch.

    As they come, each clip is drawn once, shuffled. Balanced, a corpus is drawn first, then one of
    its speakers, then one of the speaker's labels, then a clip, so that neither a large corpus nor
    a speaker who recorded more nor a frequent label has the say.

    Set `epoch` before each; the same epoch is drawn the same whenever a run is resumed.
    """

    def __init__(self, groups: Sequence[Group], settings: Sampling, seed: int) -> None:
        self._size = settings.clips_per_epoch or len(groups)
        self._chances = chances(groups, settings) if settings.balanced else None
        self._groups = groups
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Draw]:
        rng = np.random.default_rng((self._seed, self.epoch))
        turns: Counter[int] = Counter()
        if self._chances is None:
            order = rng.permutation(len(self._groups))
            chosen = np.resize(order, self._size)
        else:
            chosen = rng.choice(len(self._groups), self._size, p=self._chances)
        for index in chosen.tolist():
            yield Draw(index, self.epoch, turns[index])
            turns[index] += 1


def chances(groups: Sequence[Group], settings: Sampling) -> NDArray[np.float64]:
    """The probability [clips] with which balanced drawing takes each clip; they sum to 1.

    A corpus of n clips has a share in proportion to n to the `corpus_power`; its speakers share
    alike, and so do the labels of a speaker.
    """
    corpora = Counter(group.corpus for group in groups)
    speakers = Counter(corpus for corpus, _ in {(g.corpus, g.speaker) for g in groups})
    labels = Counter((group.corpus, group.speaker) for group in set(groups))
    clips = Counter(groups)
    shares = np.array(
        [
            corpora[group.corpus] ** settings.corpus_power
            / speakers[group.corpus]
            / labels[group.corpus, group.speaker]
            / clips[group]
            for group in groups
        ]
    )
    normalised: NDArray[np.float64] = shares / shares.sum()
    return normalised
