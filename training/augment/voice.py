"""Another voice: the same words faster or slower, higher or lower."""

from __future__ import annotations

import numpy as np
import soxr

from service.domain import SAMPLE_RATE, Samples
from training.augment.crop import piece

FRAME = 640
"""Samples (40 ms) that are moved as one: three periods of a low voice."""
HOP = FRAME // 2
"""Half a frame: Hann windows at this distance add up to 1."""
REACH = 160
"""Samples (10 ms) that a frame may be from where it belongs, to fit the one before: either way, so
that a whole period of a low voice is within reach."""
_COARSE = 2
"""Fits are compared at a half of the rate, where most of a voice is: a quarter of the work."""

_FADE = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME) / FRAME)).astype(np.float32)


def change_speed(samples: Samples, factor: float) -> Samples:
    """Play `factor` times as fast, pitch and all: float32 [n] → [n / factor]."""
    changed: Samples = soxr.resample(samples, SAMPLE_RATE * factor, SAMPLE_RATE, quality="MQ")
    return changed


def shift_pitch(samples: Samples, semitones: float) -> Samples:
    """Raise the pitch, formants with it; length and timing stay: float32 [n] → [n].

    Stretched, then resampled to the old length. Every sound is within `REACH` samples of its time.
    """
    if not semitones:
        return samples
    ratio = 2 ** (semitones / 12)
    return piece(change_speed(_stretch(samples, ratio), ratio), 0, samples.size)


def _stretch(samples: Samples, ratio: float) -> Samples:
    """Make it `ratio` times as long at the same pitch: float32 [n] → at least [n * ratio].

    WSOLA (Verhelst and Roelands 1993): frames are taken at one distance and laid at another, each
    from where the sound is most like what followed the frame before. A phase vocoder, which is
    torchaudio's way, smears what a voice does within a frame: bursts of a tone lost up to 5 dB.
    """
    frames = int(samples.size * ratio) // HOP + 2
    # Room for the first frame's fade-in, for the search, and for frames beyond the end.
    room = HOP + REACH
    sound = np.pad(samples, (room, room + 2 * FRAME))
    coarse = soxr.resample(sound, SAMPLE_RATE, SAMPLE_RATE / _COARSE)
    size, reach = FRAME // _COARSE, REACH // _COARSE
    energy = np.concatenate(([0.0], np.cumsum(np.square(coarse, dtype=np.float64))))
    stretched = np.zeros((frames + 1) * HOP, np.float32)
    place = REACH
    for number in range(frames):
        if number:
            # Where it belongs, at the coarse rate, less the reach: the first that is compared.
            first = round((number * HOP / ratio + REACH) / _COARSE) - reach
            follows = (place + HOP) // _COARSE
            alike = np.correlate(
                coarse[first : first + size + 2 * reach], coarse[follows : follows + size], "valid"
            )
            loud = energy[first + size :][: alike.size] - energy[first:][: alike.size]
            place = _COARSE * (first + int((alike / np.sqrt(loud + 1e-9)).argmax()))
        stretched[number * HOP : number * HOP + FRAME] += _FADE * sound[place : place + FRAME]
    return stretched[HOP:]
