"""What a training starts from besides its configuration and its recordings.

A checkpoint of a training that started from something else must not be resumed, though the
configuration names it alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from training import launch, noises
from training import model as models
from training.digests import files

PROCESSES = "processes"
"""Of what a claim says, the one thing that makes no difference once the training has ended."""


def origins(checkpoints: Iterable[str], root: Path) -> dict[str, object]:
    """Digests of what checkpoints and noises hold, and the number of processes.

    Args:
        checkpoints: as a configuration names them; those of a hub have no digest.
        root: folder that relative ones, and noise/, are in.

    Raises:
        ConfigError: there is no such checkpoint.
    """
    noise = root / "noise"
    folders = {
        name: Path(models.find(name, root))
        for name in checkpoints
        if not name.startswith(models.HUB)
    }
    return {
        "checkpoints": {name: files(_below(folder), folder) for name, folder in folders.items()},
        "noise": files(noises.for_training(noise), noise),
        PROCESSES: launch.processes(),
    }


def _below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]
