"""Features of many clips, kept on disk block by block, so that a run that was stopped goes on."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from service import __version__
from service.voice import FRAME
from service.windows import lay
from training.baselines.features import Features
from training.config import Windows
from training.data import arrays

BLOCK = 100
"""Clips that are written at a time, and at most done again after a kill."""

_Known: TypeAlias = dict[str, tuple[NDArray[np.float32] | None, float]]
"""By the digest of what was heard: features, None without speech, and their processor time in s."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """Features of a set of clips."""

    values: NDArray[np.float32]
    """[clips with speech, …], in the order of the clips."""
    spoken: NDArray[np.bool_]
    """[clips]: whether enough speech was found for a clip to have features, and so a label."""
    cpu_s: float
    """Processor time of the extraction, whichever run paid it; without decoding and hearing."""


def extract(clips: datasets.Dataset, features: Features, folder: Path) -> Extracted:
    """Extract features of prepared clips; those of which `folder` has some already are read.

    Args:
        clips: as `training.data.prepare` gives them.
        features: what to extract.
        folder: gets a folder for the extractor, where a clip is known by its sound, so that other
            selections of the same clips find it too.
    """
    version = hashlib.sha256(f"{features.version}\t{__version__}".encode()).hexdigest()
    folder = folder / f"{features.name}-{version[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    known = _read(folder)
    keys = []
    block: dict[str, dict[str, Any]] = {}
    for row in tqdm(clips, desc=features.name, unit="clip"):
        keys.append(_key(row))
        if keys[-1] not in known:
            block[keys[-1]] = row
        if len(block) == BLOCK:
            known |= _write(folder, block, features)
            block = {}
    known |= _write(folder, block, features)
    found = [known[key] for key in keys]
    values = [value for value, _ in found if value is not None]
    return Extracted(
        _stacked(values),
        np.array([value is not None for value, _ in found], np.bool_),
        sum(cpu_s for _, cpu_s in found),
    )


def _read(folder: Path) -> _Known:
    known: _Known = {}
    for file in folder.glob("*.npz"):
        with np.load(file) as block:
            values = iter(block["values"])
            for key, spoken, cpu_s in zip(
                block["keys"].tolist(), block["spoken"], block["cpu_s"], strict=True
            ):
                known[key] = (next(values) if spoken else None, float(cpu_s))
    return known


def _write(folder: Path, block: dict[str, dict[str, Any]], features: Features) -> _Known:
    """Extract a block and keep it, whole or not at all."""
    found: _Known = {}
    for key, row in block.items():
        started = time.process_time()
        value = _features(row, features)
        found[key] = (value, time.process_time() - started)
    if found:
        partial = folder / f"{next(iter(found))}.part"
        with partial.open("wb") as file:
            np.savez(
                file,
                keys=list(found),
                values=_stacked([value for value, _ in found.values() if value is not None]),
                spoken=[value is not None for value, _ in found.values()],
                cpu_s=[cpu_s for _, cpu_s in found.values()],
            )
        partial.replace(partial.with_suffix(".npz"))
    return found


def _stacked(values: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    return np.stack(values) if values else np.empty((0, 1), np.float32)


def _features(row: dict[str, Any], features: Features) -> NDArray[np.float32] | None:
    samples, speech = arrays(row)
    # Whether there is speech enough does not depend on the window.
    if not lay(speech, FRAME, samples.size, Windows().spec):
        return None
    return features.extract(samples, speech)


def _key(row: dict[str, Any]) -> str:
    heard = hashlib.sha256(row["samples"]).digest() + hashlib.sha256(row["speech"]).digest()
    return hashlib.sha256(heard).hexdigest()
