"""Who teaches: models that are trained already, and frozen encoders under probes, fitted first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from training import config, launch
from training import model as models
from training.probe import Windows, pooled, regress
from training.recording import LABELS
from training.views import CentredWindows

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FITTED = "teachers.safetensors"
"""What was fitted: a training that resumes has the same teachers without fitting them again."""


class Probed(torch.nn.Module):
    """A frozen encoder under a logistic regression on the means over time of some layers.

    Args:
        settings: the encoder's checkpoint, and the layers whose means stand side by side.
        root: where relative checkpoints are.

    Raises:
        ConfigError: there is no such checkpoint, or it has not these layers or all weights.
    """

    def __init__(self, settings: config.Probe, root: Path) -> None:
        super().__init__()
        self._settings = settings
        self._encoder = _cut(settings, root)
        features = len(settings.layers) * self._encoder.config.hidden_size
        self.head = torch.nn.Linear(features, len(LABELS)).requires_grad_(requires_grad=False)

    def fit(self, windows: Windows, weights: NDArray[np.float64], *, batch_size: int) -> None:
        """Fit the regression.

        Args:
            windows: what it is fitted on.
            weights: how much each counts, [windows]; they sum to 1.
            batch_size: windows heard at a time.
        """
        features, labels = pooled(
            self._features,
            windows,
            batch_size=batch_size,
            device=self.head.weight.device,
            name=f"teacher {Path(self._settings.checkpoint).name}",
        )
        fitted = regress(features, labels, weights, self._settings.strength)
        # Features are not standardised any more when it teaches.
        weight = fitted.weight / fitted.scale
        self.head.weight.copy_(torch.from_numpy(weight))
        self.head.bias.copy_(torch.from_numpy(fitted.bias - weight @ fitted.mean))

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Logits [n, labels] of windows [n, samples]."""
        features = self._features(windows)
        # In float32, for the reason that training.probe gives.
        with torch.autocast(windows.device.type, enabled=False):
            logits: torch.Tensor = self.head(features)
        return logits

    def _features(self, windows: torch.Tensor) -> torch.Tensor:
        """The layers' means over time, side by side: [n, features], in float32."""
        hidden = self._encoder(windows, output_hidden_states=True).hidden_states
        means = [hidden[layer].float().mean(dim=1) for layer in self._settings.layers]
        return torch.cat(means, dim=1)


def gather(
    settings: config.Config,
    training: datasets.Dataset,
    weights: NDArray[np.float64],
    *,
    root: Path,
    kept: Path,
    device: torch.device,
) -> list[torch.nn.Module]:
    """Load and fit the teachers of a configuration; none if it has no teaching.

    Args:
        settings: the configuration.
        training: prepared clips that are learned from; probes are fitted on these.
        weights: how much each counts for a probe, [clips]; they sum to 1.
        root: where relative checkpoints are.
        kept: folder that keeps what is fitted, for a training that is resumed.
        device: where they answer.

    Returns:
        Modules of windows [n, samples] that give logits [n, labels].

    Raises:
        ConfigError: there is no such checkpoint, or it can't be used.
    """
    if not (teaching := settings.teaching):
        return []
    probes = [Probed(probe, root).to(device) for probe in teaching.probes]
    if probes:
        heads = torch.nn.ModuleList(probe.head for probe in probes)
        with launch.first_alone():
            if not (kept / FITTED).is_file():
                windows = CentredWindows(training, settings.windows.spec)
                for probe in probes:
                    probe.fit(windows, weights, batch_size=settings.training.batch_size)
                kept.mkdir(parents=True, exist_ok=True)
                half = kept / f"{FITTED}.part"
                save_file(heads.state_dict(), half)
                half.replace(kept / FITTED)
        heads.load_state_dict(load_file(kept / FITTED))
    trained = [
        models.LogitsOnly(models.load(teacher, root)).to(device) for teacher in teaching.teachers
    ]
    return [*trained, *probes]


def _cut(settings: config.Probe, root: Path) -> PreTrainedModel:
    """The frozen encoder without the layers above the highest that is heard."""
    encoder: PreTrainedModel = models.encoder(settings.checkpoint, root).eval()
    layers, _ = models.transformer(encoder)
    if (top := max(settings.layers)) > len(layers):
        raise config.ConfigError(
            f"{settings.checkpoint} has layers 1 to {len(layers)}, no layer {top}; see "
            "[[teaching.probes]]."
        )
    del layers[top:]
    return encoder.requires_grad_(requires_grad=False)
