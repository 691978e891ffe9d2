"""What a baseline is told of a clip: its durations, its spectrum, its voice, an encoder's layers.

Each extractor hears a clip that has speech, and only its span: from the first speech to the last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray

from service.domain import SAMPLE_RATE, Samples, WindowSpec
from service.voice import FRAME
from service.windows import cut, lay, scored, span, speech_seconds
from training import model as models
from training.config import ConfigError

Extract: TypeAlias = Callable[[Samples, NDArray[np.bool_]], NDArray[np.float32]]
"""Samples, float32 [n] at 16 kHz, and speech, bool [frames] → float32 of one shape for all."""
Encode: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Windows [windows, samples] of zero mean and unit variance → means over time of an encoder's
hidden states [windows, layers, size]."""

MEL_BANDS = 64
MEL_RANGE = 8.0
"""Decades of power below a clip's loudest point that are kept, as Whisper does: what lies deeper
tells a lossy codec from a lossless one."""


@dataclass(frozen=True, slots=True)
class Features:
    """An extractor with a name, and a version that changes when its values would."""

    name: str
    version: str
    extract: Extract


def durations() -> Features:
    """Seconds of the clip, of its span and of speech in it: float32 [3]."""

    def extract(samples: Samples, speech: NDArray[np.bool_]) -> NDArray[np.float32]:
        first, last = span(speech, FRAME, samples.size)
        spoken = speech_seconds(speech, FRAME, samples.size)
        return np.array(
            [samples.size / SAMPLE_RATE, (last - first) / SAMPLE_RATE, spoken], np.float32
        )

    return Features("duration", "1", extract)


def log_mel() -> Features:
    """Mean and standard deviation of each log-mel band: float32 [2 * MEL_BANDS].

    The span has zero mean and unit variance first, as a model's windows have: no recording levels.
    """
    spectrogram = torchaudio.transforms.MelSpectrogram(
        SAMPLE_RATE, n_fft=512, win_length=400, hop_length=160, n_mels=MEL_BANDS
    )

    def extract(samples: Samples, speech: NDArray[np.bool_]) -> NDArray[np.float32]:
        first, last = span(speech, FRAME, samples.size)
        piece = torch.tensor(samples[first:last])
        piece = (piece - piece.mean()) / piece.std().clamp_min(1e-7)
        power = spectrogram(piece).clamp_min(1e-10).log10()
        power = power.clamp_min(power.max() - MEL_RANGE)
        statistics: NDArray[np.float32] = torch.cat((power.mean(1), power.std(1))).numpy()
        return statistics

    return Features("log-mel", "1", extract)


def egemaps() -> Features:
    """The 88 functionals of eGeMAPSv02 (Eyben et al. 2016), as openSMILE computes them.

    Raises:
        ConfigError: openSMILE is not installed.
    """
    try:
        import opensmile  # noqa: PLC0415 - an extra of its own, for its licence
    except ImportError as error:
        raise ConfigError(
            "eGeMAPS needs openSMILE: in a checkout of Timbre, pip install '.[baselines]', "
            "or leave it out with --only."
        ) from error
    smile = opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02,
        feature_level=opensmile.FeatureLevel.Functionals,
    )

    def extract(samples: Samples, speech: NDArray[np.bool_]) -> NDArray[np.float32]:
        first, last = span(speech, FRAME, samples.size)
        functionals: NDArray[np.float32] = smile(samples[first:last], SAMPLE_RATE).reshape(-1)
        return functionals

    return Features("egemaps", opensmile.__version__, extract)


def layers(name: str, version: str, encode: Encode, spec: WindowSpec) -> Features:
    """Means of a frozen encoder's hidden states over a clip's windows: float32 [layers, size].

    Windows are laid and cut as in serving, and weigh by their seconds of speech.
    """

    def extract(samples: Samples, speech: NDArray[np.bool_]) -> NDArray[np.float32]:
        windows = scored(lay(speech, FRAME, samples.size, spec))
        pooled = encode(np.stack([cut(samples, window, spec) for window in windows]))
        seconds = [window.speech_s for window in windows]
        return np.average(pooled, axis=0, weights=seconds).astype(np.float32)

    return Features(name, version, extract)


def checkpoint(source: str, root: Path, spec: WindowSpec) -> Features:
    """`layers` of a checkpoint: wav2vec2 and its kind, or a Whisper, which comes to hear samples.

    Args:
        source: as a configuration names a checkpoint: a folder, or a model of a hub.
        root: where relative folders are.
        spec: windows to hear it through.

    Raises:
        ConfigError: there is no such folder, or it lacks weights.
    """
    model = models.encoder(source, root).eval()

    def encode(windows: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            states = model(torch.from_numpy(windows), output_hidden_states=True).hidden_states
        means: NDArray[np.float32] = torch.stack(states, dim=1).mean(dim=2).numpy()
        return means

    sha = hashlib.sha256(model.config.to_json_string().encode())
    for name, weight in model.state_dict().items():
        sha.update(name.encode() + weight.numpy().tobytes())
    return layers(f"probe-{Path(source).name}", sha.hexdigest(), encode, spec)
