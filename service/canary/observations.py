"""What is known of two model versions when they are compared: plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Counts: TypeAlias = NDArray[np.int64]
Scores: TypeAlias = NDArray[np.float64]

NO_SPEECH = ""
"""The label of a clip in which a side found no speech."""


@dataclass(frozen=True, slots=True)
class Side:
    """What one side serves, as all of its pods say; a fact they differ in has several values."""

    versions: tuple[str, ...]
    digests: tuple[str, ...]
    precisions: tuple[str, ...]
    cpu_features: tuple[str, ...]
    """One value a kind of CPU: the features a model may use, between commas."""
    pods: int


@dataclass(frozen=True, slots=True)
class Golden:
    """A labelled set sent to both sides, clip by clip.

    `truth`, `speakers` and both sides' labels are of n clips; probabilities are float [n, labels]
    in the order of `labels`, and zero throughout where a side found no speech.
    """

    version: str
    labels: tuple[str, ...]
    truth: tuple[str, ...]
    speakers: tuple[str, ...]
    stable: tuple[str, ...]
    candidate: tuple[str, ...]
    stable_probabilities: Scores
    candidate_probabilities: Scores
    stable_s: Scores
    """Seconds each answer took, as the server says."""
    candidate_s: Scores


@dataclass(frozen=True, slots=True)
class Pairs:
    """Clips that both sides answered: the live answer of stable, the shadow's of the candidate.

    `table` counts [labels, labels] with stable's label first, `NO_SPEECH` among the labels;
    `decisions` counts the same of `decision_names`. `difference` counts candidate's confidence
    minus stable's in bins between `difference_edges` (one more than bins), of pairs in which both
    found speech.
    """

    labels: tuple[str, ...]
    table: Counts
    decision_names: tuple[str, ...]
    decisions: Counts
    difference_edges: Scores
    difference: Counts


@dataclass(frozen=True, slots=True)
class Block:
    """One pod in one block of time: live clips, those not answered with 2xx, and their seconds.

    `seconds` counts answers in bins whose upper edges are `Live.edges`, the last being infinity.
    """

    pod: str
    start_s: float
    requests: int
    errors: int
    seconds: Counts


@dataclass(frozen=True, slots=True)
class LiveSide:
    """One side under live traffic."""

    blocks: tuple[Block, ...]
    restarts: int
    """How often a server of it started again, or its pod was taken away after it had been down."""
    down: int = 0
    """Servers of it that ended and haven't started again."""


@dataclass(frozen=True, slots=True)
class Live:
    """Both sides under the same traffic at the same time; `baseline` is a fresh stable."""

    edges: Scores
    baseline: LiveSide
    candidate: LiveSide


@dataclass(frozen=True, slots=True)
class Observations:
    """Everything that a verdict is made of; a source that wasn't asked is None."""

    stable: Side
    candidate: Side
    golden: Golden | None = None
    pairs: Pairs | None = None
    live: Live | None = None
    notes: tuple[str, ...] = field(default=())
    """What the reader should know of how it was gathered."""
    started_s: float | None = None
    """When the candidate's first server started, in seconds since 1970; None where nobody knows."""
