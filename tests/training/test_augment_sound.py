"""Speed, pitch, bands, codecs and gain do what they promise."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate

from service.domain import SAMPLE_RATE, Samples
from tests.support.audio import speech_like
from training.augment.channel import (
    TELEPHONE_HZ,
    TRANSITION_HZ,
    amplify,
    limit_band,
    transmit,
)
from training.augment.voice import change_speed, shift_pitch
from training.config import Codec

SPEECH = speech_like(2.0)
CODECS: tuple[Codec, ...] = get_args(Codec)


def _tone(hertz: float, seconds: float) -> Samples:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def _pitch(samples: Samples) -> float:
    """Frequency of a tone, in Hz, by the peak of its windowed and padded spectrum."""
    padded = 2**19
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size), padded))
    return float(spectrum.argmax() * SAMPLE_RATE / padded)


def _level_db(samples: Samples) -> float:
    """Of the middle, where no edge is heard."""
    quarter = samples.size // 4  # more than the filter is long
    return float(10 * np.log10(np.mean(samples[quarter:-quarter].astype(np.float64) ** 2)))


def _lag(late: Samples, early: Samples) -> int:
    """Samples by which one is behind the other, by the peak of their cross-correlation."""
    return int(correlate(late, early, "full").argmax()) - (early.size - 1)


@given(factor=st.floats(0.7, 1.4), hertz=st.floats(100, 2000))
@settings(max_examples=30)
def test_speed_changes_length_and_pitch_alike(factor: float, hertz: float) -> None:
    """Played faster, a tone is shorter and higher by the same factor."""
    changed = change_speed(_tone(hertz, 1.0), factor)
    assert changed.size == pytest.approx(SAMPLE_RATE / factor, abs=2)
    assert _pitch(changed) == pytest.approx(hertz * factor, rel=0.001)


@given(semitones=st.floats(-5, 5), hertz=st.floats(100, 2000), size=st.integers(12_000, 20_000))
@settings(max_examples=30)
def test_pitch_moves_by_the_semitones_asked(semitones: float, hertz: float, size: int) -> None:
    """And the length stays."""
    shifted = shift_pitch(_tone(hertz, 2.0)[:size], semitones)
    assert shifted.size == size
    assert shifted.dtype == np.float32
    assert _pitch(shifted) == pytest.approx(hertz * 2 ** (semitones / 12), rel=0.002)


@pytest.mark.parametrize("semitones", [-4.0, -1.5, 0.7, 3.0])
def test_pitch_keeps_the_tempo(semitones: float) -> None:
    """Bursts of a tone come when they came before, within 10 ms."""
    bursts = _tone(500, 2.0) * (np.arange(32_000) // 4_000 % 2 == 1)
    late, early = (
        np.convolve(np.abs(sound), np.ones(160, np.float32) / 160, "same")
        for sound in (shift_pitch(bursts, semitones), bursts)
    )
    assert abs(_lag(late - late.mean(), early - early.mean())) <= 160
    assert float(np.corrcoef(late, early)[0, 1]) > 0.95


def test_no_shift_is_no_change() -> None:
    """Not even the vocoder's own error."""
    samples = SPEECH
    assert shift_pitch(samples, 0.0) is samples


@given(cut_off=st.floats(500, 7800), below=st.floats(0, 1), above=st.floats(0, 1))
@settings(max_examples=40)
def test_a_low_pass_passes_below_and_stops_above(
    cut_off: float, below: float, above: float
) -> None:
    """Within 1 dB up to the cut-off; 60 dB down from the end of the transition on."""
    passes = _tone(50 + below * (cut_off - 50), 0.5)
    assert _level_db(limit_band(passes, None, cut_off)) == pytest.approx(_level_db(passes), abs=1)
    stop = cut_off + TRANSITION_HZ
    if stop < SAMPLE_RATE / 2 - 10:
        stopped = _tone(stop + above * (SAMPLE_RATE / 2 - 10 - stop), 0.5)
        assert _level_db(limit_band(stopped, None, cut_off)) < _level_db(stopped) - 60


@pytest.mark.parametrize(
    ("hertz", "passes"),
    [(300, True), (1000, True), (3400, True), (50, False), (100, False), (3600, False)],
)
def test_a_telephone_passes_its_band(*, hertz: float, passes: bool) -> None:
    """Within 1 dB inside, 60 dB down beyond the transitions."""
    tone = _tone(hertz, 0.5)
    loss = _level_db(tone) - _level_db(limit_band(tone, *TELEPHONE_HZ))
    assert abs(loss) <= 1 if passes else loss > 60


@given(size=st.integers(100, 20_000))
@settings(max_examples=20)
def test_a_band_keeps_length_and_time(size: int) -> None:
    """The filter is centred."""
    click = np.zeros(size, np.float32)
    click[size // 3] = 1
    limited = limit_band(click, None, 4000)
    assert limited.size == size
    assert np.abs(limited).argmax() == size // 3


@pytest.mark.parametrize("codec", CODECS)
@given(size=st.integers(8_000, 24_000), harshness=st.floats(0, 1), level=st.floats(1e-3, 4))
@settings(max_examples=5)
def test_a_codec_keeps_length_time_and_level(
    codec: Codec, size: int, harshness: float, level: float
) -> None:
    """Speech comes back within two samples of its time and 2 dB of its level, but not unharmed."""
    samples = SPEECH[:size] * np.float32(level)
    got = transmit(samples, codec, harshness)
    assert got.size == size
    assert got.dtype == np.float32
    assert abs(_lag(got, samples)) <= 2
    assert _level_db(got) == pytest.approx(_level_db(samples), abs=2)
    assert np.std(got - samples) > 0.001 * np.std(samples)


@pytest.mark.parametrize("codec", ["opus", "vorbis", "mp3"])
def test_a_harsher_codec_harms_more(codec: Codec) -> None:
    """At the ends of its range."""
    samples = SPEECH
    gentle, harsh = (np.std(transmit(samples, codec, end) - samples) for end in (0.0, 1.0))
    assert harsh > 1.3 * gentle


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("size", [1, 100, 700])
def test_a_codec_takes_the_shortest_sound(codec: Codec, size: int) -> None:
    """Of less than a frame of it."""
    got = transmit(_tone(440, 0.1)[1 : size + 1], codec, 0.5)
    assert got.size == size
    assert np.isfinite(got).all()


@pytest.mark.parametrize("codec", CODECS)
def test_a_codec_leaves_silence_alone(codec: Codec) -> None:
    """It has no level to send it at."""
    silent = np.zeros(1_000, np.float32)
    assert transmit(silent, codec, 0.5) is silent


@given(gain_db=st.floats(-40, 40), seed=st.integers(0, 9))
def test_a_gain_is_exact_up_to_full_scale(gain_db: float, seed: int) -> None:
    """What stays within ±1 is louder by so many dB; the rest is at full scale, no further."""
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, 1_000).astype(np.float32)
    louder = amplify(samples, gain_db)
    exact = samples * 10 ** (gain_db / 20)
    inside = np.abs(exact) < 1
    assert np.allclose(louder[inside], exact[inside], rtol=1e-5, atol=0)
    assert np.array_equal(louder[~inside], np.sign(samples[~inside]))
