"""Windows: every sample of the speech is in one, and a clip's result is the mean of theirs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from service.domain import SAMPLE_RATE, Decision, Result, Samples, Window, WindowSpec
from service.voice import FRAME
from service.windows import (
    MARGIN_S,
    MIN_SPEECH_S,
    conclude,
    cut,
    lay,
    pool,
    scored,
    softmax,
    speech_seconds,
)
from service.windows import span as service_span

MARGIN = round(MARGIN_S * SAMPLE_RATE)
LEAST_FRAMES = math.ceil(MIN_SPEECH_S * SAMPLE_RATE / FRAME)
"""Frames of speech that a clip needs."""
LABELS = ("angry", "happy", "sad")

specs = st.integers(1, 100).flatmap(
    lambda window: st.integers(1, window).map(
        lambda hop: WindowSpec(window_s=window / 20, hop_s=hop / 20)
    )
)
spoken = arrays.arrays(np.bool_, st.integers(1, 400))
enough_speech = spoken.filter(lambda speech: int(speech.sum()) >= LEAST_FRAMES)


@st.composite
def clips(draw: st.DrawFn) -> tuple[NDArray[np.bool_], int]:
    """Draw a clip's speech by frames, and its length in samples: the last frame may be short."""
    speech = draw(enough_speech)
    return speech, speech.size * FRAME - draw(st.integers(0, FRAME - 1))


def span(speech: NDArray[np.bool_], samples: int) -> tuple[int, int]:
    """Say from where to where there is speech, with its margins."""
    frames = np.flatnonzero(speech)
    first, last = int(frames[0]) * FRAME, int(frames[-1] + 1) * FRAME
    return max(0, first - MARGIN), min(samples, last + MARGIN)


def test_the_span_of_a_clip_without_speech_is_all_of_it() -> None:
    """Training has clips with a label in which no speech is found."""
    assert service_span(np.zeros(10, bool), FRAME, 5000) == (0, 5000)


