"""The model to fine-tune: any checkpoint that classifies audio, with a head for our labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification

from training import config
from training.config import TINY_EN, ConfigError
from training.recording import LABELS
from training.whisper import fetch, of_spectrogram

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

HUB = "hub:"
"""Before a checkpoint's name: nothing is fetched from elsewhere by a slip of the pen."""
FETCHED = Path("runs") / "cache"
"""Where Whisper tiny.en is put, and found the next time."""
LAYER_WEIGHTS = "layer_weights"
CLASSIFIER = {"classifier", LAYER_WEIGHTS}
PROJECTOR = "projector"
MASK = "masked_spec_embed"


def build(settings: config.Model, root: Path, *, square: bool) -> PreTrainedModel:
    """Load the checkpoint in float32 with a head of random weights; or all of them are, if asked.

    Args:
        settings: the checkpoint and what changes in its configuration.
        root: where relative checkpoint folders are.
        square: whether the head keeps the encoder's size, so that it can start as a linear probe.

    Raises:
        ConfigError: there is no such folder, it lacks weights of the encoder, an override is no
            setting of it, or its layers are not where `transformer` looks for them.
    """
    source = find(settings.checkpoint, root)
    names = dict(enumerate(LABELS))
    configuration, unknown = AutoConfig.from_pretrained(
        source,
        num_labels=len(LABELS),
        id2label=names,
        label2id={name: number for number, name in names.items()},
        return_unused_kwargs=True,
        **settings.overrides,
    )
    if square:
        configuration.classifier_proj_size = configuration.hidden_size
    if getattr(configuration, "use_weighted_layer_sum", False):
        # A layer that is dropped leaves no hidden state, and the sum has a weight for each.
        for name in {"layerdrop", "encoder_layerdrop"} & vars(configuration).keys():
            setattr(configuration, name, 0.0)
    if unknown:
        raise ConfigError(
            f"{source} has no setting {next(iter(unknown))!r}; see [model.overrides]."
        )
    if settings.from_scratch:
        model: PreTrainedModel = AutoModelForAudioClassification.from_config(configuration).float()
    else:
        model = _with_weights(source, configuration)
    if settings.freeze != "nothing":
        _learn(model.base_model, learn=False)
        freeze = getattr(model, "freeze_feature_encoder", None)
        if callable(freeze):
            # Otherwise wav2vec2's asks for the gradient of its input, which nobody needs.
            freeze()
    if settings.freeze == "front-end":
        layers, norm = transformer(model)
        _learn(layers, learn=True)
        _learn(norm, learn=True)
        for name, parameter in model.named_parameters():
            # What stands for masked frames; many checkpoints have none.
            parameter.requires_grad |= name.endswith(MASK)
    return model


def _with_weights(source: str, configuration: PretrainedConfig) -> PreTrainedModel:
    model: PreTrainedModel
    model, loaded = AutoModelForAudioClassification.from_pretrained(
        source,
        config=configuration,
        dtype=torch.float32,
        use_safetensors=True,
        output_loading_info=True,
    )
    if random := [name for name in sorted(loaded["missing_keys"]) if not _may_be_new(name)]:
        raise ConfigError(f"The checkpoint in {source} has no weights for {random[0]}.")
    if LAYER_WEIGHTS in loaded["missing_keys"]:
        # transformers draws weights that are new, but leaves these as the memory was before.
        weights = model.get_parameter(LAYER_WEIGHTS)
        torch.nn.init.constant_(weights, 1 / len(weights))
    return model


def _may_be_new(name: str) -> bool:
    return name.split(".", maxsplit=1)[0] in {PROJECTOR, *CLASSIFIER} or name.endswith(MASK)


def _learn(part: torch.nn.Module, *, learn: bool) -> None:
    for parameter in part.parameters():
        parameter.requires_grad = learn


