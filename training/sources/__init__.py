"""Where recordings come from: a plug-in for each kind of source, behind one small interface.

A source is read as it is: its labels in its own words, its split if it has one. What is done with
them is the same for all, in `training.data.load`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from training.config import ConfigError
from training.data_settings import Source
from training.recording import Recording
from training.sources.folders import read_folders
from training.sources.hub import read_hub
from training.sources.manifest import read_manifest
from training.sources.named import read_named


class Reader(Protocol):
    """A kind of source: its settings in, its recordings out."""

    def __call__(self, settings: Any, root: Path, /) -> list[Recording]:  # noqa: ANN401 - each its own
        """Read the source that `settings` describe; relative paths are in `root`.

        Raises:
            ConfigError: it isn't there, or isn't what the settings say.
        """
        ...


READERS: dict[str, Reader] = {
    "manifest": read_manifest,
    "folders": read_folders,
    "hub": read_hub,
    "ravdess": read_named,
    "tess": read_named,
    "savee": read_named,
    "crema-d": read_named,
    "aesdd": read_named,
    "emo-db": read_named,
    "nemo": read_named,
}


def read(sources: Iterable[Source], root: Path) -> list[Recording]:
    """Read all sources, one after the other.

    Raises:
        ConfigError: one cannot be read, or two recordings have one name: a name seeds a clip's
            augmentation and stands for it in reports.
    """
    found: dict[str, Recording] = {}
    for source in sources:
        for recording in READERS[source.kind](source, root):
            if other := found.get(recording.name):
                raise ConfigError(
                    f"{other.path} and {recording.path} are both called {recording.name}; "
                    "rename one, or read both through one source."
                )
            split = source.split or recording.split
            found[recording.name] = dataclasses.replace(recording, split=split)
    return list(found.values())