class TestLay:
    """Where windows lie."""

    @given(clips(), specs)
    def test_every_sample_of_the_span_is_in_a_window(
        self, clip: tuple[NDArray[np.bool_], int], spec: WindowSpec
    ) -> None:
        speech, samples = clip
        first, last = span(speech, samples)
        windows = lay(speech, FRAME, samples, spec)
        covered = np.zeros(samples, bool)
        for window in windows:
            covered[window.start : window.stop] = True
        assert covered[first:last].all()
        assert not covered[:first].any()
        assert not covered[last:].any()

    @given(clips(), specs)
    def test_the_first_starts_the_span_and_the_last_ends_it(
        self, clip: tuple[NDArray[np.bool_], int], spec: WindowSpec
    ) -> None:
        """Starts rise; all windows are full but the one of a span that is shorter than it."""
        speech, samples = clip
        first, last = span(speech, samples)
        windows = lay(speech, FRAME, samples, spec)
        assert windows[0].start == first
        assert windows[-1].stop == last
        starts = [window.start for window in windows]
        assert starts == sorted(set(starts))
        assert all(
            window.stop - window.start == min(spec.window, last - first) for window in windows
        )
        steps = np.diff(starts)
        assert (steps[:-1] == spec.hop).all()
        assert (steps <= spec.hop).all()

    @given(clips(), specs)
    def test_the_speech_in_a_window_is_what_is_spoken_there(
        self, clip: tuple[NDArray[np.bool_], int], spec: WindowSpec
    ) -> None:
        """Never negative, never more than the window lasts, and equal to a count by samples."""
        speech, samples = clip
        by_sample = np.repeat(speech, FRAME)[:samples]
        windows = lay(speech, FRAME, samples, spec)
        for window in windows:
            heard = by_sample[window.start : window.stop].sum() / SAMPLE_RATE
            assert 0 <= window.speech_s <= (window.stop - window.start) / SAMPLE_RATE + 1e-9
            assert window.speech_s == pytest.approx(heard, abs=1e-9)
            assert (window.speech_s > 0) == (heard > 0), "rounding makes no speech"
        total = speech_seconds(speech, FRAME, samples)
        assert total == pytest.approx(by_sample.sum() / SAMPLE_RATE)
        assert sum(window.speech_s for window in windows) >= total - 1e-9
        assert scored(windows)

    @given(enough_speech, specs.map(lambda spec: WindowSpec(spec.window_s, spec.window_s)))
    def test_windows_that_do_not_overlap_share_the_speech(
        self, speech: NDArray[np.bool_], spec: WindowSpec
    ) -> None:
        """Where hop and window are equal, only the last one counts a piece again."""
        samples = speech.size * FRAME
        windows = lay(speech, FRAME, samples, spec)
        total = speech_seconds(speech, FRAME, samples)
        assert sum(window.speech_s for window in windows[:-1]) <= total + 1e-9
        assert sum(window.speech_s for window in windows) <= total + spec.window_s + 1e-9

    @given(
        speech=enough_speech.filter(lambda speech: speech.size < 200),
        some=st.tuples(st.integers(4, 50), st.integers(4, 50)),
        more=st.tuples(st.integers(4, 90), st.integers(4, 90)),
        spec=specs,
    )
    def test_silence_around_a_clip_changes_no_window(
        self,
        speech: NDArray[np.bool_],
        some: tuple[int, int],
        more: tuple[int, int],
        spec: WindowSpec,
    ) -> None:
        """Once the margins fit in, more frames of silence move windows and leave their content."""
        sound = np.random.default_rng(0).standard_normal(speech.size * FRAME).astype(np.float32)

        def heard(before: int, after: int) -> tuple[list[Samples], list[float]]:
            padded = np.pad(speech, (before, after))
            samples = np.pad(sound, (before * FRAME, after * FRAME))
            windows = lay(padded, FRAME, samples.size, spec)
            return (
                [samples[window.start : window.stop] for window in windows],
                [window.speech_s for window in windows],
            )

        pieces, seconds = heard(*some)
        others, other_seconds = heard(*more)
        assert len(pieces) == len(others)
        assert all(np.array_equal(a, b) for a, b in zip(pieces, others, strict=True))
        assert seconds == pytest.approx(other_seconds, abs=1e-9)

    @given(st.sets(st.integers(0, 99), min_size=LEAST_FRAMES, max_size=LEAST_FRAMES))
    def test_less_than_the_least_speech_is_no_speech(self, frames: set[int]) -> None:
        """Wherever they are: with the frames needed there are windows, with one less none."""
        spec = WindowSpec(1.0, 0.5)
        speech = np.zeros(100, bool)
        speech[list(frames)] = True
        assert lay(speech, FRAME, 100 * FRAME, spec)
        speech[min(frames)] = False
        assert lay(speech, FRAME, 100 * FRAME, spec) == []

    def test_the_last_frame_counts_as_a_whole_one(self) -> None:
        """A clip of as many frames as it takes is scored, though its end cuts the last one off."""
        samples = (LEAST_FRAMES - 1) * FRAME + 1
        (window,) = lay(np.ones(LEAST_FRAMES, bool), FRAME, samples, WindowSpec(1.0, 0.5))
        assert (window.start, window.stop) == (0, samples)
        assert window.speech_s < MIN_SPEECH_S

    def test_silence_has_no_windows(self) -> None:
        """Not even an array without a frame is an error."""
        for frames in (0, 1, 1000):
            assert lay(np.zeros(frames, bool), FRAME, frames * FRAME, WindowSpec(1, 1)) == []

    @given(specs)
    def test_a_span_of_just_a_window_is_one_window(self, spec: WindowSpec) -> None:
        """One sample more makes it two, the second one sample later at most."""
        length = max(spec.window, round(MIN_SPEECH_S * SAMPLE_RATE))
        exact = WindowSpec(length / SAMPLE_RATE, spec.hop_s)
        assert len(lay(np.ones(length, bool), 1, length, exact)) == 1
        longer = lay(np.ones(length + 1, bool), 1, length + 1, exact)
        assert [window.start for window in longer] == [0, 1]

    @pytest.mark.parametrize(("window_s", "hop_s"), [(1, 0), (1, -1), (1, 1.01), (0, 0)])
    def test_a_hop_that_would_skip_samples_is_refused(self, window_s: float, hop_s: float) -> None:
        with pytest.raises(ValueError, match="hop_s"):
            WindowSpec(window_s, hop_s)


