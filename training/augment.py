"""What happens to a training window: a random crop of the speech, speed, noise.

Everything is a pure function of a generator that the caller seeds with (seed, epoch, clip), so a
run that is resumed hears what it would have heard.
"""

from __future__ import annotations

import numpy as np
import soxr
from numpy.typing import NDArray

from service.domain import SAMPLE_RATE, Samples, Window, WindowSpec
from service.voice import FRAME
from service.windows import span
from training.config import Augmentation


def crop(first: int, last: int, spec: WindowSpec, rng: np.random.Generator) -> Window:
    """A window at random within [first, last); the whole of it where it is shorter."""
    slack = last - first - spec.window
    start = first + (int(rng.integers(slack + 1)) if slack > 0 else 0)
    return Window(start, min(start + spec.window, last), 0.0)


def change_speed(samples: Samples, factor: float) -> Samples:
    """Play `factor` times as fast, pitch and all."""
    changed: Samples = soxr.resample(samples, SAMPLE_RATE * factor, SAMPLE_RATE, quality="MQ")
    return changed


def add_noise(
    samples: Samples, noise: Samples, snr_db: float, active: slice = slice(None)
) -> Samples:
    """Mix noise, repeated where it is shorter, so that the speech-active part has the SNR asked.

    Args:
        samples: float32 [n].
        noise: float32 [m], any m ≥ 1.
        snr_db: power of the active samples over the power of the noise there, in dB.
        active: the part of `samples` that is speech.
    """
    noise = np.resize(noise, samples.size)
    speech_power = float(np.mean(np.square(samples[active], dtype=np.float64)))
    noise_power = float(np.mean(np.square(noise[active], dtype=np.float64)))
    if not noise_power:
        return samples
    gain = np.sqrt(speech_power / noise_power / 10 ** (snr_db / 10))
    mixed: Samples = (samples + gain * noise).astype(np.float32)
    return mixed


def augment(
    samples: Samples,
    speech: NDArray[np.bool_],
    spec: WindowSpec,
    settings: Augmentation,
    noises: list[Samples],
    *,
    rng: np.random.Generator,
) -> tuple[Samples, Window]:
    """One training view of a clip: the samples to cut from, and the window to cut."""
    first, last = span(speech, FRAME, samples.size)
    spoken = samples[first:last]
    if rng.random() < settings.speed_probability:
        spoken = change_speed(spoken, rng.uniform(*settings.speed))
    window = crop(0, spoken.size, spec, rng)
    if noises and rng.random() < settings.noise_probability:
        noise = noises[int(rng.integers(len(noises)))]
        noise = np.roll(noise, -int(rng.integers(noise.size)))[: spoken.size]
        spoken = add_noise(spoken, noise, rng.uniform(*settings.snr_db))
    return spoken, window
