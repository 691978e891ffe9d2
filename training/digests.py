"""What recordings are made of: digests that name the data of a run, and files that are the same."""

from __future__ import annotations

import functools
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from service.bundle import DataFacts
from training.corpora import licence
from training.recording import Recording


def content(path: Path) -> str:
    """sha256 of a file's bytes; a file that hasn't changed is read once in a process."""
    status = path.stat()
    return _content(path, status.st_size, status.st_mtime_ns)


@functools.cache
def _content(path: Path, _size: int, _modified_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(recordings: Sequence[Recording]) -> str:
    """sha256 over the names, labels and bytes of the recordings, in order of path."""
    sha = hashlib.sha256()
    for recording in sorted(recordings, key=lambda recording: recording.path):
        sha.update(f"{recording.name}\t{recording.label}\t{content(recording.path)}\n".encode())
    return sha.hexdigest()


def files(paths: Iterable[Path], folder: Path) -> str:
    """sha256 over the places within `folder` and the bytes of files, in order of place."""
    sha = hashlib.sha256()
    for path in sorted(paths):
        sha.update(f"{path.relative_to(folder).as_posix()}\t{content(path)}\n".encode())
    return sha.hexdigest()


def duplicates(recordings: Iterable[Recording]) -> list[list[Recording]]:
    """Recordings of the same bytes, together; those that are alone are left out."""
    same: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        same[content(recording.path)].append(recording)
    return [members for members in same.values() if len(members) > 1]


def by_corpus(recordings: Iterable[Recording]) -> list[tuple[str, list[Recording]]]:
    """Recordings of each corpus, in order of its name."""
    found: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        found[recording.corpus].append(recording)
    return sorted(found.items())


def facts(sets: Mapping[str, Sequence[Recording]]) -> Iterator[DataFacts]:
    """What each corpus gave to each split, with its digest, as a bundle's manifest states it."""
    for split, recordings in sets.items():
        for corpus, members in by_corpus(recordings):
            yield DataFacts(
                name=corpus,
                split=split,
                clips=len(members),
                sha256=digest(members),
                licence=licence(corpus),
            )
