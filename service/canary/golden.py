"""Golden sets: labelled clips, kept with their digests, that both sides are asked about.

What a model has heard in training, or was chosen by, shows how well it remembers and not how well
it hears: a set that can be shown to be such audio is refused.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from service import recordings
from service.domain import TimbreError
from service.manifest import Digest, Text, first_problem

FORMAT = 1
"""The version of golden.json that this code writes and reads."""
NAME = "golden.json"
MEASURED_ONLY = "test"
"""The split that training only measures; it learns from, or chooses by, all others."""


class GoldenError(TimbreError):
    """A golden set cannot be made, is not as it was made, or isn't one for these models."""

    slug = "golden"
    title = "The golden set cannot be used"


def _inside(file: str) -> str:
    if not file or Path(file).is_absolute() or ".." in Path(file).parts or "\\" in file:
        raise ValueError(f"{file!r} is no path within the set's folder")
    return file


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Clip(_Facts):
    """One labelled clip."""

    file: Annotated[str, AfterValidator(_inside)]
    """Relative to golden.json, between slashes."""
    sha256: Digest
    label: Text
    speaker: Text
    """Clips of one speaker are alike, so they count for less than as many of different ones."""
    corpus: str = ""
    """Where it is from, as training's data calls it; empty where nobody knows."""


class Manifest(_Facts):
    """golden.json."""

    format: Literal[1]
    name: Text
    version: Text
    licence: str = ""
    notes: str = ""
    labels: Annotated[tuple[Text, ...], Field(min_length=2)]
    clips: Annotated[tuple[Clip, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for what in ("file", "sha256"):
            counts = Counter(getattr(clip, what) for clip in self.clips)
            value, times = counts.most_common(1)[0]
            if times > 1:
                raise ValueError(f"{times} clips have the {what} {value}")
        if unknown := sorted({clip.label for clip in self.clips} - set(self.labels)):
            raise ValueError(f"a clip has the label {unknown[0]!r}, which is none of the set's")
        return self


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """A set whose every file has been verified."""

    folder: Path
    manifest: Manifest
    digest: str
    """sha256 of golden.json, and so of every clip."""

    @property
    def title(self) -> str:
        """What reports call it."""
        return f"{self.manifest.name} {self.manifest.version} ({self.digest[:12]})"

    def data(self, clip: Clip) -> bytes:
        """Give a clip's bytes, which a server takes as they are.

        Raises:
            GoldenError: they are not those of the manifest, or too many.
        """
        return clip_bytes(self.folder / clip.file, clip.sha256)


def read(path: Path, progress: Callable[[], None] = lambda: None) -> GoldenSet:
    """Read golden.json, and verify every file that it lists.

    Args:
        path: of golden.json.
        progress: called a file.

    Raises:
        GoldenError: it cannot be read, says what it may not, or a file is missing or another.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise GoldenError(f"{path}: {error.strerror}.") from error
    try:
        manifest = Manifest.model_validate_json(raw)
    except ValidationError as error:
        raise GoldenError(f"{path} is no golden set: {first_problem(error)}.") from error
    opened = GoldenSet(path.parent, manifest, hashlib.sha256(raw).hexdigest())
    for clip in manifest.clips:
        opened.data(clip)
        progress()
    return opened


def clip_bytes(path: Path, sha256: str | None = None) -> bytes:
    """Give a file's bytes if they are these, and a server takes them.

    Raises:
        GoldenError: they are not, or cannot be read.
    """
    try:
        data = recordings.clip_bytes(path)
    except TimbreError as error:
        raise GoldenError(f"{path}: {error}") from error
    if data is None:
        raise GoldenError(f"{path} is longer or larger than what a server takes.")
    if sha256 is not None and hashlib.sha256(data).hexdigest() != sha256:
        raise GoldenError(f"{path} is not the file that the set was made of.")
    return data


def require_unseen(opened: GoldenSet, who: str, data: Iterable[Mapping[str, Any]]) -> list[str]:
    """Refuse a set that a model is known to have learned from or been chosen by.

    What a bundle says of its data is a digest a corpus and split, over names, labels and bytes of
    all its clips. So it can be shown that a set's clips of a corpus are those; of some of them
    nothing can be shown either way.

    Args:
        opened: the set.
        who: the model, such as `stable (tiny 1.0.0)`.
        data: what its bundle says of its data, as `/v1/model` has it.

    Returns:
        Sentences on what could not be checked.

    Raises:
        GoldenError: it is such a set.
    """
    parts = [part for part in data if part["split"] != MEASURED_ONLY]
    by_digest = {part["sha256"]: part for part in parts}
    groups = defaultdict(list)
    for clip in opened.manifest.clips:
        groups[clip.corpus].append(clip)
    for members in [*groups.values(), opened.manifest.clips]:
        part = by_digest.get(digest(members))
        if part is not None:
            raise GoldenError(
                f"The golden set {opened.title} has clips of {part['name']} that {who} was "
                f"made with: they are its split {part['split']}, all {part['clips']} of them."
            )
    if not parts:
        return [f"What {who} was trained on isn't recorded, so nothing of it could be compared."]
    shared = sorted(set(groups) & {part["name"] for part in parts})
    notes = []
    if shared:
        notes.append(
            f"{who} was also made with clips of {', '.join(shared)}: that they are others than "
            "the golden set's cannot be checked."
        )
    if "" in groups:
        notes.append(
            f"For {len(groups[''])} clips of the golden set no corpus is named: that {who} wasn't "
            "made with them cannot be checked."
        )
    return notes


def digest(clips: Iterable[Clip]) -> str:
    """Give the digest that training gives to recordings of these names, labels and bytes."""
    sha = hashlib.sha256()
    for clip in sorted(clips, key=lambda clip: clip.file):
        sha.update(f"{clip.file}\t{clip.label}\t{clip.sha256}\n".encode())
    return sha.hexdigest()


def require_apart(opened: GoldenSet, folder: Path) -> int:
    """Refuse a set with a clip whose very bytes are in a folder, such as that of training's data.

    Returns:
        How many files it was compared with.

    Raises:
        GoldenError: one is, or the folder has no recordings.
    """
    ours = {clip.sha256: clip.file for clip in opened.manifest.clips}
    files = [path for path in recordings.find([folder]) if path.is_file()]
    if not files:
        raise GoldenError(f"{folder} has no recordings.")
    for path in files:
        with path.open("rb") as file:
            same = ours.get(hashlib.file_digest(file, "sha256").hexdigest())
        if same is not None:
            raise GoldenError(f"{same} of the golden set is {path}.")
    return len(files)
