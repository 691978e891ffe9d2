"""A trained model → a sealed bundle: weights rounded first, measured as served, then described.

Weights are rounded to fp16 before anything is measured, so the figures are those of the file that
ships; every runtime computes in fp32 from the same rounded numbers.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import openvino
import torch
from pydantic import ValidationError

from service.bundle import (
    AudioDraft,
    AudioFacts,
    Bundle,
    DataFacts,
    PrecisionFacts,
    RuntimeName,
    seal,
)
from service.voice import NAME as VOICE_ACTIVITY
from training.config import Config, ConfigError
from training.data import LABELS
from training.evaluation.selective import FALLBACK
from training.model import LogitsOnly

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TORCH = "torch"
OPENVINO = "openvino/fp32.xml"
RUNTIMES: Mapping[RuntimeName, str] = MappingProxyType({"openvino": OPENVINO, "torch": TORCH})
"""Where in a bundle a runtime finds its weights."""


def write_weights(model: PreTrainedModel, folder: Path, window: int) -> None:
    """Write the weights of both runtimes: safetensors in fp16, OpenVINO IR with fp16 constants.

    A model that transformers alone can't load, since it is ours, has no weights for torch.

    Args:
        model: as trained, float32; its weights are rounded in place.
        folder: the bundle to be; emptied first.
        window: samples in a window.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "openvino").mkdir(parents=True)
    model.eval().half()
    if type(model).__module__.startswith("transformers."):
        model.save_pretrained(folder / TORCH, safe_serialization=True)
    model.float()
    with torch.no_grad():
        converted = openvino.convert_model(
            LogitsOnly(model), example_input={"input_values": torch.zeros(2, window)}
        )
    # The batch varies, the window never does: everything behind it has a known shape.
    converted.reshape({"input_values": openvino.PartialShape([-1, window])})
    openvino.save_model(converted, folder / OPENVINO, compress_to_fp16=True)


def runtimes(folder: Path) -> dict[RuntimeName, str]:
    """The runtimes that weights were written for."""
    return {name: place for name, place in RUNTIMES.items() if (folder / place).exists()}


def draft(
    config: Config,
    *,
    runtimes: Mapping[RuntimeName, str] = RUNTIMES,
    temperature: float = 1.0,
    threshold: float = FALLBACK,
    metrics: Mapping[str, Any] | None = None,
    reference: Mapping[str, Any] | None = None,
    data: Sequence[DataFacts] = (),
) -> AudioDraft:
    """What bundle.json will say; without figures for the bundle that is about to be measured.

    Raises:
        ConfigError: the name, version or licence is none that a bundle can have.
    """
    try:
        facts = PrecisionFacts(
            runtimes=runtimes,
            temperature=temperature,
            review_threshold=threshold,
            metrics=metrics or {},
        )
        return _draft(config, facts, reference or {}, tuple(data))
    except ValidationError as error:
        problem = error.errors()[0]
        field = ".".join(map(str, problem["loc"]))
        raise ConfigError(f"The bundle's {field}: {problem['msg']}.") from error


def _draft(
    config: Config,
    facts: PrecisionFacts,
    reference: Mapping[str, Any],
    data: tuple[DataFacts, ...],
) -> AudioDraft:
    return AudioDraft(
        name=config.bundle.name,
        version=config.bundle.version,
        created=datetime.now(UTC).replace(microsecond=0),
        licence=config.bundle.licence,
        labels=LABELS,
        audio=AudioFacts(
            sample_rate=16_000,
            window_s=config.windows.window_s,
            hop_s=config.windows.hop_s,
            normalisation="zero-mean-unit-variance",
            voice_activity=VOICE_ACTIVITY,
        ),
        precisions={"fp32": facts},
        reference=reference,
        data=data,
    )


def seal_with_card(folder: Path, card: str, facts: AudioDraft) -> Bundle:
    """Write the model card and seal the bundle."""
    (folder / "README.md").write_text(card, encoding="utf-8")
    return seal(folder, facts)
