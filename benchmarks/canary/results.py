"""What a simulation came to, and whether that is enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.canary.simulation import EVER_FAILED, Effect, Size
from service.canary.verdict import Outcome

FALSE_FAILS = 0.004
"""Of rollouts of a candidate that is as good, at any look."""
PASSES = 0.9
FOUND = 0.95


@dataclass(frozen=True, slots=True)
class Row:
    """One effect at one size."""

    effect: Effect
    size: Size
    rollouts: int
    counts: dict[str, int]

    def share(self, outcome: str) -> float:
        """Of the rollouts, those that came to this."""
        return self.counts.get(outcome, 0) / self.rollouts


@dataclass(frozen=True, slots=True)
class Target:
    """A number to reach at the documented size."""

    name: str
    measured: float
    met: bool


def targets(rows: Sequence[Row], size: Size) -> list[Target]:
    """Say of each number to reach whether the documented size reaches it."""
    found = []
    for row in (row for row in rows if row.size == size):
        if row.effect is Effect.NONE:
            fails, passes = row.share(EVER_FAILED), row.share(Outcome.PASS)
            found += [
                Target(f"A/A: at most {FALSE_FAILS:.1%} fail", fails, fails <= FALSE_FAILS),
                Target(f"A/A: at least {PASSES:.0%} pass", passes, passes >= PASSES),
            ]
        else:
            fails = row.share(Outcome.FAIL)
            found.append(Target(f"{row.effect}: at least {FOUND:.0%} fail", fails, fails >= FOUND))
    return found
