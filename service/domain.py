"""The vocabulary: small frozen types and errors every other module speaks in.

Standard library and numpy only, so that anything may import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float32]
"""Audio or windows of it: float32, mono, `SAMPLE_RATE`; the last axis is time."""

Logits: TypeAlias = NDArray[np.float32]
"""Scores before softmax: float32 [windows, labels]."""

SAMPLE_RATE = 16_000
"""Hz. Every model here hears 16 kHz mono, whatever the client sends."""


class Decision(StrEnum):
    """What the caller may do with a result."""

    ACCEPT = "accept"
    REVIEW = "review"
    NO_SPEECH = "no_speech"


class Track(StrEnum):
    """Which side of a rollout a pod is on."""

    STABLE = "stable"
    CANARY = "canary"
    BASELINE = "baseline"


class Traffic(StrEnum):
    """Why a clip is here, and by which model: figures of one kind are not those of another."""

    LIVE = "live"
    """Sent by a client, wherever the gateway's weights led it."""
    FORCED = "forced"
    """Sent by a client that named the track: somebody who tries it."""
    FALLBACK = "fallback"
    """Answered by the faster model, because the queue was long."""
    SHADOW = "shadow"
    """Sent by another pod that has answered it already: scored, not answered."""


@dataclass(frozen=True, slots=True)
class Clip:
    """The audio of one request, decoded.

    `samples` is float32 [n] at `SAMPLE_RATE`; `duration_s`, `sample_rate` (Hz) and `channels`
    describe the file the client sent.
    """

    samples: Samples
    duration_s: float
    sample_rate: int
    channels: int


@dataclass(frozen=True, slots=True)
class WindowSpec:
    """The fixed length and step of a model's windows, in seconds; both belong to its bundle."""

    window_s: float
    hop_s: float

    def __post_init__(self) -> None:
        if not 0 < self.hop_s <= self.window_s:
            raise ValueError(f"hop_s must be in (0, window_s], got {self.hop_s} of {self.window_s}")

    @property
    def window(self) -> int:
        """Samples in a window."""
        return round(self.window_s * SAMPLE_RATE)

    @property
    def hop(self) -> int:
        """Samples between the starts of two windows."""
        return round(self.hop_s * SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class Window:
    """A piece [start, stop) of a clip, in samples, and how many seconds of it are speech.

    A span shorter than the model's window stays short here; it is tiled when it is cut.
    """

    start: int
    stop: int
    speech_s: float


@dataclass(frozen=True, slots=True)
class Segment:
    """A window with its result on the clip's time line; label and score are None without speech."""

    start_s: float
    end_s: float
    label: str | None
    score: float | None
    speech: float
    """Seconds of speech in the segment."""


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label with its calibrated probability."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Result:
    """A clip's answer. Without speech `label` and `score` are None and `probabilities` is empty."""

    label: str | None
    score: float | None
    decision: Decision
    probabilities: Mapping[str, float] = field(default_factory=dict)
    top: tuple[LabelScore, ...] = ()
    segments: tuple[Segment, ...] = ()


class TimbreError(Exception):
    """A refusal with a reason for the caller; `slug` is stable and names it in every interface."""

    slug = "internal"
    title = "Something went wrong"


class BadRequest(TimbreError):
    """The request around the audio is malformed: multipart, JSON or query."""

    slug = "bad-request"
    title = "The request is malformed"


class NotAudio(TimbreError):
    """The bytes are not a recording that can be read."""

    slug = "not-audio"
    title = "The body is not readable audio"


class SlowBody(TimbreError):
    """The client did not send its body in time."""

    slug = "slow-body"
    title = "The body came too slowly"


class TooLarge(TimbreError):
    """The body has more bytes than a clip may have."""

    slug = "too-large"
    title = "The clip has too many bytes"


class UnsupportedFormat(TimbreError):
    """Audio, but in a container or encoding that is not accepted."""

    slug = "unsupported-format"
    title = "The audio format is not supported"


class UnusableClip(TimbreError):
    """Readable audio outside the limits; its subclasses say which."""

    slug = "unusable-clip"
    title = "The clip is outside the limits"


class TooLong(UnusableClip):
    """The clip lasts longer than allowed."""

    slug = "too-long"
    title = "The clip is too long"


class NoSamples(UnusableClip):
    """The file holds no audio."""

    slug = "no-samples"
    title = "The clip has no samples"


class BadSampleRate(UnusableClip):
    """The sample rate is outside the accepted range."""

    slug = "sample-rate"
    title = "The sample rate is not supported"


class TooManyChannels(UnusableClip):
    """More channels than accepted."""

    slug = "channels"
    title = "The clip has too many channels"


class NotFinite(UnusableClip):
    """A sample is NaN or infinite."""

    slug = "not-finite"
    title = "The clip has samples that are not numbers"


class Undecodable(UnusableClip):
    """Decoding it killed the decoder's process or went on for too long."""

    slug = "undecodable"
    title = "The clip cannot be decoded safely"


class Unavailable(TimbreError):
    """Try again later; `retry_after_s` (seconds, > 0) says when."""

    def __init__(self, detail: str, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Overloaded(Unavailable):
    """The queue is full: this clip was refused so that those before it are answered in time."""

    slug = "overloaded"
    title = "Too much work is queued"


class NotReady(Unavailable):
    """The model is not loaded yet, or the server is draining."""

    slug = "not-ready"
    title = "The server takes no clips now"


class DeadlineExceeded(TimbreError):
    """The answer would have come after the deadline; the work was dropped."""

    slug = "deadline"
    title = "The deadline passed"


class EngineFailed(TimbreError):
    """The model failed on this clip alone; its neighbours in the batch were answered."""

    slug = "engine-failed"
    title = "The model failed on this clip"


class BundleError(TimbreError):
    """A bundle is missing, wrong, truncated or altered."""

    slug = "bundle"
    title = "The bundle cannot be used"
