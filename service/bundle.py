"""Open and verify a bundle: the folder that holds one version of a model.

A bundle comes from elsewhere (a training job, a registry, a volume), so nothing in it is used
before its bundle.json is valid and every file has the size and sha256 written there. Nothing in it
is ever unpickled or run. What bundle.json says is manifest.py's; it is re-exported here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from service.manifest import (
    CARD,
    FORMAT,
    MANIFEST,
    REMEDY,
    SUFFIXES,
    AudioDraft,
    AudioFacts,
    AudioManifest,
    DataFacts,
    FileFacts,
    GateFacts,
    Lost,
    Manifest,
    Precision,
    PrecisionFacts,
    RuntimeName,
    first_problem,
    json_schema,
    parse_manifest,
    refuse,
)

__all__ = [
    "CARD",
    "DEFAULT_BUNDLE",
    "FORMAT",
    "MANIFEST",
    "MAX_MANIFEST_BYTES",
    "SUFFIXES",
    "AudioDraft",
    "AudioFacts",
    "AudioManifest",
    "Bundle",
    "DataFacts",
    "FileFacts",
    "GateFacts",
    "Lost",
    "Manifest",
    "Precision",
    "PrecisionFacts",
    "RuntimeName",
    "json_schema",
    "open_bundle",
    "parse_manifest",
    "seal",
]

DEFAULT_BUNDLE = Path(__file__).parent / "default_bundle"
"""The bundle that is served when nobody names another."""

MAX_MANIFEST_BYTES = 4 << 20
"""More bytes than this in a bundle.json are not read."""

# OpenVINO's .bin is raw weights, PyTorch's is a pickle, alone or in a zip; PyTorch's older files
# open with its magic number pickled at protocol 2, any other pickle since 2014 with a frame.
_PICKLE = re.compile(
    rb"PK\x03\x04|\x80\x02\x8a\x0al\xfc\x9c|\x80[\x04\x05]\x95.{4}\0{4}", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle. `digest` is the sha256 of bundle.json, which covers every file."""

    folder: Path
    manifest: Manifest
    digest: str

    def path(self, relative: str) -> Path:
        """Where a listed file is, or a folder that holds listed files.

        Raises BundleError for anything that was not verified.
        """
        known = self.manifest.files
        if relative not in known and not any(name.startswith(f"{relative}/") for name in known):
            refuse(self.folder, f"has no file {relative}", "ask for one that bundle.json lists")
        return self.folder / relative

    def weights(self, precision: Precision, runtime: RuntimeName) -> Path:
        """Return the .xml (openvino) or folder (torch) to load, or raise BundleError."""
        facts = self.manifest.precisions.get(precision)
        if facts is None or runtime not in facts.runtimes:
            refuse(self.folder, f"has no {precision} weights for {runtime}", "choose another")
        return self.path(facts.runtimes[runtime])


def open_bundle(folder: Path, *, digest: str | None = None) -> Bundle:
    """Verify the bundle in `folder` and return it; with `digest`, only if it is that very one.

    Raises BundleError, one sentence that names the file and what to do, when bundle.json is
    missing, invalid or from a newer Timbre, and when a file is missing, altered, unlisted or a
    link.
    """
    raw = _read_manifest(folder)
    found = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    if digest not in {None, found}:
        refuse(folder, f"is not the expected one: {MANIFEST} has {found}", f"get {digest}")
    manifest = parse_manifest(raw, str(folder))
    present = set(_walk(folder)) - {MANIFEST}
    if extra := sorted(present - set(manifest.files)):
        refuse(folder, f"holds {extra[0]}, which {MANIFEST} does not list", "remove that file")
    for name, facts in manifest.files.items():
        if name not in present:
            refuse(folder, f"lacks {name}", REMEDY)
        seen = _measure(folder, name)
        if seen.bytes != facts.bytes:
            refuse(folder, f"has {seen.bytes} bytes in {name}, not {facts.bytes}", REMEDY)
        if seen.sha256 != facts.sha256:
            refuse(folder, f"has an altered {name}: its sha256 differs", REMEDY)
    return Bundle(folder, manifest, found)


def seal(folder: Path, draft: AudioDraft) -> Bundle:
    """Write bundle.json for what `folder` holds now, and open the result.

    The same draft and files give the same bytes. Raises BundleError when the folder holds
    something a bundle may not, or lacks what the draft names.
    """
    files = {name: _measure(folder, name) for name in sorted(_walk(folder)) if name != MANIFEST}
    facts = {name: getattr(draft, name) for name in AudioDraft.model_fields}
    try:
        manifest = AudioManifest.model_validate({**facts, "files": files})
    except ValidationError as error:
        refuse(folder, f"cannot be sealed: {first_problem(error)}", "correct that and seal again")
    content = manifest.model_dump(mode="json")
    text = json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True, allow_nan=False)
    (folder / MANIFEST).write_text(f"{text}\n", encoding="utf-8")
    return open_bundle(folder)


def _read_manifest(folder: Path) -> bytes:
    path = folder / MANIFEST
    try:
        if path.is_symlink():
            refuse(folder, f"has a link as its {MANIFEST}", "put the file itself there")
        with path.open("rb") as file:
            raw = file.read(MAX_MANIFEST_BYTES + 1)
    except OSError as error:
        refuse(folder, f"has no {MANIFEST} to read ({error.strerror})", "name a bundle's folder")
    if len(raw) > MAX_MANIFEST_BYTES:
        refuse(folder, f"has a {MANIFEST} of more than {MAX_MANIFEST_BYTES} bytes", REMEDY)
    return raw


def _walk(folder: Path) -> Iterator[str]:
    """Every file below `folder`, as a relative POSIX path; links and devices are refused."""

    def unreadable(error: OSError) -> None:
        refuse(folder, f"has a folder {error.filename} that cannot be read", "allow reading it")

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        for name in (*folders, *files):
            path = Path(parent, name)
            relative = path.relative_to(folder).as_posix()
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                refuse(folder, f"holds {relative}, a link or device", "put the file itself there")
            if path.is_file():
                yield relative


def _measure(folder: Path, name: str) -> FileFacts:
    """Read a file in pieces for its size and sha256; a pickle is refused whatever its name is."""
    try:
        with (folder / name).open("rb") as file:
            if _PICKLE.match(file.read(16)):
                refuse(folder, f"holds {name}, a pickle, which can run code", "save safetensors")
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return FileFacts(sha256=sha256, bytes=file.tell())
    except OSError as error:
        refuse(folder, f"has a {name} that cannot be read ({error.strerror})", "allow reading it")
