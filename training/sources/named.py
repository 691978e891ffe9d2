"""Recordings of a published corpus, which say in their names what they are."""

from __future__ import annotations

from pathlib import Path

from training.config import ConfigError
from training.corpora import CORPORA, recognise
from training.data_settings import Named
from training.recording import Recording
from training.sources.files import audio_files


def read_named(settings: Named, root: Path) -> list[Recording]:
    """Read every audio file under `settings.path`, however deep; RAVDESS's songs are left out.

    Raises:
        ConfigError: no folder, no files, or a file that isn't named as the corpus names its own.
    """
    folder = root / settings.path
    recordings = []
    for path in audio_files(folder):
        known = recognise(path, settings.kind)
        if known is None:
            raise ConfigError(
                f"{path} is not named as files of {settings.kind} are; move it elsewhere, or list "
                "the recordings in a manifest."
            )
        if known.song:
            continue
        recordings.append(
            Recording(
                path,
                path.relative_to(folder).as_posix(),
                known.corpus,
                known.speaker,
                CORPORA[known.corpus].language,
                known.label,
                split="",
                sentence=known.sentence,
                sex=known.sex,
            )
        )
    return recordings
