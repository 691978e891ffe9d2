"""What a comparison says: pass, fail or inconclusive, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """Of a check, and of all together."""

    PASS = "pass"  # noqa: S105 (no password)
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class Source(StrEnum):
    """Where a check's figures come from."""

    SIDES = "sides"
    GOLDEN = "golden"
    SHADOW = "shadow"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Check:
    """One question, its answer, and the figures behind it.

    `effect` is the candidate's minus (or, where `unit` is "ratio", by) stable's, `low` and `high`
    its interval, `margin` what it may be worse by; all in `unit`. None of them where there is
    nothing to measure.
    """

    name: str
    source: Source
    outcome: Outcome
    reason: str
    """A sentence for people."""
    unit: str = ""
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    margin: float | None = None
    samples: int = 0
    needed: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of all checks: fail if one fails, pass if all that a step requires pass."""

    outcome: Outcome
    weight: int
    """The step, in percent of the traffic."""
    reason: str
    """A sentence that names what decided."""
    checks: tuple[Check, ...]


EXIT_CODES = {Outcome.PASS: 0, Outcome.FAIL: 1, Outcome.INCONCLUSIVE: 2}
