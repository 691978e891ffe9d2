"""What augmentation costs a training window, effect by effect."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from service.domain import SAMPLE_RATE, Samples, WindowSpec
from service.voice import FRAME
from service.windows import cut
from tests.support.audio import speech_like
from training.augment import EFFECTS, augment, rng_of
from training.config import Augmentation

SPEC = WindowSpec(3.0, 1.5)
CLIP_S = 4.0
NOISE_S = 5.0
WARM_UP = 3


def costs(windows: int) -> dict[str, float]:
    """Milliseconds of CPU a window: plain, each effect's own on top of that, and the defaults.

    CPU time of one thread, so that other work on the machine changes little.
    """
    chances = [f"{name}_probability" for name in ("speed", *EFFECTS)]
    off = {"jitter_s": 0.0, **dict.fromkeys(chances, 0.0)}
    plain = Augmentation.model_validate(off)
    asked: dict[str, Augmentation] = {}
    for chance in chances:
        name = chance.removesuffix("_probability")
        if name != "codec":
            asked[name] = Augmentation.model_validate({**off, chance: 1.0})
            continue
        for codec in Augmentation().codecs:
            only: dict[str, Any] = {**off, chance: 1.0, "codecs": (codec,)}
            asked[codec] = Augmentation.model_validate(only)
    with tqdm(total=len(asked) + 2, desc="augmentation", unit="effect") as bar:

        def measured(settings: Augmentation) -> float:
            spent = _milliseconds(settings, windows)
            bar.update()
            return spent

        base = measured(plain)
        figures = {"plain": base}
        figures |= {name: measured(settings) - base for name, settings in asked.items()}
        figures["defaults"] = measured(Augmentation())
    return {name: round(spent, 2) for name, spent in figures.items()}


def _milliseconds(settings: Augmentation, windows: int) -> float:
    """CPU time of a window, the cut that follows included."""
    samples = speech_like(CLIP_S)
    speech = np.ones(-(-samples.size // FRAME), bool)
    noises: list[Samples] = [
        np.random.default_rng(0).standard_normal(int(NOISE_S * SAMPLE_RATE)).astype(np.float32)
    ]
    started = 0.0
    for number in range(WARM_UP + windows):
        if number == WARM_UP:
            started = time.thread_time()
        rng = rng_of(0, number, "clip")
        view, window = augment(samples, speech, SPEC, settings, noises, rng=rng)
        cut(view, window, SPEC)
    return 1000 * (time.thread_time() - started) / windows
