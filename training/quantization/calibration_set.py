"""The calibration set: real windows of training speakers, by which int8 learns its ranges.

Only of training speakers: what is learned from validation's would make its gate a friend's verdict.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from tqdm.auto import tqdm

from service.classifier import Classifier
from service.domain import Samples
from training.config import ConfigError
from training.digests import by_corpus
from training.recording import Recording

WINDOWS = 300
"""As many as NNCF itself takes; ranges of 128 windows were no better (docs/quantization.md)."""


def choose(recordings: Iterable[Recording], most: int, seed: int) -> list[Recording]:
    """Take recordings of `train` in turns: from each corpus, and in it from each speaker.

    Args:
        recordings: of any split.
        most: how many at most.
        seed: which of a speaker's come first; the same gives the same.

    Raises:
        ConfigError: there is none of `train`.
    """
    rng = np.random.default_rng(seed)
    corpora = []
    for _, members in by_corpus(r for r in recordings if r.split == "train"):
        speakers: dict[str, list[Recording]] = defaultdict(list)
        for place in rng.permutation(len(members)):
            speakers[members[place].speaker].append(members[place])
        corpora.append(list(_in_turns(speakers.values())))
    if not corpora:
        raise ConfigError("There are no recordings of training speakers to calibrate int8 by.")
    return list(itertools.islice(_in_turns(corpora), most))


def windows(classifier: Classifier, recordings: Sequence[Recording], seed: int) -> list[Samples]:
    """Hear recordings as the service would and take one window of speech of each that has any.

    Returns:
        Windows, float32 [1, window] each: a batch of one, as an engine takes it.

    Raises:
        TimbreError: a recording cannot be decoded.
        ConfigError: no speech was found in any.
    """
    rng = np.random.default_rng(seed)
    chosen: list[Samples] = []
    for recording in tqdm(recordings, desc="calibration", unit="clip"):
        batch = classifier.hear(recording.path.read_bytes()).batch
        if batch:
            chosen.append(np.asarray(batch[int(rng.integers(len(batch)))])[None])
    if not chosen:
        raise ConfigError("No speech was found in any recording to calibrate int8 by.")
    return chosen


def _in_turns(groups: Iterable[Sequence[Recording]]) -> Iterator[Recording]:
    """The first of each group, then the second of each, until all are out."""
    for turn in itertools.zip_longest(*groups):
        yield from (recording for recording in turn if recording is not None)
