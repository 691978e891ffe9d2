"""A bundle with a real, tiny model: random weights, made as training makes its bundles."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.support.audio import speech_like

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from service.bundle import Bundle

LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad")
"""Of the model, in the order of its logits."""
WINDOW_S = 1.0
HOP_S = 0.5
LOGIT_SPREAD = 0.25
"""Standard deviation of a label's logits over voices."""
TEMPERATURE = 0.02
"""At which some clips are accepted and some are for review."""


def tiny_model_bundle(folder: Path, *, version: str = "1.0.0", seed: int = 0) -> Bundle:
    """Write and seal a bundle called `tiny` that loads in both runtimes; takes a few seconds.

    Its shape is the shipped model's (a strided front end with layer norm, 1 s windows every
    0.5 s), so that a window's logits don't depend on its batch. Another seed is another model.

    Args:
        folder: emptied first.
        version: of the bundle.
        seed: of the weights.

    Returns:
        The verified bundle.
    """
    from training import config, export  # noqa: PLC0415 - torch, only where a model is made

    settings = config.Config(
        bundle=config.Identity(name="tiny", version=version, licence="For tests only"),
        windows=config.Windows(window_s=WINDOW_S, hop_s=HOP_S),
        model=config.Model(checkpoint="random"),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns of what it fixes: the window's length
        export.write_weights(_random_model(seed), folder, settings.windows.spec.window)
    card = "# Tiny\n\nRandom weights: what it says means nothing.\n"
    return export.seal_with_card(folder, card, export.draft(settings, temperature=TEMPERATURE))


def _random_model(seed: int) -> PreTrainedModel:
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

    configuration = Wav2Vec2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        classifier_proj_size=16,
        conv_dim=(32, 32, 32),
        conv_kernel=(400, 3, 3),
        conv_stride=(160, 1, 2),
        conv_bias=True,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        id2label=dict(enumerate(LABELS)),
        label2id={name: number for number, name in enumerate(LABELS)},
        initializer_range=0.1,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = Wav2Vec2ForSequenceClassification(configuration).eval()
    # A random head says the same of everything; centred on some babble, it has all labels to say.
    # Scaled too, because the engines' differences, amplified by random weights, stay below 1e-4.
    babble = np.stack([speech_like(WINDOW_S, voice) for voice in range(32)])
    babble /= babble.std(axis=1, keepdims=True)
    with torch.no_grad():
        logits = model(torch.from_numpy(babble)).logits
        scale = logits.std(dim=0) / LOGIT_SPREAD
        model.classifier.weight /= scale[:, None]
        model.classifier.bias -= logits.mean(dim=0)
        model.classifier.bias /= scale
    made: PreTrainedModel = model
    return made
