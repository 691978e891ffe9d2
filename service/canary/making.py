"""Recordings become a golden set: found in a folder or a CSV file, copied, and written down."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from service import recordings
from service.canary.golden import (
    FORMAT,
    MEASURED_ONLY,
    GoldenError,
    GoldenSet,
    Manifest,
    clip_bytes,
    read,
)
from service.manifest import first_problem


@dataclass(frozen=True, slots=True)
class Labelled:
    """A recording that is to be in a set; `name` is its path within where it is from."""

    path: Path
    name: str
    label: str
    speaker: str
    corpus: str = ""


def listed(source: Path) -> list[Labelled]:
    """List what a folder or a CSV file has.

    A folder has a folder for each label, with recordings or a folder for each speaker. CSV has the
    columns file (or path), label, speaker and, if known, corpus and split, with files relative to
    it; of splits other than test nothing is taken. In a folder without speakers every clip counts
    as one.

    Raises:
        GoldenError: there is none, or something that must be said isn't.
    """
    found = list(_in_folder(source) if source.is_dir() else _in_csv(source))
    if not found:
        raise GoldenError(f"{source} has no recordings.")
    return found


def _in_folder(folder: Path) -> Iterator[Labelled]:
    for path in recordings.find([folder]):
        parts = path.relative_to(folder).parts
        if len(parts) not in {2, 3}:
            raise GoldenError(f"{path} is not in a folder LABEL or LABEL/SPEAKER of {folder}.")
        name = "/".join(parts)
        label, *speaker, _ = parts
        yield Labelled(path, name, label, speaker[0] if speaker else name)


def _in_csv(file: Path) -> Iterator[Labelled]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            for number, row in enumerate(csv.DictReader(opened), start=2):
                if row.get("split") not in {None, "", MEASURED_ONLY}:
                    continue
                name = row.get("file") or row.get("path")
                label, speaker = row.get("label"), row.get("speaker")
                if not (name and label and speaker):
                    raise GoldenError(f"{file}, line {number}: needs file, label and speaker.")
                path = file.parent / name
                yield Labelled(path, name, label, speaker, row.get("corpus") or "")
    except OSError as error:
        raise GoldenError(f"{file}: {error.strerror}.") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise GoldenError(f"{file} is no CSV file in UTF-8.") from error


def create(
    found: Sequence[Labelled],
    out: Path,
    *,
    name: str,
    version: str = "1",
    licence: str = "",
    notes: str = "",
    labels: Sequence[str] = (),
) -> GoldenSet:
    """Write golden.json, with its clips beside it under the names that they had.

    Args:
        found: the clips; those that are not in the folder of `out` are copied there.
        out: path of golden.json.
        name: of the set.
        version: of the set; another one where anything changes.
        licence: of the clips.
        notes: what whoever uses it should know.
        labels: in this order; those that clips have if empty.

    Raises:
        GoldenError: a clip cannot be read, isn't one that a server takes, or is there twice.
    """
    folder = out.parent
    clips = []
    for one in found:
        data = clip_bytes(one.path)
        clips.append(
            {
                "file": one.name,
                "sha256": hashlib.sha256(data).hexdigest(),
                "label": one.label,
                "speaker": one.speaker,
                "corpus": one.corpus,
            }
        )
    facts: dict[str, Any] = {
        "format": FORMAT,
        "name": name,
        "version": version,
        "licence": licence,
        "notes": notes,
        "labels": labels or sorted({one.label for one in found}),
        "clips": clips,
    }
    try:
        manifest = Manifest.model_validate(facts)
    except ValidationError as error:
        raise GoldenError(f"These clips make no set: {first_problem(error)}.") from error
    try:
        for one in found:
            _copy(one.path, folder / one.name)
        text = json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n"
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise GoldenError(f"{error.filename}: {error.strerror}.") from error
    return read(out)


def _copy(source: Path, target: Path) -> None:
    if target.exists() and target.samefile(source):
        return
    if target.exists():
        raise GoldenError(f"{target} is there already; take another folder.")
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
