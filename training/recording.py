"""A labelled recording, and the words that every part of training uses for it.

Apart from all that reads or divides recordings, so that those parts need not know each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad")
SPLITS = ("train", "development", "left-out", "validation", "test")
"""development: speakers of train, kept for choices. left-out: corpora of train, kept likewise."""

DEVELOPMENT_SPEAKERS = (
    "ravdess_17",
    "ravdess_18",
    "ravdess_19",
    "ravdess_20",
    "savee_JK",
    "nemo_SM0",
    "nemo_MP0",
)
"""Training speakers of the corpora of compact.toml that choices are made by. TESS is not among
them: it has one."""

Sex: TypeAlias = Literal["female", "male"]

AUDIO_SUFFIXES = frozenset({".flac", ".mp3", ".oga", ".ogg", ".opus", ".wav"})
"""Of the files that a scan of a folder takes for recordings, in lower case."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One labelled file."""

    path: Path
    name: str
    """What it is called in reports, digests and seeds: its path within its source."""
    corpus: str
    speaker: str
    language: str
    """Code of ISO 639-1; empty where the source doesn't tell."""
    label: str
    """As its source calls it, until `training.data.load` maps it to one of LABELS."""
    split: str
    """One of SPLITS; empty where the source has none, until `training.data.load` divides."""
    sentence: str | None = None
    """Which sentence is said, as an identity (`ravdess:01`), not as text; None: unknown."""
    sex: Sex | None = None
    """Of the speaker, as the corpus's authors state it; None: unknown."""
