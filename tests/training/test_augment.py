"""A view of a clip: a pure function of its generator, in time with the clip, and of the right kind.

What each effect promises is in the other test_augment modules.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from service.domain import SAMPLE_RATE, Samples, Window, WindowSpec
from service.voice import FRAME
from service.windows import cut, span
from tests.support.audio import speech_like
from training import config as configuration
from training.augment import EFFECTS, augment, rng_of
from training.config import Augmentation, ConfigError

SPEC = WindowSpec(1.0, 0.5)
PROBABILITIES = [f"{name}_probability" for name in ("speed", *EFFECTS)]
OFF = Augmentation.model_validate({"jitter_s": 0, **dict.fromkeys(PROBABILITIES, 0)})
SPEECH = speech_like(4.0)
NOISES = [np.random.default_rng(1).standard_normal(1_000).astype(np.float32)]


def _with(**changes: object) -> Augmentation:
    return Augmentation.model_validate(OFF.model_dump() | changes)


def _clip(seconds: float = 3.0) -> tuple[Samples, NDArray[np.bool_]]:
    """Half a second of nothing, then speech; read-only, as the data set's are."""
    spoken = SPEECH[: round((seconds - 0.5) * SAMPLE_RATE)]
    samples = np.concatenate((np.zeros(8_000, np.float32), spoken))
    speech = np.arange(-(-samples.size // FRAME)) * FRAME >= 8_000
    samples.flags.writeable = False
    return samples, speech


def _view(chosen: Augmentation, seed: int = 0, seconds: float = 3.0) -> tuple[Samples, Window]:
    samples, speech = _clip(seconds)
    return augment(samples, speech, SPEC, chosen, NOISES, rng=np.random.default_rng(seed))


def test_an_epoch_of_a_clip_is_pinned() -> None:
    """In every process, whatever Python's own hash is: else a resumed run would hear others."""
    assert rng_of(0, 3, "train/03-01.ogg").integers(2**32) == 2940645056


def test_seed_epoch_and_clip_each_make_another_view() -> None:
    """Names that differ by little are as different as any."""
    keys = [(0, 0, "a1"), (1, 0, "a1"), (0, 1, "a1"), (0, 0, "a2"), (0, 0, "1a")]
    assert len({rng_of(*key).integers(2**32) for key in keys}) == len(keys)


def test_the_same_generator_makes_the_same_view() -> None:
    """With everything on; and another one makes another view."""
    everything = _with(jitter_s=0.1, **dict.fromkeys(PROBABILITIES, 1))
    (first, window), (second, again) = _view(everything, 7), _view(everything, 7)
    assert np.array_equal(first, second)
    assert window == again
    assert not np.array_equal(first[: SPEC.window], _view(everything, 8)[0][: SPEC.window])


def test_only_the_generator_given_is_used() -> None:
    """Torch's and numpy's own are as they were, so that dropout stays reproducible beside it."""
    torch_before, numpy_before = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    _view(_with(**dict.fromkeys(PROBABILITIES, 1)))
    assert torch.equal(torch.get_rng_state(), torch_before)
    assert str(np.random.get_state()) == str(numpy_before)  # noqa: NPY002


def test_the_clip_is_left_as_it_is() -> None:
    """It is a view of the data set's memory."""
    samples, speech = _clip()
    before = samples.copy()
    samples.flags.writeable = True
    everything = _with(**dict.fromkeys(PROBABILITIES, 1))
    for seed in range(5):
        augment(samples, speech, SPEC, everything, NOISES, rng=np.random.default_rng(seed))
    assert np.array_equal(samples, before)


@given(seed=st.integers(0, 1000), seconds=st.floats(1.0, 4.0))
@settings(max_examples=30)
def test_with_everything_off_a_view_is_a_piece_of_the_clip(seed: int, seconds: float) -> None:
    """Sample by sample, within the span of the speech."""
    _, speech = _clip(seconds)
    count = round(seconds * SAMPLE_RATE)
    samples = np.arange(count, dtype=np.float32)  # each tells where it was
    first, last = span(speech, FRAME, count)
    rng = np.random.default_rng(seed)
    view, window = augment(samples, speech, SPEC, OFF, NOISES, rng=rng)
    heard = view[window.start : window.stop]
    assert heard.size == min(SPEC.window, last - first)
    assert first <= heard[0] <= heard[-1] < last
    assert np.all(np.diff(heard) == 1)


@pytest.mark.parametrize("probability", PROBABILITIES)
def test_each_effect_changes_the_window(probability: str) -> None:
    """Alone, at probability 1, and to samples of which all are finite and of the right type."""
    plain, where = _view(OFF)
    view, window = _view(_with(**{probability: 1}, gain_db=(6, 6)))
    assert view.dtype == np.float32
    assert np.isfinite(view).all()
    changed = cut(view, window, SPEC) - cut(plain, where, SPEC)
    assert np.sqrt(np.mean(changed**2)) > 0.01


def test_an_effect_switched_off_leaves_the_others_as_they_were() -> None:
    """Two runs that differ in one effect have the same crops and noises."""
    one, window = _view(_with(noise_probability=1), 5)
    two, same = _view(_with(noise_probability=1, gain_probability=1, gain_db=(0, 0)), 5)
    assert window == same
    assert np.allclose(two, one / np.abs(one).max(), atol=1e-6)


@given(
    speed=st.sampled_from([0.8, 0.93, 1.0, 1.07, 1.25]),
    seed=st.integers(0, 1000),
    seconds=st.floats(1.0, 4.0),
)
@settings(max_examples=40)
def test_a_window_is_as_long_as_the_model_hears(speed: float, seed: int, seconds: float) -> None:
    """At any speed; shorter only where all of the speech is, and never outside the samples."""
    samples, speech = _clip(seconds)
    first, last = span(speech, FRAME, samples.size)
    view, window = _view(_with(speed_probability=1, speed=(speed, speed)), seed, seconds)
    assert 0 <= window.start < window.stop <= view.size
    expected = min(SPEC.window, (last - first) / speed)
    assert window.stop - window.start == pytest.approx(expected, abs=2)


def test_the_snr_of_a_view_is_that_of_its_speech() -> None:
    """Its pauses, and what is worked on around it, don't count."""
    samples = np.zeros(24_000, np.float32)
    samples[8_192:16_384] = speech_like(1.0)[:8_192]
    speech = np.zeros(47, bool)
    speech[16:32] = True
    loud = _with(noise_probability=1, snr_db=(3, 3))
    clean, window = augment(samples, speech, SPEC, OFF, NOISES, rng=np.random.default_rng(3))
    noisy, same = augment(samples, speech, SPEC, loud, NOISES, rng=np.random.default_rng(3))
    assert window == same
    spoken = clean != 0
    noise = noisy - clean
    made = np.sum(clean[spoken] ** 2) / np.sum(noise[spoken] ** 2)
    # The zeros within speech_like are few, so the mask's samples are the spoken ones.
    assert 10 * np.log10(made) == pytest.approx(3, abs=0.2)


@pytest.mark.parametrize("name", EFFECTS)
def test_the_voice_of_a_view_is_where_the_clip_has_it(name: str) -> None:
    """No effect shifts time: the energy follows the plain view's within a millisecond.

    Pitch moves each sound a little (10 ms at most), to fit what was before it.
    """
    changes = {f"{name}_probability": 1, "snr_db": (20, 20), "pitch_semitones": (1, 1)}
    plain, window = _view(OFF)
    view, same = _view(_with(**changes))
    assert window == same
    assert abs(_lag(np.abs(view), np.abs(plain))) <= (160 if name == "pitch" else 16)


def _lag(late: Samples, early: Samples) -> int:
    """Samples by which one is behind the other, by the peak of their cross-correlation."""
    size = 2 * late.size
    spectrum = (
        np.fft.rfft(late - late.mean(), size) * np.fft.rfft(early - early.mean(), size).conj()
    )
    peak = int(np.fft.irfft(spectrum, size).argmax())
    return peak if peak < size // 2 else peak - size


def test_no_noises_is_no_noise() -> None:
    """A data root without a folder of noise can be trained on."""
    samples, speech = _clip()
    noisy = _with(noise_probability=1)
    plain, _ = augment(samples, speech, SPEC, OFF, [], rng=np.random.default_rng(0))
    view, _ = augment(samples, speech, SPEC, noisy, [], rng=np.random.default_rng(0))
    assert np.array_equal(view, plain)


@pytest.mark.parametrize("sound", [np.zeros(20_000), np.zeros(1), np.full(300, 0.1)])
def test_odd_clips_make_finite_views(sound: NDArray[np.float64]) -> None:
    """Silence, a single sample, a click: nothing divides by the level that they don't have."""
    samples = sound.astype(np.float32)
    everything = _with(jitter_s=0.2, **dict.fromkeys(PROBABILITIES, 1))
    for found in (False, True):
        speech = np.full(-(-samples.size // FRAME), found)
        for seed in range(5):
            rng = np.random.default_rng(seed)
            view, window = augment(samples, speech, SPEC, everything, NOISES, rng=rng)
            assert np.isfinite(view).all()
            assert 0 <= window.start < window.stop <= view.size


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("snr_db = [25, 5]", "snr_db: .*give the lower end first, not 25 before 5"),
        ("speed = [0, 1]", "speed.0: .*greater than 0"),
        ("low_pass_hz = [100, 8000]", "low_pass_hz.1: .*less than or equal to 7800"),
        ("codecs = []", "codecs: .*at least 1 item"),
        ("room_probability = 1.5", "room_probability: .*less than or equal to 1"),
        ("jitter_s = -0.1", "jitter_s: .*greater than or equal to 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, line: str, sentence: str) -> None:
    """With the field's name."""
    file = tmp_path / "config.toml"
    file.write_text(
        "bundle = { name = 'a', version = '1', licence = 'x' }\nmodel = { checkpoint = 'x' }\n"
        f"[augmentation]\n{line}\n"
    )
    with pytest.raises(ConfigError, match=sentence):
        configuration.load(str(file))
