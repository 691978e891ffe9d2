"""When the frames of a model are: what pairs a student's frame with a teacher's."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedModel

from training.config import ConfigError
from training.whisper import STEP, WaveformWhisperEncoder


@dataclass(frozen=True, slots=True)
class Frames:
    """The times of a model's frames, in samples of its window."""

    first: float
    """Centre of the first frame's receptive field, as an index: 0 is the first sample itself."""
    step: int
    """From frame to frame."""


MEL = Frames(-0.5, STEP)
"""Of Whisper's spectrogram: its first spectrum is centred on the window's start."""


def of_convolutions(kernels: list[int], strides: list[int]) -> Frames:
    """Frames of convolutions without padding, the lowest first."""
    first, step = 0.0, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        first += step * (kernel - 1) / 2
        step *= stride
    return Frames(first, step)


def of_model(model: PreTrainedModel) -> Frames:
    """Frames of a Whisper that hears samples, or of wav2vec2 and its relatives.

    Raises:
        ConfigError: the model is something else.
    """
    if isinstance(model, WaveformWhisperEncoder):
        return Frames(MEL.first, 2 * STEP)  # the second convolution takes every other spectrum
    try:
        return of_convolutions(model.config.conv_kernel, model.config.conv_stride)
    except AttributeError as error:
        raise ConfigError(
            f"The frames of a {model.config.model_type} have no times that are known; give a "
            "wav2vec2, HuBERT, WavLM or Whisper."
        ) from error


def delay(student: Frames, teacher: Frames) -> int:
    """Samples to leave out of the teacher's window, so that its frames fall on the student's.

    Raises:
        ConfigError: the steps differ.
    """
    if student.step != teacher.step:
        raise ConfigError(
            f"The student has a frame every {student.step} samples and the teacher every "
            f"{teacher.step}; give a teacher of the same frame rate."
        )
    return round((student.first - teacher.first) % student.step)


def offsets(student: Frames, teacher: Frames, delay: int) -> tuple[int, int]:
    """The first frames of student and teacher that are at the same time.

    Args:
        student: in its window.
        teacher: in its window, which starts `delay` samples later.
        delay: samples.
    """
    ahead = round((student.first - teacher.first - delay) / student.step)
    return max(0, -ahead), max(0, ahead)
