"""Recordings in a folder for each label, as the Kaggle set "Audio Emotions" has them."""

from __future__ import annotations

from pathlib import Path

from training.config import ConfigError
from training.corpora import CORPORA, recognise
from training.data_settings import SOURCE_LABELS, Folders
from training.recording import Recording
from training.sources.files import audio_files


def read_folders(settings: Folders, root: Path) -> list[Recording]:
    """Read every audio file under `settings.path`; the folder right below it is the label.

    Corpus, speaker, sentence and sex are read from the names of the files. All files whose names
    tell nothing have one speaker between them: nobody knows who speaks, so none of them may be on
    the other side of a division by speakers.

    Raises:
        ConfigError: no folder, no files, a file outside the labels' folders, or a file whose name
            says another label than its folder while `settings.trust` doesn't say which holds.
    """
    folder = root / settings.path
    recordings, contradictions = [], []
    for path in audio_files(folder):
        name = path.relative_to(folder)
        if len(name.parts) == 1:
            raise ConfigError(f"{path} is in no label's folder; put it into {folder}/LABEL.")
        label = name.parts[0]
        known = recognise(path)
        if known and not _agree(label, known.label):
            contradictions.append((path, known.label))
            label = known.label if settings.trust == "name" else label
        corpus = known.corpus if known else settings.corpus
        recordings.append(
            Recording(
                path,
                name.as_posix(),
                corpus,
                known.speaker if known else f"{settings.corpus}_unknown",
                CORPORA[corpus].language if known else settings.language,
                label,
                split="",
                sentence=known.sentence if known else None,
                sex=known.sex if known else None,
            )
        )
    if contradictions and settings.trust is None:
        path, label = contradictions[0]
        raise ConfigError(
            f"{len(contradictions)} files in {folder} are named for another label than their "
            f'folder\'s; the first is {path}, named for {label}. Say with trust = "folder" or '
            '"name" which holds.'
        )
    return recordings


def _agree(folder: str, name: str) -> bool:
    """Whether two words mean one label; words that mean none of ours are compared as they are."""
    first, second = (SOURCE_LABELS.get(label.lower()) or label.lower() for label in (folder, name))
    surprises = {"surprise", "surprised", "suprised", "pleasant surprise"}
    return first == second or {first, second} <= surprises
