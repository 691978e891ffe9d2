"""An image as its archive has it, read without an engine: `python -m tests.support.image ARCHIVE`.

The archive is docker's: manifest.json names the configuration and the layers, which are tar files.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = PurePosixPath()
HOME = PurePosixPath("opt/timbre")
PACKAGES = HOME / "lib/python3.11/site-packages"
MODEL = HOME / "src/service/default_bundle"
_WHITEOUT = ".wh."


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the image, or a folder or link of it."""

    path: PurePosixPath
    member: tarfile.TarInfo
    layer: str

    @property
    def bytes(self) -> int:
        """Size of what it holds."""
        return self.member.size if self.member.isreg() else 0


@dataclass(frozen=True)
class Image:
    """An image's configuration and, by path, what a container of it sees."""

    archive: Path

    @cached_property
    def _manifest(self) -> dict[str, Any]:
        (manifest,) = json.loads(self._read("manifest.json"))
        return dict(manifest)

    @cached_property
    def _facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self._read(self._manifest["Config"]))
        return facts

    @cached_property
    def config(self) -> dict[str, Any]:
        """What a container is started with: User, Entrypoint, Env, Labels and so on."""
        config: dict[str, Any] = self._facts["config"]
        return config

    @property
    def created(self) -> datetime:
        """When it says that it was made."""
        return datetime.fromisoformat(self._facts["created"])

    @property
    def layers(self) -> tuple[str, ...]:
        """Digests of its layers, the base's first."""
        return tuple(self._facts["rootfs"]["diff_ids"])

    @cached_property
    def entries(self) -> dict[PurePosixPath, Entry]:
        """Everything in it, later layers over earlier ones."""
        seen: dict[PurePosixPath, Entry] = {}
        with tarfile.open(self.archive) as outer:
            for layer in self._manifest["Layers"]:
                with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                    for member in inner:
                        _lay(seen, Entry(_path(member), member, layer))
        return seen

    def read(self, wanted: Callable[[PurePosixPath], bool]) -> dict[PurePosixPath, bytes]:
        """Give the content of the files that are wanted."""
        contents = {}
        with tarfile.open(self.archive) as outer:
            for layer in self._manifest["Layers"]:
                with tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                    for member in inner:
                        path = _path(member)
                        entry = self.entries.get(path)
                        if entry is None or entry.layer != layer or not wanted(path):
                            continue
                        if (file := inner.extractfile(member)) is not None:
                            contents[path] = file.read()
        return contents

    def size(self, *, below: PurePosixPath = ROOT) -> int:
        """Give the bytes of all files below a path, as a container sees them."""
        return sum(
            entry.bytes for path, entry in self.entries.items() if path.is_relative_to(below)
        )

    def _read(self, name: str) -> bytes:
        with tarfile.open(self.archive) as outer:
            file = outer.extractfile(name)
            assert file is not None, f"{self.archive} has no {name}"
            return file.read()


def _path(member: tarfile.TarInfo) -> PurePosixPath:
    return PurePosixPath(member.name.removeprefix("./"))


def _lay(seen: dict[PurePosixPath, Entry], entry: Entry) -> None:
    """Put an entry of a layer over those of the layers below."""
    name = entry.path.name
    if not name.startswith(_WHITEOUT):
        seen[entry.path] = entry
        return
    opaque = name == f"{_WHITEOUT}{_WHITEOUT}.opq"
    gone = entry.path.parent if opaque else entry.path.with_name(name.removeprefix(_WHITEOUT))
    for path in [
        path for path in seen if path.is_relative_to(gone) and not (opaque and path == gone)
    ]:
        if seen[path].layer != entry.layer:
            del seen[path]


def contents(image: Image) -> str:
    """Lay out what is in an image as a table of Markdown: the largest parts, and the rest."""
    parts = {
        "the base: Debian and Python": image.size() - image.size(below=HOME),
        "the model": image.size(below=MODEL),
        "Timbre itself, Silero VAD in it": image.size(below=HOME / "src") - image.size(below=MODEL),
    }
    packages: dict[str, int] = {}
    for path, entry in image.entries.items():
        if path.is_relative_to(PACKAGES):
            name = path.relative_to(PACKAGES).parts[:1]
            key = name[0].removesuffix(".libs") if name else ""
            packages[key] = packages.get(key, 0) + entry.bytes
    large = dict(sorted(packages.items(), key=lambda item: -item[1])[:12])
    parts |= {f"`{name}`": size for name, size in large.items()}
    rest = image.size(below=HOME) - image.size(below=HOME / "src") - sum(large.values())
    parts["other libraries, and the list of parts"] = rest
    rows = "".join(f"| {name} | {size / 1e6:.1f} |\n" for name, size in parts.items())
    total = image.size() - image.size(below=MODEL)
    return (
        f"| part | MB |\n| --- | --- |\n{rows}| **all but the model** | **{total / 1e6:.1f}** |\n"
    )


if __name__ == "__main__":
    sys.stdout.write(contents(Image(Path(sys.argv[1]))))
