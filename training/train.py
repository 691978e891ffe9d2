"""Fine-tuning with transformers' Trainer: checkpoints as it goes, resumes where it was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from service.domain import Samples
from service.runtime import cpu_features
from training import checkpoints
from training import model as models
from training.average import Average
from training.checkpoints import CHECKPOINTS, Patience, ResumableTrainer
from training.config import Config, Training
from training.objective import Objective
from training.probe import probe
from training.sampling import Draws, Group, chances
from training.teachers import gather
from training.views import CentredWindows, TrainingWindows


def train(
    config: Config,
    training: datasets.Dataset,
    watched: datasets.Dataset,
    noises: Sequence[Samples],
    *,
    root: Path,
    run: Path,
    callbacks: Sequence[TrainerCallback] = (),
) -> PreTrainedModel:
    """Fine-tune; resumes from the last checkpoint under `run` when there is one.

    Args:
        config: how.
        training: prepared clips to learn from.
        watched: prepared clips to look at meanwhile; they decide only what `keep` and `patience`
            of the configuration say.
        noises: float32 arrays, for augmentation.
        root: where relative checkpoints are.
        run: folder of the run.
        callbacks: called by the Trainer as well.
    """
    settings = config.training
    torch.manual_seed(settings.seed)
    model = models.build(config.model, root, square=settings.probe_strength > 0)
    spec = config.windows.spec
    windows = TrainingWindows(training, spec, config.augmentation, noises, settings.seed)
    groups = [
        Group(corpus, speaker, label)
        for corpus, speaker, label in zip(
            training["corpus"], training["speaker"], training["label"], strict=True
        )
    ]
    draws = Draws(groups, config.sampling, settings.seed)
    last = checkpoints.newest(run / CHECKPOINTS)
    arguments = _arguments(settings, run / CHECKPOINTS, resumes=last is not None)
    torch.nn.Module.to(model, arguments.device)
    weights = np.full(len(groups), 1 / len(groups))
    if config.sampling.balanced:
        weights = chances(groups, config.sampling)
    if last is None and settings.probe_strength:
        with torch.autocast(
            model.device.type, torch.bfloat16, enabled=computes_in_bf16(settings.precision)
        ):
            probe(
                model,
                CentredWindows(training, spec),
                training["speaker"],
                weights,
                batch_size=settings.batch_size,
                strength=settings.probe_strength,
                centring=settings.probe_centring,
            )
    if not settings.epochs and not settings.max_steps:
        return model
    teachers = gather(
        config,
        training,
        weights,
        root=root,
        kept=run / CHECKPOINTS,
        device=arguments.device,
    )
    average = Average(model, settings.average_decay) if settings.keep == "average" else None
    trainer = _Trainer(
        draws,
        Objective(
            label_smoothing=settings.label_smoothing,
            masked=settings.masked,
            teaching=config.teaching,
            teachers=teachers,
        ),
        average,
        model=model,
        args=arguments,
        train_dataset=windows,
        eval_dataset=CentredWindows(watched, spec),
        compute_metrics=_quick_figures,
        optimizers=(torch.optim.AdamW(models.parameter_groups(model, settings)), None),
        callbacks=[
            TellEpoch(draws),
            *([average] if average else []),
            *([Patience(settings.patience)] if settings.patience else []),
            *callbacks,
        ],
    )
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    if average:
        average.keep()
    return model


def _arguments(settings: Training, folder: Path, *, resumes: bool) -> TrainingArguments:
    when = "steps" if settings.checkpoint_steps else "epoch"
    return TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_ratio,
        use_cpu=not torch.cuda.is_available(),
        bf16=computes_in_bf16(settings.precision),
        eval_strategy=when,
        save_strategy=when,
        eval_steps=settings.checkpoint_steps,
        save_steps=settings.checkpoint_steps or 500,
        # What is resumed has been looked at; again would count against its patience.
        eval_on_start=not resumes,
        restore_callback_states_from_checkpoint=True,
        save_total_limit=2,
        load_best_model_at_end=settings.keep == "best",
        metric_for_best_model="accuracy",
        logging_steps=20,
        seed=settings.seed,
        dataloader_num_workers=settings.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        remove_unused_columns=False,
        label_names=["labels"],
    )


class _Trainer(ResumableTrainer):
    """Draws, loss and average are ours; everything else is transformers'."""

    # The loss is a mean over a batch: with accumulation the Trainer divides it by their number.
    loss_is_scaled_for_ga = False

    def __init__(
        self,
        draws: Draws,
        objective: Objective,
        average: Average | None,
        **arguments: Any,  # noqa: ANN401 - the Trainer's own
    ) -> None:
        self._draws = draws
        self._objective = objective
        self._average = average
        super().__init__(**arguments)

    def _get_train_sampler(self, train_dataset: object = None) -> Draws:  # noqa: ARG002
        return self._draws

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,  # noqa: FBT001, FBT002 - the Trainer's signature
        num_items_in_batch: torch.Tensor | int | None = None,  # noqa: ARG002
    ) -> torch.Tensor | tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The objective's loss of the model's answer."""
        logits = model(inputs["input_values"]).logits
        loss = self._objective(logits, inputs)
        return (loss, {"logits": logits}) if return_outputs else loss

    def evaluate(self, *args: Any, **options: Any) -> dict[str, float]:  # noqa: ANN401
        """Look at the weights that will be kept."""
        with self._average.in_place() if self._average else nullcontext():
            figures: dict[str, float] = super().evaluate(*args, **options)
        return figures


class TellEpoch(TrainerCallback):
    """Tells the draws which epoch it is."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws

    def on_epoch_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the Trainer passes it
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - the Trainer passes it
        **_: object,
    ) -> None:
        """Tell the draws."""
        self._draws.epoch = int(state.epoch or 0)


def _quick_figures(prediction: EvalPrediction) -> dict[str, float]:
    guesses = np.asarray(prediction.predictions).argmax(axis=-1)
    return {
        "accuracy": float(accuracy_score(prediction.label_ids, guesses)),
        "macro_f1": float(f1_score(prediction.label_ids, guesses, average="macro")),
    }


def computes_in_bf16(precision: str) -> bool:
    """Whether matrices are multiplied in bf16 here, by the configuration's `precision`."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # On CPUs without AMX bf16 is slower than fp32.
    return "amx_bf16" in cpu_features()