class TestCut:
    """What the model hears of a window."""

    spec = WindowSpec(0.1, 0.05)

    @given(st.integers(2, 1600), st.floats(1e-3, 1e30))
    def test_zero_mean_and_unit_variance(self, length: int, scale: float) -> None:
        """Whatever the length, the level and the offset; huge values don't overflow."""
        random = np.random.default_rng(length)
        sound = ((random.standard_normal(2000) + 3) * scale).astype(np.float32)
        piece = cut(sound, Window(100, 100 + length, 0.1), self.spec)
        assert piece.shape == (self.spec.window,)
        assert piece.dtype == np.float32
        assert abs(piece.mean()) < 1e-3
        if length > 100:
            assert piece.std() == pytest.approx(1.0, abs=0.06)

    @given(st.integers(1, 1600))
    def test_a_short_window_is_tiled(self, length: int) -> None:
        """It is repeated from its start, with no silence in it."""
        sound = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
        piece = cut(sound, Window(7, 7 + length, 0.1), self.spec)
        index = np.arange(self.spec.window)
        assert np.array_equal(piece, piece[index % length])

    @given(
        st.sampled_from([0.0, 1e-30, 0.5, -1.0, 1e38, -3e38]),
        st.integers(1, 1600),
    )
    def test_a_constant_is_silence(self, value: float, length: int) -> None:
        """No division by zero, no NaN."""
        sound = np.full(1600, value, np.float32)
        piece = cut(sound, Window(0, length, 0.1), self.spec)
        assert np.isfinite(piece).all()
        assert np.abs(piece).max() < 1e-3 or abs(value) > 1e30

    def test_the_largest_floats_do_not_overflow(self) -> None:
        sound = np.tile(np.array([3e38, -3e38], np.float32), 800)
        piece = cut(sound, Window(0, 1600, 0.1), self.spec)
        assert np.array_equal(np.abs(piece), np.ones(1600, np.float32))

    def test_the_clip_is_not_changed(self) -> None:
        """Windows overlap, so cutting one must leave the samples to the next."""
        sound = np.random.default_rng(0).standard_normal(1600).astype(np.float32)
        before = sound.copy()
        cut(sound, Window(0, 1600, 0.1), self.spec)
        assert np.array_equal(sound, before)


windows_of = st.lists(st.floats(0.01, 1.0), min_size=1, max_size=20).map(
    lambda seconds: [
        Window(i * 8000, i * 8000 + 16_000, speech_s) for i, speech_s in enumerate(seconds)
    ]
)


class TestPool:
    """A clip's probabilities are the mean of its windows', by their seconds of speech."""

    @given(windows_of, st.integers(0, 100), st.floats(0.05, 20))
    def test_probabilities_stay_probabilities(
        self, windows: list[Window], seed: int, temperature: float
    ) -> None:
        logits = np.random.default_rng(seed).normal(0, 10, (len(windows), 6)).astype(np.float32)
        per_window = softmax(logits, temperature)
        pooled = pool(per_window, windows)
        assert pooled.sum() == pytest.approx(1.0)
        assert (pooled >= 0).all()
        assert (pooled <= per_window.max(axis=0) + 1e-12).all()
        assert (pooled >= per_window.min(axis=0) - 1e-12).all()

    @given(arrays.arrays(np.float32, (1, 6), elements=st.floats(-50, 50, width=32)))
    def test_a_single_window_is_the_clip(self, logits: NDArray[np.float32]) -> None:
        per_window = softmax(logits, 1.0)
        assert pool(per_window, [Window(0, 16_000, 0.3)]) == pytest.approx(per_window[0])

    def test_windows_weigh_by_their_speech(self) -> None:
        windows = [Window(0, 16_000, 0.9), Window(8000, 24_000, 0.3)]
        assert pool(np.eye(2), windows).tolist() == pytest.approx([0.75, 0.25])

    @given(windows_of, st.integers(0, 100))
    def test_the_order_of_windows_does_not_matter(self, windows: list[Window], seed: int) -> None:
        per_window = np.random.default_rng(seed).dirichlet(np.ones(4), len(windows))
        order = np.random.default_rng(seed + 1).permutation(len(windows))
        shuffled = pool(per_window[order], [windows[i] for i in order])
        assert shuffled == pytest.approx(pool(per_window, windows))

    @pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
    def test_softmax_knows_no_level(self, shift: float) -> None:
        """Adding a constant to all logits changes nothing, and large ones don't overflow."""
        logits = np.array([[0.0, 1.0, 2.0]], np.float32) + np.float32(shift)
        expected = np.exp([0.0, 0.5, 1.0]) / np.exp([0.0, 0.5, 1.0]).sum()
        assert softmax(logits, 2.0)[0] == pytest.approx(expected)


