"""Bytes → windows, and their logits → a result: the path every caller shares.

The server puts its batcher between the two halves, the command line and the evaluation call the
runner at once; all hear the same windows and pool them alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.audio import MAX_DURATION_S, decode
from service.bundle import Bundle, Precision, RuntimeName
from service.domain import Clip, Logits, Result, Samples, Window, WindowSpec
from service.runner import Runner, open_runner
from service.voice import FRAME, VoiceActivity
from service.windows import conclude, cut, lay, scored, speech_seconds


@dataclass(frozen=True, slots=True)
class Heard:
    """A clip ready for the runner; `batch` holds its windows with speech, float32 [window] each."""

    clip: Clip
    speech_s: float
    windows: Sequence[Window]
    batch: Sequence[Samples]


class Classifier:
    """One bundle's way from bytes to a result; both halves are safe from any thread."""

    def __init__(self, runner: Runner, voice: VoiceActivity) -> None:
        """Take a runner and the voice activity that its bundle was made with."""
        manifest = runner.bundle.manifest
        self.runner = runner
        self._voice = voice
        self._spec: WindowSpec = manifest.audio.window
        self._labels = manifest.labels
        self._facts = manifest.precisions[runner.precision]

    def hear(self, data: bytes, *, max_duration_s: float = MAX_DURATION_S) -> Heard:
        """Decode a clip, find its speech and cut its windows.

        Raises:
            TimbreError: NotAudio, UnsupportedFormat or UnusableClip, as `audio.decode`.
        """
        return self.listen(decode(data, max_duration_s=max_duration_s))

    def listen(self, clip: Clip) -> Heard:
        """Find a clip's speech and cut its windows."""
        samples = clip.samples
        speech = self._voice(samples)
        windows = lay(speech, FRAME, samples.size, self._spec)
        batch = [cut(samples, window, self._spec) for window in scored(windows)]
        return Heard(clip, speech_seconds(speech, FRAME, samples.size), windows, batch)

    def conclude(self, heard: Heard, logits: Sequence[Logits]) -> Result:
        """Make the result of what the runner said of `heard.batch`, in its order."""
        return conclude(
            np.array(logits, np.float32),
            heard.windows,
            self._labels,
            temperature=self._facts.temperature,
            review_threshold=self._facts.review_threshold,
        )

    def classify(self, heard: Heard, *, max_batch: int = 8) -> Result:
        """Run the runner here and now, `max_batch` windows at a time."""
        logits: list[Logits] = []
        for start in range(0, len(heard.batch), max_batch):
            logits += self.runner(heard.batch[start : start + max_batch])
        return self.conclude(heard, logits)


def open_classifier(
    bundle: Bundle,
    *,
    runtime: RuntimeName = "openvino",
    precision: Precision = "fp32",
    streams: int = 1,
    threads: int = 1,
    adaptive: bool = False,
) -> Classifier:
    """Load a verified bundle's model and the voice activity; arguments as `open_runner`'s.

    Raises:
        BundleError: the bundle lacks weights for this runtime and precision, or they don't load.
    """
    runner = open_runner(
        bundle,
        runtime=runtime,
        precision=precision,
        streams=streams,
        threads=threads,
        adaptive=adaptive,
    )
    return Classifier(runner, VoiceActivity(streams=threads))
