"""What several processes of one training share: who goes first, and who writes.

Started by `torchrun` or `accelerate launch`, each process runs the same command; without them
there is one, and nothing here imports torch.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from training.config import ConfigError

PATIENCE = timedelta(hours=12)
"""How long the others wait for the first, which may have all recordings to prepare."""

ENDED = 128 + signal.SIGTERM
"""The exit status of a training that was told to end, as a shell has it."""


def processes() -> int:
    """How many there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes: rank 0, or the only one."""
    return int(os.environ.get("RANK", "0")) == 0


def require_one(command: str) -> None:
    """Refuse several processes for what one does by itself.

    Args:
        command: as `python -m training` calls it.

    Raises:
        ConfigError: there are several.
    """
    if processes() > 1:
        raise ConfigError(
            f"`{command}` is the work of one process, and {processes()} would write the same "
            "files: start it without torchrun or accelerate launch."
        )


@contextmanager
def first_alone() -> Iterator[None]:
    """Run the block in the first process before the others run it, and find what it left."""
    if processes() == 1:
        yield
        return
    import torch  # noqa: PLC0415 - for several processes only
    from accelerate import PartialState  # noqa: PLC0415

    with PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE).main_process_first():
        yield
