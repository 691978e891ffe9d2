"""Finding audio files in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from training.config import ConfigError
from training.recording import AUDIO_SUFFIXES


def audio_files(folder: Path) -> Iterator[Path]:
    """Every audio file under `folder`, in order of path; hidden ones are not recordings.

    Raises:
        ConfigError: there is no such folder, or no audio in it.
    """
    if not folder.is_dir():
        raise ConfigError(f"No folder {folder}; give it with `path` in [[data.sources]].")
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")
    )
    if not files:
        raise ConfigError(f"No audio files ({', '.join(sorted(AUDIO_SUFFIXES))}) in {folder}.")
    yield from files
