"""Clip → windows → the clip's result. Pure, and the same in training, evaluation and serving.

Windows are laid over the *span* of a clip, from the first speech to the last, so that silence
around it is not heard. All windows of a model have one length: a model that normalises over
time gives a padded clip other logits than the same clip alone, and windows of one length can share
a batch without padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from service.domain import (
    SAMPLE_RATE,
    Decision,
    LabelScore,
    Logits,
    Result,
    Samples,
    Segment,
    Window,
    WindowSpec,
)

MIN_SPEECH_S = 0.25
"""Less speech than this in a clip is `no_speech`; measured in docs/voice-activity.md."""
MARGIN_S = 0.1
"""Kept before the first and after the last speech frame: onsets and breaths carry emotion too."""
NORMALISATION_EPSILON = 1e-7
"""As transformers' Wav2Vec2FeatureExtractor adds to the variance."""


def lay(speech: NDArray[np.bool_], frame: int, samples: int, spec: WindowSpec) -> list[Window]:
    """Lay windows over the speech of a clip of `samples` samples.

    Args:
        speech: bool [frames], whether each `frame` samples are speech.
        frame: samples a frame stands for.
        samples: length of the clip, ≥ 1.
        spec: the model's window and hop.

    Returns:
        Windows in order, the first at the start of the span and the last aligned to its end; every
        sample of the span is in one. A span shorter than a window is one short window. Windows
        without speech are listed with `speech_s` 0: they count for nothing and are not scored.
        Empty when the clip has less than `MIN_SPEECH_S` of speech, its last frame counted as a
        whole one.
    """
    if speech.sum() * frame < MIN_SPEECH_S * SAMPLE_RATE:
        return []
    first, last = span(speech, frame, samples)
    if last - first <= spec.window:
        starts = [first]
    else:
        starts = [*range(first, last - spec.window, spec.hop), last - spec.window]
    edges, spoken_by = _spoken_by(speech, frame, samples)
    windows = []
    for start in starts:
        stop = min(start + spec.window, last)
        before, until = np.interp((start, stop), edges, spoken_by)
        windows.append(Window(start, stop, float(until - before)))
    return windows


def span(speech: NDArray[np.bool_], frame: int, samples: int) -> tuple[int, int]:
    """From the first to the last speech of a clip, in samples, with `MARGIN_S` on either side.

    The whole clip where there is no speech; arguments as for `lay`.
    """
    spoken = np.flatnonzero(speech)
    if not spoken.size:
        return 0, samples
    margin = round(MARGIN_S * SAMPLE_RATE)
    first = max(0, int(spoken[0]) * frame - margin)
    return first, min(samples, (int(spoken[-1]) + 1) * frame + margin)


def speech_seconds(speech: NDArray[np.bool_], frame: int, samples: int) -> float:
    """Seconds of speech in a clip of `samples` samples; arguments as for `lay`."""
    return float(_spoken_by(speech, frame, samples)[1][-1])


def _spoken_by(
    speech: NDArray[np.bool_], frame: int, samples: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Frame boundaries in samples, and the seconds of speech before each; both [frames + 1]."""
    edges = np.minimum(np.arange(speech.size + 1) * frame, samples)
    spoken = np.cumsum(speech * np.diff(edges)) / SAMPLE_RATE
    return edges, np.concatenate(([0.0], spoken))


def cut(samples: Samples, window: Window, spec: WindowSpec) -> Samples:
    """Cut one window out of a clip: tiled to the model's length, zero mean and unit variance.

    A short window is repeated, not padded with silence, which would tell the model how long the
    clip was, and with it the corpus it came from.

    Args:
        samples: float32 [n], the clip.
        window: where to cut.
        spec: the model's window.

    Returns:
        float32 [spec.window].
    """
    # resize repeats; float64 because the variance of a loud window must not overflow or cancel
    piece = np.resize(samples[window.start : window.stop], spec.window).astype(np.float64)
    piece -= piece.mean()
    piece /= np.sqrt(piece.var() + NORMALISATION_EPSILON)
    return piece.astype(np.float32)


def softmax(logits: Logits, temperature: float) -> NDArray[np.float64]:
    """Probabilities [windows, labels] of logits at a calibration temperature."""
    scaled = logits.astype(np.float64) / temperature
    scaled -= scaled.max(axis=-1, keepdims=True)
    exponentials = np.exp(scaled)
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return probabilities


def pool(probabilities: NDArray[np.float64], windows: Sequence[Window]) -> NDArray[np.float64]:
    """Mean over the windows [windows, labels] → [labels], weighted by their seconds of speech."""
    weights = np.array([window.speech_s for window in windows])
    pooled: NDArray[np.float64] = weights @ probabilities / weights.sum()
    return pooled


def scored(windows: Sequence[Window]) -> list[Window]:
    """The windows that have speech, and so are worth scoring."""
    return [window for window in windows if window.speech_s > 0]


def conclude(
    logits: Logits,
    windows: Sequence[Window],
    labels: Sequence[str],
    *,
    temperature: float,
    review_threshold: float,
) -> Result:
    """Make a clip's result of its windows and the logits of those that were `scored`.

    Args:
        logits: float32 [scored windows, labels], in the order of `scored(windows)`.
        windows: as laid.
        labels: names of the columns.
        temperature: of the calibration.
        review_threshold: confidence below it is `review`.
    """
    speaking = scored(windows)
    if not speaking:
        return Result(None, None, Decision.NO_SPEECH)
    per_window = softmax(logits, temperature)
    clip = pool(per_window, speaking)
    results = dict(zip(speaking, per_window, strict=True))
    return decide(
        dict(zip(labels, map(float, clip), strict=True)),
        tuple(_segment(window, results, labels) for window in windows),
        review_threshold=review_threshold,
    )


def decide(
    probabilities: Mapping[str, float], segments: Sequence[Segment], *, review_threshold: float
) -> Result:
    """Decide on a clip with speech by its probabilities; of equals the first label is the best."""
    ranked = tuple(
        LabelScore(label, score)
        for label, score in sorted(probabilities.items(), key=lambda item: -item[1])
    )
    best = ranked[0]
    accepted = best.score >= review_threshold
    return Result(
        label=best.label,
        score=best.score,
        decision=Decision.ACCEPT if accepted else Decision.REVIEW,
        probabilities=probabilities,
        top=ranked[:1] if accepted else ranked[:2],
        segments=tuple(segments),
    )


def _segment(
    window: Window, results: Mapping[Window, NDArray[np.float64]], labels: Sequence[str]
) -> Segment:
    label = score = None
    if window in results:
        best = int(results[window].argmax())
        label, score = labels[best], float(results[window][best])
    start_s, end_s = window.start / SAMPLE_RATE, window.stop / SAMPLE_RATE
    return Segment(start_s, end_s, label, score, window.speech_s)
