"""A compact wav2vec2 that begins near a Whisper encoder, inside stock wav2vec2's configuration.

Its layers are pre-norm as Whisper's, and can be copied. Its front end can't: each convolution is
followed by a layer norm. But its parts can begin as what Whisper's front end is made of, a Fourier
transform, mel filters and two convolutions, and learn the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from training.whisper import FFT, STEP, WaveformWhisperEncoder, windowed_waves

MEL_CHANNELS = 512
"""Of the second convolution, whose first ones are mel filters."""
BOTTLENECK = 128
"""Channels of the third convolution, whose first ones come to be log-mel + 1: of that a GELU lets
nearly everything pass."""
KERNELS = (FFT, 1, 1, 3, 3)
STRIDES = (STEP, 1, 1, 1, 2)
FAINT = 1e-2
"""What the positional convolution begins with, of its usual size: as good as nothing."""
TINY = 1e-6
"""Norm below which a row counts as nothing."""


def of_whisper(whisper: WaveformWhisperEncoder) -> Wav2Vec2Model:
    """Build the student of a Whisper encoder; what isn't copied is from torch's generator."""
    size = whisper.config.d_model
    model = Wav2Vec2Model(
        Wav2Vec2Config(
            conv_dim=(4 * (FFT // 2 + 1), MEL_CHANNELS, BOTTLENECK, size, size),
            conv_kernel=KERNELS,
            conv_stride=STRIDES,
            conv_bias=True,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            hidden_size=size,
            num_hidden_layers=whisper.config.encoder_layers,
            num_attention_heads=whisper.config.encoder_attention_heads,
            intermediate_size=whisper.config.encoder_ffn_dim,
            num_conv_pos_embeddings=32,
            num_conv_pos_embedding_groups=16,
            hidden_dropout=0.0,
            attention_dropout=0.0,
            feat_proj_dropout=0.0,
            layerdrop=0.0,
            apply_spec_augment=False,
            mask_time_prob=0.0,
        )
    )
    weights, given = model.state_dict(), whisper.state_dict()
    with torch.no_grad():
        _front_end(weights, given, torch.from_numpy(whisper.log_mel.filters))
        _layers(weights, given)
    return model


def hears_mel(config: Any, bands: int) -> bool:  # noqa: ANN401 - of any model type
    """Whether a model's front end is of this kind, with channels for so many mel bands."""
    return (
        tuple(getattr(config, "conv_kernel", ())) == KERNELS
        and tuple(config.conv_stride) == STRIDES
        and config.conv_dim[2] >= bands
    )


def _front_end(
    weights: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor], mel: torch.Tensor
) -> None:
    """Begin as a spectrum of both signs, mel filters, and Whisper's convolutions.

    Args:
        weights: the student's, changed in place.
        given: Whisper's.
        mel: filters [bands, FFT // 2 + 1].
    """
    fourier, filters, bottleneck, first, second = (
        f"feature_extractor.conv_layers.{layer}.conv" for layer in range(len(KERNELS))
    )
    cosines, sines = windowed_waves(FFT)
    # GELU passes one sign: a wave and its opposite together tell a magnitude.
    waves = np.concatenate((cosines, -cosines, sines, -sines))
    # There is no sine of 0 Hz, and none of half the sampling rate.
    norms = np.linalg.norm(waves, axis=1, keepdims=True)
    weights[f"{fourier}.weight"][:, 0] = torch.from_numpy(waves / np.maximum(norms, TINY))

    bands = len(mel)
    rows = mel.repeat(1, 4)
    # As large as the random rows beside them, whose squares sum to 2.
    rows = rows * (2**0.5 / rows.norm(dim=1, keepdim=True).clamp_min(TINY))
    weights[f"{filters}.weight"][:bands, :, 0] = rows
    weights[f"{bottleneck}.weight"][:bands] = 0
    weights[f"{bottleneck}.weight"][:bands, :bands, 0] = torch.eye(bands)

    weights[f"{first}.weight"].zero_()
    weights[f"{first}.weight"][:, :bands] = given["conv1.weight"]
    # It hears log-mel + 1.
    weights[f"{first}.bias"].copy_(given["conv1.bias"] - given["conv1.weight"].sum(dim=(1, 2)))
    weights[f"{second}.weight"].copy_(given["conv2.weight"])
    weights[f"{second}.bias"].copy_(given["conv2.bias"])

    projection = weights["feature_projection.projection.weight"]
    projection.copy_(torch.eye(len(projection)))
    weights["feature_projection.projection.bias"].zero_()
    # A weight norm keeps sizes apart from directions: original0 are the sizes.
    weights["encoder.pos_conv_embed.conv.parametrizations.weight.original0"].mul_(FAINT)
    weights["encoder.pos_conv_embed.conv.bias"].zero_()


_NAMES = (
    ("self_attn_layer_norm", "layer_norm"),
    ("self_attn", "attention"),
    ("fc1", "feed_forward.intermediate_dense"),
    ("fc2", "feed_forward.output_dense"),
)
"""Whisper's names in a layer → wav2vec2's."""


def _layers(weights: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> None:
    """Copy Whisper's layers and final norm; arguments as for `_front_end`."""
    for name, weight in given.items():
        if name.startswith(("layers.", "layer_norm.")):
            renamed = f"encoder.{name}"
            for theirs, ours in _NAMES:
                renamed = renamed.replace(theirs, ours)
            weights[renamed].copy_(weight)
    for name, weight in weights.items():
        if name.endswith("k_proj.bias"):  # Whisper's keys have none
            weight.zero_()
