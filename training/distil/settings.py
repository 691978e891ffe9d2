"""The configuration of a distillation: what is imitated, by whom, on which sounds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from training.config import TINY_EN, Augmentation, Positive, Probability, Sampling, Windows
from training.data_settings import Data

Weight = Annotated[float, Field(ge=0)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Imitation(_Section):
    """Who teaches whom, and how."""

    teacher: str = TINY_EN
    """tiny.en, or a checkpoint as `[model] checkpoint` names one: a wav2vec2, HuBERT, WavLM or
    Whisper that hears samples."""
    student: str | None = None
    """A wav2vec2 checkpoint to go on from; without it a new one is built of a Whisper teacher."""
    steps: Annotated[int, Field(gt=0)] = 1200
    batch_size: Annotated[int, Field(gt=0)] = 16
    front_end_learning_rate: Positive = 1e-3
    layer_learning_rate: Positive = 2e-4
    """Of the layers and the norm after them, which can start as the teacher's."""
    constant_ratio: Probability = 0.3
    """Of the steps have the full learning rates; then these fall to 0 as a cosine."""
    weight_decay: Weight = 0.01
    stem_weight: Weight = 1.0
    """Of the error of what goes into the first layer."""
    layer_weights: tuple[Weight, ...] = (0.5, 0.5, 1.0, 1.5)
    """Of the errors of what comes out of the student's layers, lowest first."""
    mel_weight: Weight = 2.0
    """Of the error of the third convolution's first channels as a log-mel spectrogram, where both
    the teacher and the student's front end have one."""
    checkpoint_steps: Annotated[int, Field(gt=0)] = 100
    """A run that is stopped loses at most so many."""
    seed: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """auto: bf16 where the device computes in it (GPU, or CPU with AMX), else fp32."""
    max_clips: Annotated[int, Field(gt=0)] | None = None
    """At most this many clips of each split, evenly spread: for smoke tests."""


class DistilConfig(_Section):
    """A whole distillation."""

    data: Data = Data()
    windows: Windows = Windows()
    sampling: Sampling = Sampling()
    augmentation: Augmentation = Augmentation()
    distil: Imitation = Imitation()
