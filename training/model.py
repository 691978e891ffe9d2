"""The model to fine-tune: any wav2vec2 checkpoint with a fresh head for our labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from tqdm.auto import tqdm
from transformers import AutoConfig, AutoModelForAudioClassification

from training import config
from training.config import ConfigError
from training.data import LABELS

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def build(settings: config.Model, root: Path) -> PreTrainedModel:
    """Load the checkpoint in float32 with a head of random weights.

    Args:
        settings: the checkpoint and what changes in its configuration.
        root: where relative checkpoint folders are.

    Raises:
        ConfigError: there is no such folder.
    """
    source = settings.checkpoint.removeprefix(HUB)
    if source == settings.checkpoint:
        source = str(root / source)
        if not Path(source).is_dir():
            raise ConfigError(f"No checkpoint in {source}; for a model of a hub write {HUB}NAME.")
    names = dict(enumerate(LABELS))
    configuration = AutoConfig.from_pretrained(
        source,
        num_labels=len(LABELS),
        id2label=names,
        label2id={name: number for number, name in names.items()},
        **settings.overrides,
    )
    # Square, so that a head can start as a linear probe: see `probe`.
    configuration.classifier_proj_size = configuration.hidden_size
    model: PreTrainedModel = AutoModelForAudioClassification.from_pretrained(
        source, config=configuration, dtype=torch.float32, use_safetensors=True
    )
    if settings.freeze == "encoder":
        model.base_model.requires_grad_(requires_grad=False)
    elif settings.freeze == "front-end":
        model.base_model.get_submodule("feature_extractor").requires_grad_(requires_grad=False)
    return model


HUB = "hub:"
"""Before a checkpoint's name: nothing is fetched from elsewhere by a slip of the pen."""


class Windows(Protocol):
    """A data set of windows: input_values, float32 [samples], and labels."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> dict[str, Any]: ...


def probe(
    model: PreTrainedModel,
    windows: Windows,
    *,
    batch_size: int,
    strength: float,
) -> None:
    """Start the head as a logistic regression on the frozen encoder's mean over time.

    Fine-tuning from a random head first bends good features towards noise; from a probe it keeps
    more of what generalises (Kumar et al. 2022, "Fine-tuning can distort pretrained features").

    Args:
        model: its projector comes to standardise features, its classifier is the regression.
        windows: what the regression is fitted on.
        batch_size: windows scored at a time.
        strength: inverse strength of the L2 penalty on standardised features.
    """
    model.eval()
    pooled, labels = [], []
    for start in tqdm(range(0, len(windows), batch_size), desc="probe", unit="batch"):
        chosen = [windows[i] for i in range(start, min(start + batch_size, len(windows)))]
        batch = torch.from_numpy(np.stack([window["input_values"] for window in chosen]))
        with torch.inference_mode():
            hidden = model.base_model(batch.to(model.device)).last_hidden_state
        pooled.append(hidden.mean(dim=1).cpu().numpy())
        labels += [window["labels"] for window in chosen]
    features = np.concatenate(pooled)
    scaler = StandardScaler().fit(features)
    regression = LogisticRegression(C=strength, max_iter=1000)
    regression.fit(scaler.transform(features), labels)
    weight = np.zeros((len(LABELS), features.shape[1]))
    bias = np.full(len(LABELS), -10.0)  # a class without clips stays unlikely
    weight[regression.classes_] = regression.coef_
    bias[regression.classes_] = regression.intercept_
    # Standardising is the projector's part: folded into the classifier it would give directions of
    # little variance huge weights, and the first steps would shake the encoder.
    projector, classifier = model.projector, model.classifier
    if not isinstance(projector, torch.nn.Linear) or not isinstance(classifier, torch.nn.Linear):
        raise TypeError(f"{type(model).__name__} has no linear head to start from a probe")
    with torch.no_grad():
        projector.weight.copy_(torch.diag(torch.from_numpy(1 / scaler.scale_)))
        projector.bias.copy_(torch.from_numpy(-scaler.mean_ / scaler.scale_))
        classifier.weight.copy_(torch.from_numpy(weight))
        classifier.bias.copy_(torch.from_numpy(bias))


def parameter_groups(model: PreTrainedModel, training: config.Training) -> list[dict[str, object]]:
    """Optimiser groups: the head learns faster; biases and norms have no weight decay."""
    head = {"projector", "classifier", "layer_weights"}
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            key = (name.split(".")[0] in head, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": training.head_learning_rate if is_head else training.learning_rate,
            "weight_decay": training.weight_decay if decays else 0.0,
        }
        for (is_head, decays), parameters in groups.items()
    ]
