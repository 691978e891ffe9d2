"""Checkpoints that a training can go on from, whenever it was killed.

transformers resumes from the checkpoint of the highest step, whole or not, and does one step more
when that step was the last.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import (
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from training import launch

CHECKPOINTS = "checkpoints"
"""Where in a run's folder."""
COMPLETE = "complete"
"""The file of a checkpoint that is written last, and lists the others."""


def of_step(args: TrainingArguments, state: TrainerState) -> Path:
    """The checkpoint that is being written, or that was resumed from."""
    return Path(args.output_dir or ".") / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}"


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint; what a kill left half written or half removed is removed."""
    found = sorted(folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*"), key=_step)
    whole = [checkpoint for checkpoint in found if _is_whole(checkpoint)]
    if launch.is_first():
        for checkpoint in found:
            if checkpoint not in whole:
                shutil.rmtree(checkpoint)
    return whole[-1] if whole else None


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-"))


def _is_whole(checkpoint: Path) -> bool:
    listed = checkpoint / COMPLETE
    return listed.is_file() and all(
        (checkpoint / name).is_file() for name in listed.read_text(encoding="utf-8").splitlines()
    )


class Complete(TrainerCallback):
    """Marks a checkpoint as whole; to be the last callback, so that the others have saved."""

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - the Trainer passes it
        **_: object,
    ) -> None:
        """List what is there."""
        PartialState().wait_for_everyone()  # each process saves its random state
        if not state.is_world_process_zero:
            return
        checkpoint = of_step(args, state)
        names = sorted(file.name for file in checkpoint.iterdir() if file.is_file())
        half = checkpoint / f"{COMPLETE}.part"
        half.write_text("\n".join(names) + "\n", encoding="utf-8")
        half.replace(checkpoint / COMPLETE)


class Patience(EarlyStoppingCallback):
    """Ends a training that gets no better, and doesn't let it go on when it is resumed there."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Say again what was said before the kill; the Trainer has just taken it back."""
        super().on_train_begin(args, state, control)  # type: ignore[no-untyped-call]
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True


class ResumableTrainer(Trainer):
    """Marks checkpoints as whole, and does no step after the last."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401 - the Trainer's own
        super().__init__(**arguments)
        self.add_callback(Complete())

    def _run_epoch(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - the Trainer's own
        ended = self.control.should_training_stop or self.state.global_step >= self.state.max_steps
        if not ended:
            super()._run_epoch(*args, **options)  # type: ignore[no-untyped-call]