def concluded(logits: list[float], threshold: float) -> Result:
    """Conclude a clip of one window."""
    return conclude(
        np.array([logits], np.float32),
        [Window(0, 16_000, 1.0)],
        LABELS,
        temperature=1.0,
        review_threshold=threshold,
    )


class TestConclude:
    """From logits to the answer."""

    @given(st.lists(st.floats(-5, 5, width=32), min_size=3, max_size=3))
    def test_a_score_at_the_threshold_is_accepted(self, logits: list[float]) -> None:
        """With its label alone; by however little below, it is for review with the top two."""
        score = concluded(logits, 0.0).score
        assert score is not None
        accepted = concluded(logits, score)
        assert accepted.decision is Decision.ACCEPT
        assert len(accepted.top) == 1
        doubtful = concluded(logits, math.nextafter(score, 1.0))
        assert doubtful.decision is Decision.REVIEW
        assert len(doubtful.top) == 2

    def test_without_speech_there_is_no_answer(self) -> None:
        """Neither without windows nor with windows that have no speech in them."""
        for windows in ([], [Window(0, 16_000, 0.0)]):
            result = conclude(
                np.zeros((0, 3), np.float32), windows, LABELS, temperature=1, review_threshold=0.5
            )
            assert result.decision is Decision.NO_SPEECH
            assert (result.label, result.score, result.top) == (None, None, ())
            assert not result.probabilities

    @given(windows_of, st.integers(0, 1000), st.floats(0.05, 20), st.floats(0, 1))
    def test_the_answer_agrees_with_itself(
        self, windows: list[Window], seed: int, temperature: float, threshold: float
    ) -> None:
        """Label, score, top, probabilities and decision say the same thing."""
        logits = np.random.default_rng(seed).normal(0, 3, (len(windows), 3)).astype(np.float32)
        result = conclude(
            logits, windows, LABELS, temperature=temperature, review_threshold=threshold
        )
        assert list(result.probabilities) == list(LABELS)
        assert sum(result.probabilities.values()) == pytest.approx(1.0)
        assert result.label is not None
        assert result.score == max(result.probabilities.values())
        assert result.score == result.probabilities[result.label]
        assert (result.top[0].label, result.top[0].score) == (result.label, result.score)
        assert result.decision is (
            Decision.ACCEPT if result.score >= threshold else Decision.REVIEW
        )
        assert [top.score for top in result.top] == sorted(
            (top.score for top in result.top), reverse=True
        )

    def test_equal_scores_go_to_the_first_label(self) -> None:
        """The same clip never gets two answers."""
        result = conclude(
            np.zeros((1, 3), np.float32),
            [Window(0, 16_000, 1.0)],
            LABELS,
            temperature=1,
            review_threshold=0.9,
        )
        assert [top.label for top in result.top] == ["angry", "happy"]

    def test_segments_are_all_windows_in_order(self) -> None:
        """A window without speech is on the time line, without a label."""
        windows = [Window(1600, 17_600, 0.5), Window(9600, 25_600, 0.0), Window(17_600, 33_600, 1)]
        logits = np.array([[5, 0, 0], [0, 0, 5]], np.float32)
        result = conclude(logits, windows, LABELS, temperature=1, review_threshold=0.5)
        assert [(s.start_s, s.end_s) for s in result.segments] == [
            (0.1, 1.1),
            (0.6, 1.6),
            (1.1, 2.1),
        ]
        assert [s.label for s in result.segments] == ["angry", None, "sad"]
        assert [s.speech for s in result.segments] == [0.5, 0.0, 1.0]
        assert result.segments[1].score is None
        assert result.segments[0].score == pytest.approx(softmax(logits, 1.0)[0, 0])

    def test_logits_for_other_windows_are_an_error(self) -> None:
        """One row for each window with speech, no more and no less."""
        with pytest.raises(ValueError, match=r"."):
            conclude(
                np.zeros((2, 3), np.float32),
                [Window(0, 16_000, 1.0)],
                LABELS,
                temperature=1,
                review_threshold=0.5,
            )
