"""Audio made on the spot: sound that voice activity takes for speech, and files of it.

No recording is shipped with the tests, and noise or tones are not speech to Silero VAD, so this is
a small formant synthesiser (Klatt 1980): a glottal pulse train with a moving pitch through
resonators that glide from vowel to vowel, with fricatives between; seven syllables a second.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import soundfile
import soxr

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from service.domain import Samples

_FORMANTS = np.array(
    [  # Hz, of a man's heed, head, hod, hawed, who'd, hud (Peterson and Barney 1952)
        [270, 2290, 3010, 3400],
        [530, 1840, 2480, 3400],
        [730, 1090, 2440, 3400],
        [570, 840, 2410, 3400],
        [300, 870, 2240, 3400],
        [640, 1190, 2390, 3400],
    ],
    np.float64,
)
_BANDWIDTHS = (60.0, 90.0, 150.0, 200.0)
"""Hz, of the four formants."""
_PITCH = (85.0, 110.0)
"""Hz; higher voices of this synthesiser are less often taken for speech."""
_SYLLABLE_S = 0.15
_FRICTION = 0.15
"""Of a fricative, to the loudest vowel; half the syllables start with one."""
_RATE = 16_000
"""The synthesiser's own rate, in Hz."""
_STEP = 80
"""Samples for which a resonator keeps its frequency: 5 ms."""
_REPEATS_AFTER_S = 20.0
"""Longer babble says the same again: the loops below are Python's."""


def speech_like(seconds: float, seed: int = 0, rate: int = _RATE) -> Samples:
    """Synthesise babble of which voice activity takes at least 80% of the frames for speech.

    Args:
        seconds: length, from 1 (the detector needs some frames to be sure).
        seed: another seed is another voice with other words; the same gives the same samples.
        rate: of the samples returned, in Hz.

    Returns:
        float32 [round(seconds * rate)], mono, peak 0.5.
    """
    random = np.random.default_rng(seed)
    sound = _babble(int(min(seconds + 0.1, _REPEATS_AFTER_S) * _RATE), random)
    if rate != _RATE:
        sound = soxr.resample(sound, _RATE, rate)
    sound = np.resize(sound, round(seconds * rate))
    loudest = float(np.abs(sound).max())
    return (sound * (0.5 / loudest)).astype(np.float32)


def silence(seconds: float, rate: int = _RATE) -> Samples:
    """Nothing, as a quiet room records it: noise 70 dB below full scale, float32 [n]."""
    random = np.random.default_rng(0)
    return (3e-4 * random.standard_normal(round(seconds * rate))).astype(np.float32)


def encoded(
    samples: Samples, rate: int = _RATE, *, container: str = "WAV", subtype: str | None = None
) -> bytes:
    """Encode float32 samples, [n] or [n, channels], as a file; names as libsndfile's."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def _babble(count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Synthesise `count` samples at `_RATE`, peak about 1."""
    time = np.arange(count) / _RATE
    syllables = int(count / _RATE / _SYLLABLE_S) + 2
    knots = np.arange(syllables) * _SYLLABLE_S
    pitch = random.uniform(*_PITCH) * np.exp2(random.uniform(-0.25, 0.25, syllables))
    phase = np.cumsum(np.interp(time, knots, pitch) / _RATE)
    pulses = np.diff(np.floor(phase), prepend=0.0)
    source = pulses + 0.005 * random.standard_normal(count)  # with a little breath

    steps = np.arange(count // _STEP + 1) * _STEP / _RATE
    formants = _FORMANTS[random.integers(len(_FORMANTS), size=syllables)]
    vowels = _resonate(source, np.zeros(steps.size), 100.0)  # the glottis closes softly
    for number, bandwidth in enumerate(_BANDWIDTHS):
        vowels = _resonate(vowels, np.interp(steps, knots, formants[:, number]), bandwidth)
    vowels = np.diff(vowels, prepend=0.0)  # the lips radiate
    swing = np.cos(2 * np.pi * time / _SYLLABLE_S)
    vowels *= 0.55 - 0.45 * swing
    vowels /= np.abs(vowels).max()

    noise = np.diff(random.standard_normal(count), prepend=0.0)
    starts = np.repeat(random.random(syllables) < 0.5, round(_SYLLABLE_S * _RATE))[:count]
    voiced: NDArray[np.float64] = vowels + _FRICTION * noise * starts * np.maximum(0, swing) ** 4
    return voiced


def _resonate(
    source: NDArray[np.float64], frequencies: NDArray[np.float64], bandwidth: float
) -> NDArray[np.float64]:
    """Klatt's resonator: y[n] = A x[n] + B y[n-1] + C y[n-2], with a frequency (Hz) per step."""
    decay = np.exp(-np.pi * bandwidth / _RATE)
    c = -float(decay**2)
    out: list[float] = []
    before = last = 0.0
    for step, b in enumerate((2 * decay * np.cos(2 * np.pi * frequencies / _RATE)).tolist()):
        a = 1 - b - c
        for x in source[step * _STEP : (step + 1) * _STEP].tolist():
            before, last = last, a * x + b * last + c * before
            out.append(last)
    return np.array(out)
