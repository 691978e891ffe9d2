"""What is known of two model versions, made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.canary.observations import Block, Golden, Live, LiveSide, Observations, Pairs, Side
from service.domain import Decision

LABELS = ("angry", "happy", "sad")
EDGES = np.array([*(0.005 * 1.05**step for step in range(120)), np.inf])
"""Upper ends in seconds, to 1.7 s."""
STABLE = Side(("1.0.0",), ("sha256:1111",), ("fp32",), ("avx2",), 2)
CANDIDATE = replace(STABLE, versions=("1.1.0",), digests=("sha256:2222",), pods=1)


def a_golden(
    clips: int = 6000, *, lost: float = 0.0, gained: float = 0.0, speakers: int = 200
) -> Golden:
    """Make a labelled set that stable gets right in 80 of 100 clips.

    Args:
        clips: of all labels alike.
        lost: share of all clips that the candidate gets wrong and stable right.
        gained: share that it gets right and stable wrong.
        speakers: what is lost and gained is evenly theirs.
    """
    clip = np.arange(clips)
    truth = clip % len(LABELS)
    # A fixed shuffle, so that speakers and labels have their parts of everything.
    rank = np.random.default_rng(0).permutation(clips) / clips
    stable_right = rank < 0.8
    candidate_right = np.where(stable_right, rank >= lost, rank < 0.8 + gained)
    sides = []
    for right in (stable_right, candidate_right):
        answers = np.where(right, truth, (truth + 1) % len(LABELS))
        scores = np.full((clips, len(LABELS)), 0.1)
        scores[clip, answers] = 0.8
        sides.append((tuple(LABELS[answer] for answer in answers), scores))
    return Golden(
        version="1",
        labels=LABELS,
        truth=tuple(LABELS[place] for place in truth),
        speakers=tuple(f"speaker {number}" for number in clip * speakers // clips),
        stable=sides[0][0],
        candidate=sides[1][0],
        stable_probabilities=sides[0][1],
        candidate_probabilities=sides[1][1],
        stable_s=np.full(clips, 0.030),
        candidate_s=np.full(clips, 0.033),
    )


def swapped(golden: Golden) -> Golden:
    """Take the one side for the other."""
    return replace(
        golden,
        stable=golden.candidate,
        candidate=golden.stable,
        stable_probabilities=golden.candidate_probabilities,
        candidate_probabilities=golden.stable_probabilities,
        stable_s=golden.candidate_s,
        candidate_s=golden.stable_s,
    )


def some_pairs(clips: int = 4000, *, differing: float = 0.1, moved: float = 0.0) -> Pairs:
    """Make pairs.

    Args:
        clips: of three labels, and without speech none.
        differing: share of clips that change their label, as often to and fro.
        moved: share of clips that go from happy to sad, beside those.
    """
    table = np.zeros((4, 4), np.int64)
    each = round(differing * clips / 6)
    table[:3, :3] = each
    table[1, 2] += round(moved * clips)
    np.fill_diagonal(table[:3, :3], 0)
    table[0, 0] = clips - table.sum()
    decisions = np.array([[clips * 7 // 10, 0], [0, clips - clips * 7 // 10]])
    difference = np.zeros(40, np.int64)
    difference[19:21] = clips // 2
    return Pairs(
        labels=(*LABELS, ""),
        table=table,
        decision_names=(Decision.ACCEPT, Decision.REVIEW),
        decisions=decisions,
        difference_edges=np.linspace(-1, 1, 41),
        difference=difference,
    )


def a_live(
    clips: int = 30_000, *, slower: float = 1.0, errors: float = 0.0, restarts: int = 0
) -> Live:
    """Make traffic over 100 blocks of a minute, of two pods a side.

    Args:
        clips: of each side.
        slower: factor of the candidate's latencies.
        errors: share of the candidate's clips not answered; one in a thousand more on each.
        restarts: of the candidate.
    """
    random = np.random.default_rng(1)
    sides = []
    for factor, wrong in ((1.0, 0.001), (slower, 0.001 + errors)):
        blocks = []
        for place in range(200):
            count = clips // 200
            took = np.minimum(0.1 * factor * random.lognormal(0, 0.3, count), 1.5)
            seconds = np.bincount(np.searchsorted(EDGES, took), minlength=EDGES.size)
            failed = int(random.binomial(count, wrong))
            blocks.append(Block(f"pod {place % 2}", 60.0 * (place // 2), count, failed, seconds))
        sides.append(tuple(blocks))
    return Live(EDGES, LiveSide(sides[0], 0), LiveSide(sides[1], restarts))


@dataclass(frozen=True, slots=True)
class Hour:
    """Blocks of a minute that are alike."""

    blocks: int
    baseline: int
    """Clips a block."""
    candidate: int
    took_s: float = 0.1
    """The median, of both sides."""
    slower: float = 1.0
    """Factor of the candidate's latencies."""
    wrong: float = 0.001
    """Share of both sides' clips that are not answered."""


def a_day(hours: Sequence[Hour]) -> Live:
    """Make traffic whose load, and whose shares, change; each side has a pod."""
    random = np.random.default_rng(2)

    def block(side: str, number: int, clips: int, took_s: float, wrong: float) -> Block:
        took = np.minimum(took_s * random.lognormal(0, 0.3, clips), 1.5)
        seconds = np.bincount(np.searchsorted(EDGES, took), minlength=EDGES.size)
        return Block(side, 60.0 * number, clips, int(random.binomial(clips, wrong)), seconds)

    each = [hour for hour in hours for _ in range(hour.blocks)]
    baseline = [
        block("baseline", number, hour.baseline, hour.took_s, hour.wrong)
        for number, hour in enumerate(each)
    ]
    candidate = [
        block("canary", number, hour.candidate, hour.took_s * hour.slower, hour.wrong)
        for number, hour in enumerate(each)
    ]
    return Live(EDGES, LiveSide(tuple(baseline), 0), LiveSide(tuple(candidate), 0))


def known(
    golden: Golden | None = None, pairs: Pairs | None = None, live: Live | None = None
) -> Observations:
    """Put sources together."""
    return Observations(STABLE, CANDIDATE, golden, pairs, live)