def find(checkpoint: str, root: Path) -> str:
    """Where a checkpoint of a configuration is: a folder, or a name on a hub.

    Args:
        checkpoint: `tiny.en`, which is fetched; `hub:NAME`; or a folder, absolute, in `root`, or
            where the command runs.
        root: the data root.

    Raises:
        ConfigError: there is no such folder, or it can't be fetched.
    """
    if checkpoint == TINY_EN:
        return str(fetch(FETCHED))
    if checkpoint.startswith(HUB):
        return checkpoint.removeprefix(HUB)
    for folder in (root / checkpoint, Path(checkpoint)):
        if folder.is_dir():
            return str(folder)
    raise ConfigError(
        f"No checkpoint in {root / checkpoint}; for a model of a hub write {HUB}NAME."
    )


def load(checkpoint: str, root: Path) -> PreTrainedModel:
    """Load a model that was trained here, head and all, in float32.

    Raises:
        ConfigError: there is no such folder, or its model has other labels.
    """
    model: PreTrainedModel = AutoModelForAudioClassification.from_pretrained(
        find(checkpoint, root), dtype=torch.float32, use_safetensors=True
    )
    if tuple((model.config.id2label or {}).values()) != LABELS:
        raise ConfigError(f"The model in {checkpoint} has not the labels {', '.join(LABELS)}.")
    return model


class LogitsOnly(torch.nn.Module):
    """A model with one input and one output, which is all that is served, and all that teaches."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        """Logits [n, labels] of windows [n, samples]."""
        logits: torch.Tensor = self.model(input_values).logits
        return logits


def encoder(checkpoint: str, root: Path) -> PreTrainedModel:
    """Load an encoder as it is, in float32, without a head; a Whisper's comes to hear samples.

    Raises:
        ConfigError: there is no such folder, or it lacks weights.
    """
    source = find(checkpoint, root)
    spectral = AutoConfig.from_pretrained(source).model_type == "whisper"
    model: PreTrainedModel
    model, loading = AutoModel.from_pretrained(
        source, dtype=torch.float32, use_safetensors=True, output_loading_info=True
    )
    if missing := sorted(set(loading["missing_keys"]) - {MASK}):
        raise ConfigError(f"{checkpoint} has no {missing[0]}: what it hears would be random.")
    return of_spectrogram(model.get_encoder()) if spectral else model


def transformer(model: PreTrainedModel) -> tuple[torch.nn.ModuleList, torch.nn.Module]:
    """The layers over the front end, lowest first, and the norm that follows the last.

    Raises:
        ConfigError: the architecture has them elsewhere than wav2vec2, HuBERT, WavLM and Whisper.
    """
    base = model.base_model
    encoder = getattr(base, "encoder", base)
    layers, norm = getattr(encoder, "layers", None), getattr(encoder, "layer_norm", None)
    if not isinstance(layers, torch.nn.ModuleList) or not isinstance(norm, torch.nn.Module):
        raise ConfigError(f"{type(model).__name__} has no layers where they are looked for.")
    return layers, norm


def parameter_groups(model: PreTrainedModel, training: config.Training) -> list[dict[str, object]]:
    """Optimiser groups: what is nearer to the labels learns faster, biases and norms don't decay.

    The classifier and the weights of layers have a rate of their own; the projector and the top
    layer have the pre-trained layers', and below it falls by `layer_decay` a layer.
    """
    layers, norm = transformer(model)
    top = len(layers)
    height = {id(p): i for i, layer in enumerate(layers, 1) for p in layer.parameters()}
    height |= {id(parameter): top for parameter in norm.parameters()}
    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = name.split(".")[0]
        below = 0 if part == PROJECTOR else top - height.get(id(parameter), 0)
        rate = training.learning_rate * training.layer_decay**below
        if part in CLASSIFIER:
            rate = training.head_learning_rate
        groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": parameters, "lr": rate, "weight_decay": training.weight_decay if decays else 0.0}
        for (rate, decays), parameters in groups.items()
    ]
