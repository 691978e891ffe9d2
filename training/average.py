"""A moving average of the weights over the steps: steadier than the last step's, and flatter.

Izmailov et al. 2018, "Averaging weights leads to wider optima"; exponential as in Polyak averaging
of Mean Teacher (Tarvainen & Valpola 2017).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from safetensors.torch import load_file, save_file
from transformers import (
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from training import checkpoints

FILE = "average.safetensors"


class Average(TrainerCallback):
    """Keeps the average of what is trained; saved and resumed with the Trainer's checkpoints."""

    def __init__(self, model: PreTrainedModel, decay: float) -> None:
        self._decay = decay
        self._parameters = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        self._average = {name: p.detach().clone() for name, p in self._parameters.items()}

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While inside, the model has the average for its weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def keep(self) -> None:
        """Make the average the model's weights for good."""
        self._swap()

    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            parameter.data, self._average[name] = self._average[name], parameter.data

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - the Trainer passes it
        **_: object,
    ) -> None:
        """Go on with the checkpoint's average, or start with the weights there are."""
        if state.global_step:
            self._average = load_file(checkpoints.of_step(args, state) / FILE)
        for name, parameter in self._parameters.items():
            source = self._average[name] if state.global_step else parameter.detach().clone()
            self._average[name] = source.to(parameter.device)

    def on_step_end(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the Trainer passes it
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - the Trainer passes it
        **_: object,
    ) -> None:
        """Move the average a little; more in the first steps, so that the start is forgotten."""
        decay = min(self._decay, (1 + state.global_step) / (10 + state.global_step))
        for name, parameter in self._parameters.items():
            self._average[name].lerp_(parameter.detach(), 1 - decay)

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - the Trainer passes it
        **_: object,
    ) -> None:
        """Put the average beside the weights."""
        if state.is_world_process_zero:
            save_file(self._average, checkpoints.of_step(args, state) / FILE)
