"""A head that starts as a logistic regression on the frozen encoder.

Fine-tuning from a random head first bends good features towards noise; from a probe it keeps more
of what generalises (Kumar et al. 2022, "Fine-tuning can distort pretrained features").

Unlike the loss that follows it tells every clip from all classes: leaving those free that a corpus
lacks took macro-F1 on development speakers from 0.549 to 0.472 (docs/training-log.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm

from training.config import ConfigError
from training.recording import LABELS

if TYPE_CHECKING:
    from transformers import PreTrainedModel

UNLIKELY = -10.0
"""Logit of a class without clips."""


class Windows(Protocol):
    """A data set of windows: input_values, float32 [samples], and labels."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> dict[str, Any]: ...


def probe(
    model: PreTrainedModel,
    windows: Windows,
    speakers: Sequence[str],
    weights: NDArray[np.float64],
    *,
    batch_size: int,
    strength: float,
    centring: float,
) -> None:
    """Fit the regression and put it into the model's head.

    Args:
        model: its projector comes to standardise features, its classifier is the regression.
        windows: what the regression is fitted on.
        speakers: who speaks in each, [windows].
        weights: how much each window counts, [windows].
        batch_size: windows scored at a time.
        strength: inverse strength of the L2 penalty on standardised features.
        centring: share of the way that each speaker's mean is moved to that of all.

    Raises:
        ConfigError: the model has no linear head, or all windows have one label.
    """
    projector = getattr(model, "projector", None)
    classifier = getattr(model, "classifier", None)
    if not isinstance(projector, torch.nn.Linear) or not isinstance(classifier, torch.nn.Linear):
        raise ConfigError(
            f"{type(model).__name__} has no linear head that could start as a probe; "
            "set probe_strength = 0 in [training]."
        )
    model.eval()
    features, labels = pooled(
        lambda batch: _mean(model, batch),
        windows,
        batch_size=batch_size,
        device=model.device,
        name="probe",
    )
    fitted = regress(centred(features, speakers, weights, centring), labels, weights, strength)
    # Standardising is the projector's part: folded into the classifier it would give directions of
    # little variance huge weights, and the first steps would shake the encoder.
    with torch.no_grad():
        projector.weight.copy_(torch.diag(torch.from_numpy(1 / fitted.scale)))
        projector.bias.copy_(torch.from_numpy(-fitted.mean / fitted.scale))
        classifier.weight.copy_(torch.from_numpy(fitted.weight))
        classifier.bias.copy_(torch.from_numpy(fitted.bias))


def pooled(
    pool: Callable[[torch.Tensor], torch.Tensor],
    windows: Windows,
    *,
    batch_size: int,
    device: torch.device,
    name: str,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features and labels of windows, batch by batch.

    Args:
        pool: features [n, size] of windows [n, samples].
        windows: of which.
        batch_size: windows heard at a time.
        device: where they are heard.
        name: what the progress bar is called.

    Returns:
        Features [windows, size] and labels [windows].
    """
    features, labels = [], []
    for start in tqdm(range(0, len(windows), batch_size), desc=name, unit="batch"):
        chosen = [windows[i] for i in range(start, min(start + batch_size, len(windows)))]
        batch = torch.from_numpy(np.stack([window["input_values"] for window in chosen]))
        with torch.inference_mode():
            features.append(pool(batch.to(device)).cpu().numpy())
        labels += [window["labels"] for window in chosen]
    return np.concatenate(features), np.array(labels)


class Regression(NamedTuple):
    """Logits are `weight` times standardised features, plus `bias`."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]
    """[labels, size]."""
    bias: NDArray[np.float64]


def regress(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    weights: NDArray[np.float64],
    strength: float,
) -> Regression:
    """Fit a logistic regression; features [windows, size], weights sum to 1.

    Raises:
        ConfigError: all windows have one label.
    """
    if (labels == labels[0]).all():
        raise ConfigError(
            f"All clips to learn from are {LABELS[labels[0]]}, and nothing can be told apart; add "
            "clips of other labels, or check `labels` and `drop` in [data]."
        )
    scaler = StandardScaler().fit(features, sample_weight=weights)
    regression = LogisticRegression(C=strength, max_iter=1000)
    regression.fit(scaler.transform(features), labels, sample_weight=weights * len(weights))
    weight = np.zeros((len(LABELS), features.shape[1]))
    bias = np.full(len(LABELS), UNLIKELY)
    bias[regression.classes_] = 0.0
    # Of two classes it tells the odds of the second only.
    told = regression.classes_[-len(regression.coef_) :]
    weight[told] = regression.coef_
    bias[told] = regression.intercept_
    return Regression(scaler.mean_, scaler.scale_, weight, bias)


def centred(
    features: NDArray[np.float32],
    speakers: Sequence[str],
    weights: NDArray[np.float64],
    share: float,
) -> NDArray[np.float32]:
    """Move each speaker's mean so far towards the mean of all; features [windows, size].

    Speaker normalisation (Busso et al. 2011) of those who are trained on only: of a stranger who is
    to be classified no mean is known.
    """
    moved = features.copy()
    middle = np.average(features, axis=0, weights=weights)
    names = np.array(speakers)
    for name in np.unique(names):
        own = names == name
        if weights[own].any():
            moved[own] += share * (middle - np.average(features[own], axis=0, weights=weights[own]))
    return moved


def _mean(model: PreTrainedModel, batch: torch.Tensor) -> torch.Tensor:
    """The mean over time [n, size] of what the head will see: the layers' mean, or the last.

    In float32 whatever the layers compute in: some channels hardly vary around a large mean, and
    in bf16 a mean would keep the mean only.
    """
    if not getattr(model.config, "use_weighted_layer_sum", False):
        last: torch.Tensor = model.base_model(batch).last_hidden_state
        return last.float().mean(dim=1)
    hidden = model.base_model(batch, output_hidden_states=True).hidden_states
    return torch.stack(hidden).float().mean(dim=(0, 2))
