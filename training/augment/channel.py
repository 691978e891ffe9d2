"""What carries the sound: a band, a codec, an input that is overdriven. None of it delays."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import soundfile
import soxr
import torch
import torchaudio
from scipy.signal import firwin, kaiserord, oaconvolve

from service.domain import SAMPLE_RATE, Samples
from training.augment.crop import piece
from training.config import Codec

TELEPHONE_HZ = (300.0, 3400.0)
"""The band of a telephone (ITU-T G.712)."""
TRANSITION_HZ = 200.0
"""From what passes to what doesn't."""
STOP_DB = 60.0
"""By so much is attenuated what doesn't pass."""
TELEPHONE_RATE = 8_000
"""Hz, of G.711."""
HEADROOM = 0.5
"""Peak that a codec is given: lossy ones overshoot."""

# 6 dB more: the ripples of a band's two slopes add up.
_ORDER, _KAISER_BETA = kaiserord(STOP_DB + 6, TRANSITION_HZ / (SAMPLE_RATE / 2))
_TAPS = int(_ORDER) | 1  # odd: an even filter would delay by half a sample


@dataclass(frozen=True, slots=True)
class _Lossy:
    """A codec of libsndfile, and its compression levels from gentle to harsh."""

    container: str
    subtype: str
    gentle: float
    harsh: float


_LOSSY: Mapping[Codec, _Lossy] = MappingProxyType(
    {
        # Of speech at 16 kHz, measured: 40 to 11 kbit/s, 77 to 30, and 85 to 29.
        "opus": _Lossy("OGG", "OPUS", 0.85, 0.99),
        "vorbis": _Lossy("OGG", "VORBIS", 0.0, 1.0),
        "mp3": _Lossy("MP3", "MPEG_LAYER_III", 0.0, 0.99),
    }
)


def limit_band(samples: Samples, low_hz: float | None, high_hz: float) -> Samples:
    """Let pass what is between two frequencies, or below one: float32 [n] → [n].

    Up to `high_hz`, and from `low_hz`, it passes within 1 dB; `TRANSITION_HZ` beyond either it is
    attenuated by `STOP_DB`. The filter is symmetric and centred: nothing is delayed.

    Args:
        samples: float32 [n].
        low_hz: None for a low-pass, else over `TRANSITION_HZ`.
        high_hz: under half of `SAMPLE_RATE` by more than `TRANSITION_HZ` / 2.
    """
    high = high_hz + TRANSITION_HZ / 2
    edges = high if low_hz is None else (low_hz - TRANSITION_HZ / 2, high)
    taps = firwin(
        _TAPS,
        edges,
        window=("kaiser", _KAISER_BETA),
        pass_zero=low_hz is None,
        fs=SAMPLE_RATE,
    ).astype(np.float32)
    limited: Samples = oaconvolve(samples, taps, mode="same")
    return limited


def transmit(samples: Samples, codec: Codec, harshness: float) -> Samples:
    """Encode and decode, in memory: float32 [n] → [n], at the level and the time it had.

    Args:
        samples: float32 [n].
        codec: of the settings; `mu-law` is 8 kHz telephony (G.711), and has one harshness only.
        harshness: from 0, the most bits, to 1, the fewest.
    """
    peak = float(np.abs(samples).max(initial=0.0))
    if not peak:
        return samples
    scale = np.float32(HEADROOM / peak)
    sent = samples * scale
    got = _mu_law(sent) if codec == "mu-law" else _lossy(sent, _LOSSY[codec], harshness)
    return piece(got, 0, samples.size) / scale


def _lossy(samples: Samples, codec: _Lossy, harshness: float) -> Samples:
    file = io.BytesIO()
    soundfile.write(
        file,
        samples,
        SAMPLE_RATE,
        format=codec.container,
        subtype=codec.subtype,
        compression_level=codec.gentle + harshness * (codec.harsh - codec.gentle),
    )
    file.seek(0)
    decoded: Samples = soundfile.read(file, dtype="float32")[0]
    return decoded


def _mu_law(samples: Samples) -> Samples:
    narrow = torch.from_numpy(soxr.resample(samples, SAMPLE_RATE, TELEPHONE_RATE))
    coded = torchaudio.functional.mu_law_encoding(narrow, 256)
    decoded = torchaudio.functional.mu_law_decoding(coded, 256).numpy()
    wide: Samples = soxr.resample(decoded, TELEPHONE_RATE, SAMPLE_RATE)
    return wide


def amplify(samples: Samples, gain_db: float) -> Samples:
    """Raise the level by `gain_db`; what would be beyond full scale (±1) saturates there."""
    louder: Samples = samples * np.float32(10 ** (gain_db / 20))
    return louder.clip(-1.0, 1.0)
