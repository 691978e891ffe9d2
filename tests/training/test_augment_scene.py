"""Rooms and noises do what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.domain import SAMPLE_RATE, Samples
from tests.support.audio import speech_like
from training.augment.scene import add_noise, impulse_response, noise_piece, reverberate

SPEECH = speech_like(1.0)


def _noise(size: int, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).standard_normal(size).astype(np.float32)


@given(snr_db=st.floats(-5, 40), seed=st.integers(0, 100), share=st.floats(0.05, 1))
def test_the_snr_asked_is_the_snr_made(snr_db: float, seed: int, share: float) -> None:
    """Over the samples that are speech, wherever they lie, not over the whole clip."""
    random = np.random.default_rng(seed)
    active = random.random(16_000) < share
    samples = np.where(active, 0.1 * random.standard_normal(16_000), 0).astype(np.float32)
    added = (add_noise(samples, _noise(5_000, seed), snr_db, active) - samples).astype(np.float64)
    made = 10 * np.log10(np.mean(samples[active] ** 2) / np.mean(added[active] ** 2))
    assert made == pytest.approx(snr_db, abs=0.01)


def test_a_slice_can_say_what_is_speech() -> None:
    """As where a whole span counts."""
    samples, noise = SPEECH, _noise(16_000)
    mask = np.zeros(16_000, bool)
    mask[4_000:9_000] = True
    by_slice = add_noise(samples, noise, 5.0, slice(4_000, 9_000))
    assert np.array_equal(by_slice, add_noise(samples, noise, 5.0, mask))


def test_silent_noise_adds_nothing() -> None:
    """No gain makes an SNR of it."""
    samples = SPEECH
    assert add_noise(samples, np.zeros(10, np.float32), 5.0) is samples


@given(pause=st.integers(8_000, 60_000), seed=st.integers(0, 50))
def test_a_noise_that_pauses_is_heard_over_the_speech(pause: int, seed: int) -> None:
    """A bark in a long silence is not put beside the speech, to be raised out of all measure."""
    noise = np.concatenate((_noise(16_000), np.zeros(pause, np.float32)))
    active = np.zeros(48_000, bool)
    active[8_000:40_000] = True
    got = noise_piece(noise, active, np.random.default_rng(seed))
    assert got.size == active.size
    assert np.mean(got[~active] ** 2) <= 10 * np.mean(got[active] ** 2)


def test_a_short_noise_is_repeated() -> None:
    """From a random place of it, all the way round."""
    noise = np.arange(1, 8, dtype=np.float32)
    got = noise_piece(noise, np.ones(20, bool), np.random.default_rng(0))
    assert np.array_equal(got[:7], np.roll(noise, -int(got[0] - 1)))
    assert np.array_equal(got[7:14], got[:7])


@given(rt60_s=st.floats(0.1, 1.5), direct_db=st.floats(-5, 20), seed=st.integers(0, 20))
@settings(max_examples=50)
def test_a_room_decays_as_asked(rt60_s: float, direct_db: float, seed: int) -> None:
    """By Schroeder's backward integration, from -5 to -35 dB of the tail, within a tenth.

    Its direct sound comes first, is 1, and has the energy asked over the tail's.
    """
    response = impulse_response(rt60_s, direct_db, np.random.default_rng(seed)).astype(np.float64)
    assert response[0] == 1
    tail = response[1:] ** 2
    assert -10 * np.log10(tail.sum()) == pytest.approx(direct_db, abs=0.01)
    left = 10 * np.log10(tail[::-1].cumsum()[::-1] / tail.sum())
    fitted = (left < -5) & (left > -35)
    slope = np.polyfit(np.flatnonzero(fitted) / SAMPLE_RATE, left[fitted], 1)[0]
    assert -60 / slope == pytest.approx(rt60_s, rel=0.1)


@given(rt60_s=st.floats(0.1, 1.0), direct_db=st.floats(-5, 20), seed=st.integers(0, 20))
@settings(max_examples=25)
def test_a_room_keeps_the_level_of_the_speech(rt60_s: float, direct_db: float, seed: int) -> None:
    """Its power over the active part is what it was, and its length too."""
    samples = SPEECH
    active = np.zeros(16_000, bool)
    active[2_000:12_000] = True
    response = impulse_response(rt60_s, direct_db, np.random.default_rng(seed))
    wet = reverberate(samples, response, active)
    assert wet.size == samples.size
    before, after = (np.mean(sound[active].astype(float) ** 2) for sound in (samples, wet))
    assert 10 * np.log10(after / before) == pytest.approx(0, abs=0.01)


def test_a_room_does_not_delay() -> None:
    """A click stays where it was; before it there is nothing, after it the room."""
    click = np.zeros(8_000, np.float32)
    click[3_000] = 1
    response = impulse_response(0.2, 10.0, np.random.default_rng(0))
    wet = reverberate(click, response, np.ones(8_000, bool))
    assert np.abs(wet).argmax() == 3_000
    assert np.abs(wet[:3_000]).max() < 1e-6
    assert np.allclose(wet[3_000:6_201] / wet[3_000], response, atol=1e-5)


def test_nothing_in_a_room_is_nothing() -> None:
    """Silence has no level to keep."""
    silent = np.zeros(1_000, np.float32)
    response = impulse_response(0.2, 10.0, np.random.default_rng(0))
    assert reverberate(silent, response, np.ones(1_000, bool)) is silent
