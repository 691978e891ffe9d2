"""Scores made on the spot: clips whose labels are drawn at a known temperature."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from training.evaluation.scores import Scores
from training.recording import LABELS


def scores_of(
    truth: Sequence[str],
    logits: Sequence[Sequence[Sequence[float]]],
    *,
    corpora: Sequence[str] | None = None,
    speakers: Sequence[str] | None = None,
    sexes: Sequence[str] | None = None,
    shared: Sequence[int] | None = None,
) -> Scores:
    """Put clips into columns; `logits` has a row for each window of each clip, weighing 1 s."""
    clips = len(truth)
    windows = np.array([len(rows) for rows in logits])
    return Scores(
        names=np.array([f"clip-{number}" for number in range(clips)]),
        corpora=np.array(corpora or ["a"] * clips),
        speakers=np.array(speakers or ["s"] * clips),
        sexes=np.array(sexes or [""] * clips),
        sentence_shared=np.array(shared or [-1] * clips, np.int8),
        truth=np.array([LABELS.index(label) for label in truth]),
        duration_s=np.ones(clips),
        speech_s=windows.astype(np.float64),
        windows=windows,
        weights=np.ones(int(windows.sum())),
        logits=np.array([row for rows in logits for row in rows], np.float32).reshape(
            -1, len(LABELS)
        ),
    )


def one_hot(label: str, height: float = 5.0) -> list[float]:
    """Logits that are sure of one label."""
    return [height * (name == label) for name in LABELS]


def drawn(
    temperature: float,
    clips: int = 1200,
    *,
    seed: int = 0,
    spread: float = 2.0,
    corpora: int = 2,
    speakers: int = 3,
    labels: Sequence[str] = LABELS,
) -> Scores:
    """Clips whose labels are drawn from the softmax of their logits over `temperature`.

    Args:
        temperature: at which the logits are calibrated.
        clips: how many.
        seed: the same gives the same.
        spread: standard deviation of the logits; the larger, the surer.
        corpora: how many; clips take turns.
        speakers: of each corpus.
        labels: that are drawn; the others are never true.
    """
    random = np.random.default_rng(seed)
    possible = [LABELS.index(label) for label in labels]
    logits = spread * random.standard_normal((clips, len(LABELS)))
    scaled = np.exp(logits[:, possible] / temperature)
    truth = [labels[random.choice(len(labels), p=row / row.sum())] for row in scaled]
    corpus = [f"corpus-{number % corpora}" for number in range(clips)]
    speaker = [number // corpora % speakers for number in range(clips)]
    return scores_of(
        truth,
        [[row] for row in logits.tolist()],
        corpora=corpus,
        speakers=[f"{c}-{s}" for c, s in zip(corpus, speaker, strict=True)],
        sexes=["female" if s % 2 else "male" for s in speaker],
        shared=[number // 7 % 2 for number in range(clips)],
    )
