"""Where a training window lies: at random over the speech, as a server might have cut it.

Voice activity sees a clip in frames, so the same speech is found a frame earlier or later when
something is put before it, and the margin around it then holds other sound. Edges that move in
training keep the model from minding; docs/augmentation.md says how far they move.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from service.domain import SAMPLE_RATE, Window
from service.voice import FRAME
from service.windows import span

SPEECH_SHARE = 0.5
"""Of a crop is speech, wherever there is such a crop."""
DRAWS = 32
"""Random starts to look at before the best start is taken."""

_Value = TypeVar("_Value", np.float32, np.bool_)


def crop(
    speech: NDArray[np.bool_], samples: int, length: int, jitter: int, rng: np.random.Generator
) -> Window:
    """A window at random over the speech of a clip, of `length` samples or all of a shorter span.

    Args:
        speech: bool [frames], whether each `FRAME` samples are speech.
        samples: length of the clip, ≥ 1.
        length: of the crop, in samples, ≥ 1.
        jitter: up to so many samples the span of the speech is wider on either side, and up to so
            many but at most a frame narrower.
        rng: where the randomness comes from.

    Returns:
        At least `SPEECH_SHARE` of it is speech where a crop of this length within the span, or the
        whole of a shorter span, has so much; else as much as can be. With jitter it may start
        before the clip or stop after it; see `piece`.
    """
    edges = np.minimum(np.arange(speech.size + 1) * FRAME, samples)
    spoken = np.concatenate(([0], np.cumsum(speech * np.diff(edges))))

    def speech_in(start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.interp(stop, edges, spoken)
        return found - np.interp(start, edges, spoken)

    found = np.array(span(speech, FRAME, samples))
    moved = found + rng.integers(-jitter, min(jitter, FRAME), size=2, endpoint=True) * (1, -1)
    starts = rng.random(DRAWS)
    # The wider span where it isn't mostly silence, else the one that the speech was found in.
    for first, last in (moved, found):
        slack = max(0, last - first - length)
        if slack:
            candidates = first + np.floor(starts * (slack + 1)).astype(np.int64)
            # The share changes its slope only where a crop starts or stops at the edge of a frame,
            # so the best start is one of these; they come last.
            best = np.concatenate(([first, first + slack], edges, edges - length))
            best = best[(best >= first) & (best <= first + slack)]
            best = best[[speech_in(best, best + length).argmax()]]
            candidates = np.concatenate((candidates, best))
        else:
            candidates = np.array([first])
        size = min(length, last - first)
        heard = speech_in(candidates, candidates + size)
        enough = np.flatnonzero(heard >= SPEECH_SHARE * size)
        if size > 0 and enough.size:
            chosen = enough[0]
            break
    else:
        chosen = -1
    start = int(candidates[chosen])
    return Window(start, start + int(size), float(heard[chosen]) / SAMPLE_RATE)


def piece(values: NDArray[_Value], start: int, stop: int) -> NDArray[_Value]:
    """The samples [start, stop), with zeros where that is beyond the ends: [stop - start].

    Digital silence is what a client that pads its clips puts there.
    """
    before = min(max(0, -start), stop - start)
    after = min(max(0, stop - values.size), stop - start)
    inside = values[max(0, start) : max(0, stop)]
    return np.pad(inside, (before, after)) if before or after else inside
