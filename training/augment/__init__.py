"""What happens to a training window: a view of a clip that no microphone heard, but one might have.

The effects come in the order in which they happen to sound: the voice itself (speed, pitch), the
room, noise in it, then what carries it (band, codec, gain). Only the window and a little around it
is worked on, so a long clip costs no more than a short one; `service.windows.cut` then tiles and
normalises it as ever.

Everything is a pure function of a generator that the caller makes with `rng_of`, so a run that is
resumed hears what it would have heard. Each effect draws from a stream of its own: switching one
off leaves the others as they were.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from service.domain import SAMPLE_RATE, Samples, Window, WindowSpec
from service.voice import FRAME
from training.augment.channel import TELEPHONE_HZ, amplify, limit_band, transmit
from training.augment.crop import crop, piece
from training.augment.scene import add_noise, impulse_response, noise_piece, reverberate
from training.augment.voice import change_speed, shift_pitch
from training.config import Augmentation

__all__ = ["EFFECTS", "add_noise", "augment", "rng_of"]

CONTEXT_S = 0.25
"""Worked on before and after the window where the clip goes on there, so that reverberation,
filters and codecs have a past."""


def rng_of(seed: int, epoch: int, clip: str) -> np.random.Generator:
    """Make the generator of a clip's view in an epoch.

    Args:
        seed: of the run, ≥ 0.
        epoch: ≥ 0.
        clip: a name that stays the same wherever the data lies, such as its path in the manifest.

    Returns:
        The same in every process and on every machine, whatever the order of the clips.
    """
    name = hashlib.blake2b(clip.encode(), digest_size=16).digest()
    return np.random.default_rng((seed, epoch, int.from_bytes(name)))


def augment(
    samples: Samples,
    speech: NDArray[np.bool_],
    spec: WindowSpec,
    settings: Augmentation,
    noises: Sequence[Samples],
    *,
    rng: np.random.Generator,
) -> tuple[Samples, Window]:
    """One training view of a clip: the samples to cut from, and the window to cut.

    Args:
        samples: float32 [n], the clip; it is left as it is.
        speech: bool [ceil(n / FRAME)], what voice activity found in it.
        spec: the model's window.
        settings: what happens how often, and how much.
        noises: float32 arrays of any lengths; without any there is no noise.
        rng: fresh, of `rng_of`: what is drawn depends on how often it was used before.

    Returns:
        float32 [m], and a window in it. Other samples than those given are finite, but not bound
        to full scale.
    """
    crops, speeds, *streams = rng.spawn(2 + len(EFFECTS))
    spoken_fast = speeds.random() < settings.speed_probability
    speed = speeds.uniform(*settings.speed) if spoken_fast else 1.0
    jitter = round(settings.jitter_s * SAMPLE_RATE)
    window = crop(speech, samples.size, math.ceil(spec.window * speed), jitter, crops)

    context = round(CONTEXT_S * SAMPLE_RATE)
    start = min(window.start, max(0, window.start - context))
    stop = max(window.stop, min(samples.size, window.stop + context))
    sound = piece(samples, start, stop)
    active = piece(np.repeat(speech, FRAME)[: samples.size], start, stop)
    window = Window(window.start - start, window.stop - start, window.speech_s)
    if spoken_fast:
        sound = change_speed(sound, speed)
        places = (np.arange(sound.size) * speed).astype(np.int64)
        active = active.take(places, mode="clip")
        first, last = round(window.start / speed), round(window.stop / speed)
        last = min(last, first + spec.window, sound.size)
        window = Window(first, last, window.speech_s / speed)
    scene = _Scene(_within(active, window), noises, settings)
    for (name, effect), stream in zip(EFFECTS.items(), streams, strict=True):
        if stream.random() < getattr(settings, f"{name}_probability"):
            sound = effect(sound, scene, stream)
    return sound, window


@dataclass(frozen=True, slots=True)
class _Scene:
    """What an effect may know besides the sound; `active` is bool [n], n as the sound's."""

    active: NDArray[np.bool_]
    noises: Sequence[Samples]
    settings: Augmentation


def _within(active: NDArray[np.bool_], window: Window) -> NDArray[np.bool_]:
    """The window's speech, or all of the window where it has none: the levels that count."""
    chosen = np.zeros_like(active)
    inside = slice(window.start, window.stop)
    chosen[inside] = active[inside] if active[inside].any() else True
    return chosen


def _pitch(sound: Samples, scene: _Scene, rng: np.random.Generator) -> Samples:
    return shift_pitch(sound, rng.uniform(*scene.settings.pitch_semitones))


def _room(sound: Samples, scene: _Scene, rng: np.random.Generator) -> Samples:
    rt60_s = rng.uniform(*scene.settings.rt60_s)
    direct_db = rng.uniform(*scene.settings.direct_to_reverberant_db)
    return reverberate(sound, impulse_response(rt60_s, direct_db, rng), scene.active)


def _noise(sound: Samples, scene: _Scene, rng: np.random.Generator) -> Samples:
    if not scene.noises:
        return sound
    snr_db = rng.uniform(*scene.settings.snr_db)
    noise = scene.noises[int(rng.integers(len(scene.noises)))]
    return add_noise(sound, noise_piece(noise, scene.active, rng), snr_db, scene.active)


def _telephone(
    sound: Samples,
    scene: _Scene,  # noqa: ARG001 - every effect is called alike
    rng: np.random.Generator,  # noqa: ARG001
) -> Samples:
    return limit_band(sound, *TELEPHONE_HZ)


def _low_pass(sound: Samples, scene: _Scene, rng: np.random.Generator) -> Samples:
    return limit_band(sound, None, rng.uniform(*scene.settings.low_pass_hz))


def _codec(sound: Samples, scene: _Scene, rng: np.random.Generator) -> Samples:
    codecs = scene.settings.codecs
    return transmit(sound, codecs[int(rng.integers(len(codecs)))], rng.uniform())


def _gain(sound: Samples, scene: _Scene, rng: np.random.Generator) -> Samples:
    # From full scale: otherwise loud clips alone would be overdriven, and loudness, which the
    # window's normalisation takes away, would be heard after all.
    peak = float(np.abs(sound).max(initial=0.0))
    return amplify(sound / peak if peak else sound, rng.uniform(*scene.settings.gain_db))


EFFECTS: Mapping[str, Callable[[Samples, _Scene, np.random.Generator], Samples]] = MappingProxyType(
    {
        "pitch": _pitch,
        "room": _room,
        "noise": _noise,
        "telephone": _telephone,
        "low_pass": _low_pass,
        "codec": _codec,
        "gain": _gain,
    }
)
"""In the order of their happening; each happens with the probability of its name in the settings.
Speed comes before them, since it decides how much of the clip is needed."""
