"""Each augmentation is tested for what it promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.domain import SAMPLE_RATE, WindowSpec
from service.voice import FRAME
from tests.support.audio import speech_like
from training.augment import add_noise, augment, change_speed, crop
from training.config import Augmentation

SPEC = WindowSpec(1.0, 0.5)


def _tone(hertz: float, seconds: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    return (0.5 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


@given(snr_db=st.floats(-5, 40), seed=st.integers(0, 100))
def test_the_snr_asked_is_the_snr_made(snr_db: float, seed: int) -> None:
    """Over the part that is speech, not over the whole clip."""
    random = np.random.default_rng(seed)
    samples = np.zeros(16_000, np.float32)
    active = slice(4_000, 12_000)
    samples[active] = _tone(300, 0.5)
    noise = random.standard_normal(5_000).astype(np.float32)
    added = add_noise(samples, noise, snr_db, active) - samples
    made = 10 * np.log10(np.mean(samples[active] ** 2) / np.mean(added[active] ** 2))
    assert made == pytest.approx(snr_db, abs=0.01)


def test_silent_noise_adds_nothing() -> None:
    """No gain makes an SNR of it."""
    samples = _tone(300, 0.1)
    assert add_noise(samples, np.zeros(10, np.float32), 5.0) is samples


@pytest.mark.parametrize("factor", [0.9, 1.0, 1.1])
def test_speed_changes_length_and_pitch_alike(factor: float) -> None:
    """Played faster, a tone is shorter and higher by the same factor."""
    changed = change_speed(_tone(440, 2.0), factor)
    assert changed.size == pytest.approx(2.0 * SAMPLE_RATE / factor, abs=2)
    peak = np.abs(np.fft.rfft(changed)).argmax() * SAMPLE_RATE / changed.size
    assert peak == pytest.approx(440 * factor, abs=1)


@given(first=st.integers(0, 50_000), length=st.integers(1, 100_000), seed=st.integers(0, 9))
def test_a_crop_is_within_the_speech(first: int, length: int, seed: int) -> None:
    """It has the model's length where there is so much speech, else all of it."""
    window = crop(first, first + length, SPEC, np.random.default_rng(seed))
    assert first <= window.start < window.stop <= first + length
    assert window.stop - window.start == min(length, SPEC.window)


def test_a_view_depends_on_its_generator_alone() -> None:
    """The same seed gives the same view, and another one another."""
    samples = speech_like(3.0)
    speech = np.ones(-(-samples.size // FRAME), bool)
    noises = [np.random.default_rng(1).standard_normal(1_000).astype(np.float32)]

    def view(seed: int) -> tuple[bytes, int]:
        settings = Augmentation(noise_probability=1.0, speed_probability=1.0)
        rng = np.random.default_rng(seed)
        sound, window = augment(samples, speech, SPEC, settings, noises, rng=rng)
        return sound.tobytes(), window.start

    assert view(7) == view(7)
    assert view(7) != view(8)
