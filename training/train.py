"""Fine-tuning with transformers' Trainer: checkpoints every epoch, resumes where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from sklearn.metrics import accuracy_score, f1_score
from transformers import (
    EvalPrediction,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
)
from transformers.trainer_utils import get_last_checkpoint

from service.domain import Samples, Window, WindowSpec
from service.runtime import cpu_features
from service.voice import FRAME
from service.windows import cut, span
from training import model as models
from training.augment import augment
from training.config import Augmentation, Config
from training.data import arrays


class TrainingWindows(torch.utils.data.Dataset[dict[str, Any]]):
    """One augmented window of each clip; a pure function of seed, epoch and clip."""

    def __init__(
        self,
        clips: datasets.Dataset,
        spec: WindowSpec,
        settings: Augmentation,
        noises: list[Samples],
        seed: int,
    ) -> None:
        self._clips = clips
        self._spec = spec
        self._settings = settings
        self._noises = noises
        self._seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self._clips[index]
        samples, speech = arrays(clip)
        rng = np.random.default_rng((self._seed, self.epoch, index))
        view, window = augment(samples, speech, self._spec, self._settings, self._noises, rng=rng)
        return {"input_values": cut(view, window, self._spec), "labels": clip["label"]}


class CentredWindows(torch.utils.data.Dataset[dict[str, Any]]):
    """The middle window of each clip: quick figures while training, never a headline."""

    def __init__(self, clips: datasets.Dataset, spec: WindowSpec) -> None:
        self._clips = clips
        self._spec = spec

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        clip = self._clips[index]
        samples, speech = arrays(clip)
        first, last = span(speech, FRAME, samples.size)
        start = max(first, (first + last - self._spec.window) // 2)
        window = Window(start, min(start + self._spec.window, last), 0.0)
        return {"input_values": cut(samples, window, self._spec), "labels": clip["label"]}


class _TellEpoch(TrainerCallback):
    """Tells the data which epoch it is, so that augmentation differs between epochs."""

    def __init__(self, windows: TrainingWindows) -> None:
        self._windows = windows

    def on_epoch_begin(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the Trainer passes it
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - the Trainer passes it
        **_: object,
    ) -> None:
        self._windows.epoch = int(state.epoch or 0)


def train(
    config: Config,
    training: datasets.Dataset,
    validation: datasets.Dataset,
    noises: list[Samples],
    *,
    root: Path,
    run: Path,
) -> PreTrainedModel:
    """Fine-tune; resumes from the last checkpoint under `run` when there is one.

    The last epoch's weights are the result: no epoch is chosen by its validation figure, so that
    this figure stays honest.
    """
    torch.manual_seed(config.training.seed)
    model = models.build(config.model, root)
    spec = config.windows.spec
    windows = TrainingWindows(training, spec, config.augmentation, noises, config.training.seed)
    arguments = TrainingArguments(
        output_dir=str(run / "checkpoints"),
        num_train_epochs=config.training.epochs,
        per_device_train_batch_size=config.training.batch_size,
        per_device_eval_batch_size=config.training.batch_size,
        use_cpu=not torch.cuda.is_available(),
        bf16=_bf16(config.training.precision),
        eval_strategy="epoch",
        eval_on_start=True,
        save_strategy="epoch",
        save_total_limit=2,
        logging_steps=20,
        seed=config.training.seed,
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[],
        remove_unused_columns=False,
        label_names=["labels"],
    )
    steps = -(-len(windows) // config.training.batch_size) * config.training.epochs
    optimiser = torch.optim.AdamW(models.parameter_groups(model, config.training))
    schedule = get_cosine_schedule_with_warmup(
        optimiser, int(config.training.warmup_ratio * steps), int(steps)
    )
    checkpoints = run / "checkpoints"
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    if last is None and config.training.probe_strength is not None:
        models.probe(
            model,
            CentredWindows(training, spec),
            batch_size=config.training.batch_size,
            strength=config.training.probe_strength,
        )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=windows,
        eval_dataset=CentredWindows(validation, spec),
        compute_metrics=_quick_figures,
        optimizers=(optimiser, schedule),
        callbacks=[_TellEpoch(windows)],
    )
    trainer.train(resume_from_checkpoint=last)
    return model


def _quick_figures(prediction: EvalPrediction) -> dict[str, float]:
    guesses = np.asarray(prediction.predictions).argmax(axis=-1)
    return {
        "accuracy": float(accuracy_score(prediction.label_ids, guesses)),
        "macro_f1": float(f1_score(prediction.label_ids, guesses, average="macro")),
    }


def _bf16(precision: str) -> bool:
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    # On CPUs without AMX bf16 is slower than fp32.
    return "amx_bf16" in cpu_features()
