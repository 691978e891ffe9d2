"""Recordings of noise, and which of them training may hear: some kinds are kept for reports."""

from __future__ import annotations

from pathlib import Path

from service.audio import decode
from service.domain import Samples

KINDS = ("exercise_bike", "helicopter", "chainsaw", "baby_cry")
"""Kept out of training, for the report on noise."""
SUFFIXES = {".flac", ".ogg", ".wav"}
MAX_NOISE_S = 600.0


def is_kept_for_reports(path: Path) -> bool:
    """Whether a recording of noise is of a kind that training must not hear."""
    return any(kind in path.as_posix() for kind in KINDS)


def for_training(folder: Path) -> list[Path]:
    """Every recording of noise below `folder` but those kept for reports; none is fine too."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.suffix in SUFFIXES and not is_kept_for_reports(path.relative_to(folder))
    ]


def decoded(path: Path) -> Samples:
    """Decode a recording: float32 [n] at 16 kHz."""
    return decode(path.read_bytes(), max_duration_s=MAX_NOISE_S).samples
