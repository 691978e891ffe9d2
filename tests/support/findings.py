"""A finding with something from every source, for what tells it."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from service.canary.compare import Finding
from service.canary.observations import (
    Block,
    Golden,
    Live,
    LiveSide,
    Observations,
    Pairs,
    Side,
)
from service.canary.verdict import Check, Outcome, Source, Verdict

LABELS = ("angry", "<b>sad</b>")
"""What a model says is never markup."""

STABLE = Side(("1.0.0",), ("sha256:" + "a" * 64,), ("fp32",), ("avx2,fma",), 2)
CANDIDATE = Side(
    ("1.1.0", "1.2.0"), ("sha256:" + "b" * 64, "sha256:" + "c" * 64), ("int8",), ("",), 1
)

CHECKS = (
    Check("sides", Source.SIDES, Outcome.PASS, "Both sides compute alike."),
    Check(
        *("accuracy", Source.GOLDEN, Outcome.FAIL, "It is worse."),
        unit="share",
        effect=-0.05,
        low=-0.08,
        high=-0.02,
        margin=0.02,
        samples=831,
        needed=200,
    ),
    Check(
        *("p95", Source.LIVE, Outcome.INCONCLUSIVE, "Too few."),
        unit="ratio",
        effect=1.04,
        low=0.99,
        high=float("inf"),
        margin=0.05,
        samples=120,
        needed=2000,
    ),
    Check(
        *("class_prior", Source.SHADOW, Outcome.PASS, "Alike."),
        unit="share",
        effect=-0.01,
        low=-0.02,
        high=0.01,
        margin=0.1,
        samples=500,
        needed=500,
    ),
)

GOLDEN = Golden(
    version="calls 1 (0123456789ab)",
    labels=LABELS,
    truth=(LABELS[0], LABELS[1], LABELS[1]),
    speakers=("ann", "ann", "bob"),
    stable=(LABELS[0], LABELS[1], ""),
    candidate=(LABELS[1], LABELS[1], LABELS[1]),
    stable_probabilities=np.array([[0.9, 0.1], [0.2, 0.8], [0.0, 0.0]]),
    candidate_probabilities=np.array([[0.4, 0.6], [0.2, 0.8], [0.3, 0.7]]),
    stable_s=np.array([0.01, 0.02, 0.04]),
    candidate_s=np.array([0.02, 0.02, 0.03]),
)
PAIRS = Pairs(
    labels=("", *LABELS),
    table=np.array([[1, 0, 0], [0, 5, 2], [0, 1, 9]]),
    decision_names=("accept", "review"),
    decisions=np.array([[9, 1], [2, 6]]),
    difference_edges=np.array([-1.0, 0.0, 1.0]),
    difference=np.array([7, 10]),
)


def _side(pod: str, errors: int, restarts: int, down: int) -> LiveSide:
    blocks = tuple(Block(pod, 60.0 * number, 10, errors, np.array([4, 5, 1])) for number in (0, 1))
    return LiveSide(blocks, restarts, down)


LIVE = Live(np.array([0.1, 0.5, np.inf]), _side("baseline", 0, 0, 0), _side("canary", 1, 1, 1))

OBSERVATIONS = Observations(
    STABLE, CANDIDATE, GOLDEN, PAIRS, LIVE, notes=("<i>Something</i> to know.",)
)


def finding(outcome: Outcome = Outcome.FAIL, weight: int = 10) -> Finding:
    """Make one of these observations and checks."""
    verdict = Verdict(outcome, weight, "accuracy fails: It is worse.", CHECKS)
    return Finding(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), verdict, OBSERVATIONS)
