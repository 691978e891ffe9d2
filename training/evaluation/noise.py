"""What noise that training never heard does to the answers.

Every clip is heard with every kind of noise at every ratio; which recording of the kind and which
piece of it is drawn once for each clip, so that only the ratio differs between conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from service.audio import decode
from service.classifier import Classifier, Heard
from service.domain import Clip, Logits, Samples
from service.voice import FRAME, VoiceActivity
from training.augment import rng_of
from training.augment.scene import add_noise, noise_piece
from training.config import ConfigError
from training.evaluation.answers import Answers, headline
from training.evaluation.facts import Accepted, Noise, NoiseCondition
from training.evaluation.scores import Scores, collect, without_sound
from training.noises import KINDS, SUFFIXES, decoded
from training.recording import LABELS, Recording

MAX_BATCH = 16
"""Windows in one call of the runner."""
CLEAN = "clean"
ALL = "all"


def read(folder: Path) -> dict[str, list[Samples]]:
    """Recordings of each of `KINDS` below `folder`.

    Raises:
        ConfigError: there are none of one kind.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    found = {}
    for kind in KINDS:
        found[kind] = [
            decoded(path) for path in files if kind in path.relative_to(folder).as_posix()
        ]
        if not found[kind]:
            raise ConfigError(f"No recording of {kind} in {folder}; evaluate without --noise.")
    return found


def measure(
    classifier: Classifier,
    recordings: Sequence[Recording],
    noises: Mapping[str, Sequence[Samples]],
    ratios_db: Sequence[float],
    seed: int,
) -> dict[str, Scores]:
    """Hear every recording with every noise at every signal-to-noise ratio.

    Args:
        classifier: what serves.
        recordings: clips to mix noise into.
        noises: recordings by kind.
        ratios_db: power of the speech over the power of the noise meanwhile, in dB.
        seed: of the pieces of noise that are drawn.

    Returns:
        Scores by condition, which is called `KIND@RATIO`.
    """
    streams = classifier.runner.runtime.streams
    voice = VoiceActivity(streams=streams)
    conditions = [(kind, ratio) for kind in noises for ratio in ratios_db]

    def one(recording: Recording) -> list[tuple[Heard, Logits]]:
        clip = decode(recording.path.read_bytes())
        # The last frame may be longer than what is left of the clip.
        active = np.repeat(voice(clip.samples), FRAME)[: clip.samples.size]
        if not active.any():
            active = np.ones_like(active)
        pieces = {
            kind: _piece(some, active, rng_of(seed, 0, f"{kind} {recording.name}"))
            for kind, some in noises.items()
        }
        heard = [
            classifier.listen(_mixed(clip, pieces[kind], ratio, active))
            for kind, ratio in conditions
        ]
        # Thirteen thousand mixtures would be gigabytes of samples.
        return list(zip(map(without_sound, heard), _logits(classifier, heard), strict=True))

    with ThreadPoolExecutor(streams) as pool:
        rows = list(
            tqdm(pool.map(one, recordings), total=len(recordings), desc="noise", unit="clip")
        )
    return {
        f"{kind}@{ratio:g}": collect(
            recordings, [row[number][0] for row in rows], [row[number][1] for row in rows]
        )
        for number, (kind, ratio) in enumerate(conditions)
    }


def _piece(some: Sequence[Samples], active: np.ndarray, rng: np.random.Generator) -> Samples:
    return noise_piece(some[int(rng.integers(len(some)))], active, rng)


def _mixed(clip: Clip, noise: Samples, ratio_db: float, active: np.ndarray) -> Clip:
    return replace(clip, samples=add_noise(clip.samples, noise, ratio_db, active))


def _logits(classifier: Classifier, heard: Sequence[Heard]) -> list[Logits]:
    """Logits of each clip's windows; the clips share batches."""
    windows = [window for clip in heard for window in clip.batch]
    rows: list[Logits] = []
    for start in range(0, len(windows), MAX_BATCH):
        rows += classifier.runner(windows[start : start + MAX_BATCH])
    flat = np.array(rows, np.float32).reshape(-1, len(LABELS))
    return np.split(flat, np.cumsum([len(clip.batch) for clip in heard])[:-1])


def figures(
    name: str,
    clean: Answers,
    noisy: Mapping[str, Answers],
    accepted: Callable[[Answers], Accepted],
) -> Noise:
    """Figures by condition, and of all noises together at each ratio.

    Args:
        name: of the set.
        clean: its answers without noise.
        noisy: its answers by condition, called as `measure` does.
        accepted: what of some answers is accepted.
    """
    conditions = [_condition(CLEAN, None, clean, accepted)]
    together: dict[float, list[Answers]] = {}
    by_condition = {_condition_of(name): answers for name, answers in noisy.items()}
    for kind, ratio in sorted(by_condition, key=lambda pair: (pair[0], -pair[1])):
        answers = by_condition[kind, ratio]
        conditions.append(_condition(kind, ratio, answers, accepted))
        together.setdefault(ratio, []).append(answers)
    return Noise(
        set=name,
        conditions=tuple(conditions),
        pooled=tuple(
            _condition(ALL, ratio, joined(answers), accepted)
            for ratio, answers in sorted(together.items(), reverse=True)
        ),
    )


def _condition_of(name: str) -> tuple[str, float]:
    kind, ratio = name.rsplit("@", 1)
    return kind, float(ratio)


def joined(parts: Sequence[Answers]) -> Answers:
    """The clips of several conditions as one set: a clip in four noises is there four times."""
    first = parts[0]
    return Answers(
        Scores.joined([part.scores for part in parts]),
        np.concatenate([part.probabilities for part in parts]),
        first.resamples,
        first.seed,
    )


def _condition(
    kind: str, ratio: float | None, answers: Answers, accepted: Callable[[Answers], Accepted]
) -> NoiseCondition:
    return NoiseCondition(
        noise=kind, snr_db=ratio, figures=headline(answers), accepted=accepted(answers)
    )
