"""Checkpoints that a training can go on from, whenever it was killed or told to end.

transformers resumes from the checkpoint of the highest step, whole or not, and does one step more
when that step was the last.
"""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
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
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, IntervalStrategy

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
    """Marks a checkpoint as whole; to be after all that save something of their own in it."""

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


class Leave(TrainerCallback):
    """Saves a checkpoint when it is told to end, by SIGTERM, and ends; told again, it ends at once.

    Of several processes none knows at which step the others are told, so that they end at once.
    To be after `Complete`, as it doesn't come back.
    """

    def __init__(self) -> None:
        self._told = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen while steps are done."""
        if launch.processes() > 1:
            yield
            return
        before = signal.getsignal(signal.SIGTERM)

        def listen(*_: object) -> None:
            self._told = True
            signal.signal(signal.SIGTERM, before)

        signal.signal(signal.SIGTERM, listen)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Ask for a checkpoint, but not before an evaluation that this step is to have."""
        ends = float(state.epoch or 0).is_integer() or state.global_step >= state.max_steps
        if self._told and not (ends and args.eval_strategy == IntervalStrategy.EPOCH):
            control.should_save = True

    def on_save(self, *_: object, **__: object) -> None:
        """End, if that was asked for.

        Raises:
            SystemExit: it was.
        """
        if self._told:
            raise SystemExit(launch.ENDED)


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
    """Marks checkpoints as whole, does no step after the last, and ends when it is told."""

    def __init__(self, **arguments: Any) -> None:  # noqa: ANN401 - the Trainer's own
        super().__init__(**arguments)
        self.add_callback(Complete())
        self._leave = Leave()
        self.add_callback(self._leave)

    def train(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the Trainer's own
        """Train.

        Raises:
            SystemExit: it was told to end, and what it has is in a checkpoint.
        """
        with self._leave.listening():
            return super().train(*args, **options)

    def _run_epoch(self, *args: Any, **options: Any) -> None:  # noqa: ANN401 - the Trainer's own
        ended = self.control.should_training_stop or self.state.global_step >= self.state.max_steps
        if not ended:
            super()._run_epoch(*args, **options)  # type: ignore[no-untyped-call]
