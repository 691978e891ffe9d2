"""The clips that every contender is asked about: 3 s of 16-bit WAV, speech from end to end."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import numpy as np

from service.domain import Samples, Window, WindowSpec
from service.voice import FRAME, VoiceActivity
from service.windows import cut, span
from tests.support.audio import encoded, speech_like

SPEC = WindowSpec(3.0, 1.5)
"""A clip is one window."""


def wavs(number: int) -> list[bytes]:
    """Make `number` files; the same ones each time.

    Voice activity takes the whole of each for speech, so that Timbre, which hears from the first
    speech to the last, hears exactly what the others hear.
    """
    return list(islice(_heard_whole(), number))


def _heard_whole() -> Iterator[bytes]:
    voice = VoiceActivity()
    for seed in count():
        samples = speech_like(SPEC.window_s, seed=seed)
        if span(voice(samples), FRAME, samples.size) == (0, samples.size):
            yield encoded(samples, subtype="PCM_16")


def window(samples: Samples) -> Samples:
    """Normalise a decoded clip as every contender does: float32 [SPEC.window]."""
    return cut(samples, Window(0, samples.size, SPEC.window_s), SPEC)


def windows(files: list[bytes]) -> Samples:
    """Decode and normalise: float32 [clips, SPEC.window]."""
    from service.audio import decode

    return np.stack([window(decode(file).samples) for file in files])
