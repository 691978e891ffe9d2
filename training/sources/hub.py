"""Recordings of a data set that Hugging Face's `datasets` reads, from a hub or a local folder."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from training.config import ConfigError
from training.corpora import recognise
from training.data_settings import Hub
from training.recording import Recording
from training.sources.manifest import sex

HIDDEN = -1
"""What `datasets` has in a column of classes where the label is kept from us."""


def read_hub(settings: Hub, root: Path) -> list[Recording]:
    """Read all splits of a data set of tables; audio stays encoded, for the project's own decoder.

    Recordings in the cells are written out once, as files called by their sha256, into the cache of
    `datasets`. Without a column of speakers all clips have one speaker between them. A data set of
    loose audio files is not for this: `datasets` wants torchcodec for it, and `folders` reads it.

    Raises:
        ConfigError: it isn't there, cannot be read, lacks a column, or has a clip without a label.
    """
    import datasets  # noqa: PLC0415 - seconds, which no other source needs

    source = settings.id or str(root / (settings.path or ""))
    if settings.id is None and not Path(source).is_dir():
        raise ConfigError(f"No folder {source}; for a data set of a hub give its `id`.")
    try:
        splits = datasets.load_dataset(source, name=settings.subset, revision=settings.revision)
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        reason = error.__cause__ or error
        raise ConfigError(f"{source} cannot be read as a data set: {reason}") from error
    clips = Path(datasets.config.HF_DATASETS_CACHE) / "timbre-clips"
    recordings = []
    for split, rows in splits.items():
        _demand(settings, source, rows.column_names)
        encoded = rows.cast_column(settings.columns.audio, datasets.Audio(decode=False))
        names = getattr(rows.features[settings.columns.label], "names", None)
        for number, row in enumerate(tqdm(encoded, desc=f"{source} {split}", unit="clip")):
            name = f"{settings.corpus}/{split}/{number:06}"
            recording = _recording(
                settings, row, name, _file(row[settings.columns.audio], name, clips)
            )
            label = _label(row[settings.columns.label], names, name)
            recordings.append(replace(recording, label=label, split=str(split)))
    return recordings


def _label(cell: object, names: Sequence[str] | None, clip: str) -> str:
    """What a cell says, by the names of the column's classes where it has some."""
    if cell is None or (names is not None and cell == HIDDEN):
        raise ConfigError(
            f"{clip} has no label ({cell}): name another column in `columns`, or give a folder of "
            "Parquet files (`path`) without such rows."
        )
    return names[cell] if names is not None and isinstance(cell, int) else str(cell)


def _demand(settings: Hub, source: str, present: list[str]) -> None:
    """Refuse a data set without a column that the settings name."""
    for role, column in settings.columns.model_dump().items():
        if column is not None and column not in present:
            raise ConfigError(
                f"{source} has no column {column!r} for {role}; its columns are "
                f"{', '.join(present)}. Name them in `columns`."
            )


def _recording(settings: Hub, row: dict[str, Any], name: str, path: Path) -> Recording:
    """A row's recording, its label as it is in the cell, without its split."""
    columns = settings.columns
    known = recognise(Path(row[columns.audio]["path"] or ""), settings.corpus)
    speaker = row[columns.speaker] if columns.speaker else (known.speaker if known else "unknown")
    said = row[columns.sentence] if columns.sentence else (known.sentence if known else None)
    try:
        whose = sex(row[columns.sex]) if columns.sex else (known.sex if known else None)
    except ValueError as error:
        raise ConfigError(f"{name}: {error}") from error
    prefix = f"{settings.corpus}_"
    return Recording(
        path,
        name,
        settings.corpus,
        prefix + str(speaker).removeprefix(prefix),
        settings.language,
        str(row[columns.label]),
        split="",
        sentence=None if said is None else str(said),
        sex=whose,
    )


def _file(audio: dict[str, Any], name: str, clips: Path) -> Path:
    """Where the encoded audio of a cell lies, written there first when it is only in the table."""
    data = audio["bytes"]
    if data is None:
        if audio["path"] is None:
            raise ConfigError(f"{name} has neither audio nor a path to it.")
        return Path(audio["path"])
    path = clips / hashlib.sha256(data).hexdigest()
    if not path.is_file():
        clips.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".part")
        half.write_bytes(data)
        half.replace(path)
    return path
