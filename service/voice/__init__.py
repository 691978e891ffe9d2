"""Voice activity: where in a clip somebody speaks.

The detector is Silero VAD 6.2 (MIT, LICENSE.silero) in its sequence form, which scores all frames
of a clip in one call: in the engine that is loaded anyway it costs about 2 ms of one core for 3 s
of audio, where the same network called frame by frame costs more than the emotion model itself. The
measured error rates are in docs/voice-activity.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.domain import Samples
from service.runtime import Network
from service.voice.spectrum import fold

MODEL = Path(__file__).parent / "silero_vad_16k_sequence.onnx"
"""From the silero-vad 6.2.3 distribution, unchanged; sha256 is checked by a test."""
NAME: Final = "silero-vad-6.2"
"""How a bundle names the detector that its windows were cut with."""

FRAME = 512
"""Samples a probability stands for (32 ms)."""
CONTEXT = 64
"""Samples before each frame that the network hears with it."""
STATE = (1, 1, 128)
FRAMES_A_CALL = 2048
"""66 s: a clip is one call, and hours of recording need no more memory than it. The network's state
is handed on, so the cut changes nothing."""
SPEECH_PROBABILITY = 0.5
"""A frame at or above it is speech: the network's own default."""


class VoiceActivity:
    """The detector; calls are safe from any thread."""

    def __init__(self, *, streams: int = 1) -> None:
        self._network = Network(MODEL, streams=streams, threads=streams, rewrite=fold)

    def __call__(self, samples: Samples) -> NDArray[np.bool_]:
        """Tell for each frame of `FRAME` samples, the last one padded, whether it is speech.

        Args:
            samples: float32 [n], mono, `SAMPLE_RATE`, n ≥ 1.

        Returns:
            bool [ceil(n / FRAME)].
        """
        frames = -(-samples.size // FRAME)
        padded = np.pad(samples, (CONTEXT, frames * FRAME - samples.size))
        heard = np.lib.stride_tricks.sliding_window_view(padded, CONTEXT + FRAME)[::FRAME]
        hidden = cell = np.zeros(STATE, np.float32)
        speech = []
        for start in range(0, frames, FRAMES_A_CALL):
            block = np.ascontiguousarray(heard[start : start + FRAMES_A_CALL])
            probabilities, hidden, cell = self._network({"input": block, "h": hidden, "c": cell})
            speech.append(probabilities.reshape(-1) >= SPEECH_PROBABILITY)
        return np.concatenate(speech)
