"""Recordings that a CSV file lists."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from training.config import ConfigError
from training.corpora import recognise
from training.data_settings import Manifest
from training.recording import Recording, Sex

_COLUMNS = ("path", "corpus", "speaker", "language", "label", "split")
_SEXES: dict[str, Sex] = {"female": "female", "f": "female", "male": "male", "m": "male"}


def read_manifest(settings: Manifest, root: Path) -> list[Recording]:
    """Read manifest.csv: path, corpus, speaker, language, label, split, maybe sentence and sex.

    What it doesn't say of sentence and sex is read from the file's name, if the corpus is known.

    Raises:
        ConfigError: no manifest, a missing column, no rows or too short a one, a sex that is
            neither, an encoding other than UTF-8.
    """
    folder = root / settings.path
    file = folder / "manifest.csv"
    if not file.is_file():
        raise ConfigError(
            f"No manifest.csv in {folder}; give the folder it is in with --data and `path`."
        )
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:  # Excel writes such a mark
            rows = list(csv.DictReader(lines))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} isn't in UTF-8; save it so ({error}).") from error
    if not rows:
        raise ConfigError(f"{file} lists no recordings.")
    recordings = []
    for number, row in enumerate(rows, start=2):
        try:
            recordings.append(_recording(folder, row))
        except KeyError as error:
            raise ConfigError(f"{file}:{number}: no column {error}.") from error
        except ValueError as error:
            raise ConfigError(f"{file}:{number}: {error}") from error
    return recordings


def _recording(folder: Path, row: Mapping[str, str]) -> Recording:
    if None in [row[column] for column in _COLUMNS]:
        raise ValueError("the line has too few cells.")
    path = folder / row["path"]
    known = recognise(path, row["corpus"])
    return Recording(
        path=path,
        name=row["path"],
        corpus=row["corpus"],
        speaker=row["speaker"],
        language=row["language"],
        label=row["label"],
        split=row["split"],
        sentence=row.get("sentence") or (known.sentence if known else None),
        sex=sex(row.get("sex")) or (known.sex if known else None),
    )


def sex(text: str | None) -> Sex | None:
    """Read a cell: female, f, male, m in any case, or nothing.

    Raises:
        ValueError: it is something else.
    """
    if not text:
        return None
    if text.lower() not in _SEXES:
        raise ValueError(f"sex is {text!r}; write female, male or nothing.")
    return _SEXES[text.lower()]
