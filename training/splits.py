"""Dividing recordings into splits, and refusing divisions that would make figures false."""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from training.config import ConfigError
from training.data_settings import Data
from training.digests import content, duplicates
from training.recording import SPLITS, Recording


def divide(recordings: Sequence[Recording], settings: Data) -> list[Recording]:
    """Give every recording its split, in three steps, and check the result.

    1. train, validation and test, by `settings.split`;
    2. `left_out_corpora`: their training clips to `left-out`; their other clips are left out;
    3. `development_speakers`: their training clips to `development`.

    Raises:
        ConfigError: a split, speaker or corpus isn't known, a division isn't possible, or `check`
            refuses the result.
    """
    divided = _DIVISIONS[settings.split](recordings, settings)
    divided = _leave_out(divided, settings.left_out_corpora)
    divided = _develop(divided, settings.development_speakers)
    check(divided, speakers=settings.split != "random")
    return divided


def check(recordings: Sequence[Recording], *, speakers: bool) -> None:
    """Refuse what would make figures on strangers false.

    Args:
        recordings: all, each with its split.
        speakers: whether no speaker may be in two splits.

    Raises:
        ConfigError: a speaker or a file's content is in two splits, or a content has two labels.
    """
    splits: dict[str, str] = {}
    for recording in recordings if speakers else ():
        before = splits.setdefault(recording.speaker, recording.split)
        if before != recording.split:
            raise ConfigError(
                f"Speaker {recording.speaker} is in two splits, {before} and {recording.split}; "
                'figures on strangers would be false. Divide anew with split = "speakers".'
            )
    for first, *others in duplicates(recordings):
        for other in others:
            for what in ("split", "label"):
                mine, its = getattr(first, what), getattr(other, what)
                if mine != its:
                    raise ConfigError(
                        f"{first.path} and {other.path} are the same file with two {what}s, "
                        f"{mine} and {its}; remove one."
                    )


def _as_given(recordings: Sequence[Recording], _settings: Data) -> list[Recording]:
    for recording in recordings:
        if not recording.split:
            raise ConfigError(
                f"{recording.path}: its source has no splits; give the source one with `split`, or "
                'set split = "random" or "speakers" in [data].'
            )
        if recording.split not in SPLITS:
            raise ConfigError(
                f"{recording.path}: unknown split {recording.split!r}; known are "
                f"{', '.join(SPLITS)}."
            )
    return list(recordings)


def _at_random(recordings: Sequence[Recording], settings: Data) -> list[Recording]:
    """Divide clips, whoever speaks; the same content always falls on one side."""
    names: dict[str, str] = {}
    for recording in recordings:
        if recording.split != "test":
            sha256 = content(recording.path)
            # The smallest of the same content's, whichever comes first.
            names[sha256] = min(recording.name, names.get(sha256, recording.name))
    free = sorted(names.items(), key=lambda item: item[1])
    chosen = np.random.default_rng(settings.seed).permutation(len(free))
    count = math.ceil(settings.validation_share * len(free))
    validation = {free[index][0] for index in chosen[:count]}
    return _divided(recordings, {r.name for r in recordings if content(r.path) in validation})


def _by_speakers(recordings: Sequence[Recording], settings: Data) -> list[Recording]:
    """Divide speakers: those that are named, or a share of each corpus's."""
    speakers: dict[str, set[str]] = defaultdict(set)
    for recording in recordings:
        if recording.split != "test":
            speakers[recording.corpus].add(recording.speaker)
    validation = set(settings.validation_speakers)
    _demand(validation, {name for names in speakers.values() for name in names}, "validation")
    for corpus, names in speakers.items() if not validation else ():
        # Seeded by the corpus as well: another corpus beside it changes nothing for this one.
        rng = np.random.default_rng((settings.seed, zlib.crc32(corpus.encode())))
        # At least one stays in train, and one goes to validation where there are two.
        count = min(max(1, round(settings.validation_share * len(names))), len(names) - 1)
        validation |= set(rng.permutation(sorted(names))[:count].tolist())
    return _divided(recordings, {r.name for r in recordings if r.speaker in validation})


_DIVISIONS = {"given": _as_given, "random": _at_random, "speakers": _by_speakers}


def _divided(recordings: Sequence[Recording], validation: set[str]) -> list[Recording]:
    return [
        recording
        if recording.split == "test"
        else replace(recording, split="validation" if recording.name in validation else "train")
        for recording in recordings
    ]


def _leave_out(recordings: Sequence[Recording], corpora: Sequence[str]) -> list[Recording]:
    _demand(set(corpora), {r.corpus for r in recordings if r.split == "train"}, "left-out")
    return [
        replace(recording, split="left-out") if recording.corpus in corpora else recording
        for recording in recordings
        if recording.corpus not in corpora or recording.split == "train"
    ]


def _develop(recordings: Sequence[Recording], speakers: Sequence[str]) -> list[Recording]:
    # A speaker of a corpus that is left out is known too: one list serves every corpus left out.
    known = {r.speaker for r in recordings if r.split in ("train", "left-out")}
    _demand(set(speakers), known, "development")
    return [
        replace(recording, split="development")
        if recording.split == "train" and recording.speaker in speakers
        else recording
        for recording in recordings
    ]


def _demand(asked: set[str], known: set[str], what: str) -> None:
    if missing := sorted(asked - known):
        raise ConfigError(
            f"{missing[0]} ({what}) has no clips to divide; there are {', '.join(sorted(known))}."
        )
