"""A crop is of the speech, as long as the model hears, and its edges move as told."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.domain import SAMPLE_RATE, WindowSpec
from service.voice import FRAME
from service.windows import lay, span
from training.augment.crop import SPEECH_SHARE, crop, piece

LENGTH = 16_000
masks = st.lists(st.tuples(st.booleans(), st.integers(1, 30)), min_size=1, max_size=12).map(
    lambda runs: np.concatenate([np.full(count, value) for value, count in runs])
)


def _spoken(speech: NDArray[np.bool_], samples: int, start: int, stop: int) -> int:
    every = np.repeat(speech, FRAME)[:samples]
    return int(piece(every, start, stop).sum())


@given(speech=masks, missing=st.integers(0, FRAME - 1), seed=st.integers(0, 99))
def test_a_crop_is_half_speech_wherever_one_can_be(
    speech: NDArray[np.bool_], missing: int, seed: int
) -> None:
    """Of all crops of its length within the span, by counting every one."""
    samples = speech.size * FRAME - missing
    window = crop(speech, samples, LENGTH, 0, np.random.default_rng(seed))
    first, last = span(speech, FRAME, samples)
    assert first <= window.start < window.stop <= last
    size = min(LENGTH, last - first)
    assert window.stop - window.start == size
    every = np.concatenate(([0], np.cumsum(np.repeat(speech, FRAME)[:samples])))
    most = int((every[first + size : last + 1] - every[first : last + 1 - size]).max())
    heard = _spoken(speech, samples, window.start, window.stop)
    assert heard >= min(SPEECH_SHARE * size, most) - 1
    assert round(window.speech_s * SAMPLE_RATE) == heard


@given(speech=masks, jitter=st.integers(0, 5_000), seed=st.integers(0, 99))
def test_edges_move_no_further_than_told(speech: NDArray[np.bool_], jitter: int, seed: int) -> None:
    """Outwards by the jitter, inwards by a frame, and not where that would be mostly silence."""
    samples = speech.size * FRAME
    first, last = span(speech, FRAME, samples)
    length = samples + 2 * jitter
    window = crop(speech, samples, length, jitter, np.random.default_rng(seed))
    inwards = min(jitter, FRAME)
    assert first - jitter <= window.start <= first + inwards
    assert last - inwards <= window.stop <= last + jitter
    if (window.start, window.stop) != (first, last):
        heard = _spoken(speech, samples, window.start, window.stop)
        assert heard >= SPEECH_SHARE * (window.stop - window.start)


def test_edges_move_both_ways() -> None:
    """Over many draws they come near every bound."""
    speech = np.ones(50, bool)
    windows = [crop(speech, 50 * FRAME, 10**6, 2_000, np.random.default_rng(s)) for s in range(300)]
    starts = np.array([window.start for window in windows])
    stops = np.array([window.stop for window in windows]) - 50 * FRAME
    assert starts.min() < -1_900
    assert starts.max() > FRAME - 50
    assert stops.min() < 50 - FRAME
    assert stops.max() > 1_900


def test_without_jitter_a_short_clip_is_cropped_as_it_is_served() -> None:
    """The one window that the service lays over it."""
    speech = np.array([False] * 10 + [True] * 15 + [False] * 12)
    (served,) = lay(speech, FRAME, 37 * FRAME, WindowSpec(1.0, 0.5))
    assert crop(speech, 37 * FRAME, LENGTH, 0, np.random.default_rng(0)) == served


def test_starts_are_spread_over_the_speech() -> None:
    """Not only at its ends: every tenth of the room there is has some."""
    speech = np.ones(100, bool)
    starts = [
        crop(speech, 100 * FRAME, LENGTH, 0, np.random.default_rng(seed)).start
        for seed in range(300)
    ]
    counts, _ = np.histogram(starts, bins=10, range=(0, 100 * FRAME - LENGTH))
    assert counts.min() > 10


@given(start=st.integers(-50, 80), length=st.integers(0, 90))
def test_a_piece_beyond_the_ends_is_silent_there(start: int, length: int) -> None:
    """And inside it is what was there."""
    values = np.arange(1, 31, dtype=np.float32)
    got = piece(values, start, start + length)
    expected = [values[i] if 0 <= i < 30 else 0 for i in range(start, start + length)]
    assert got.tolist() == expected
