"""What trials yield, and the JSON file they are kept in. Pure."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.peers.machine import BUSY
from benchmarks.peers.targets import Status

Row: TypeAlias = dict[str, Any]
"""A line of a trial's table, by column; a figure that isn't a finite number is None in JSON."""


@dataclass(frozen=True, slots=True)
class Check:
    """A number to reach, or a behaviour, and what came of it."""

    target: str
    status: Status
    measured: str
    behaviour: bool = True
    """Whether it is so on any machine; a figure of speed, memory or time is true of one."""


@dataclass(slots=True)
class Outcome:
    """What a trial with a model came to."""

    trial: str
    model: str
    rows: list[Row]
    checks: list[Check]
    memory: list[tuple[float, float]] = field(default_factory=list)
    """(seconds, MiB of all processes), where the trial is about memory."""
    others: float = 0.0
    """Share of the machine that other processes had meanwhile."""


@dataclass(slots=True)
class Results:
    """Everything that a run measured, as it is written to raw.json."""

    machine: dict[str, Any]
    started: str
    """UTC, ISO 8601."""
    profile: str
    version: str
    outcomes: list[Outcome] = field(default_factory=list)

    def write(self, file: Path) -> None:
        """Write JSON; what isn't a finite number is null."""
        file.write_text(
            json.dumps(_finite(asdict(self)), indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )

    @staticmethod
    def read(file: Path) -> Results:
        """Read what `write` wrote."""
        content = json.loads(file.read_text(encoding="utf-8"))
        outcomes = []
        for each in content.pop("outcomes"):
            checks = [Check(**check) for check in each.pop("checks")]
            memory = [(at, mib) for at, mib in each.pop("memory")]
            outcomes.append(Outcome(**each, checks=checks, memory=memory))
        return Results(**content, outcomes=outcomes)

    def busy(self) -> list[Outcome]:
        """Give the trials during which others used more of the machine than `BUSY`."""
        return [outcome for outcome in self.outcomes if outcome.others > BUSY]

    def missed(self) -> list[Check]:
        """Give the checks that say no."""
        every = (check for outcome in self.outcomes for check in outcome.checks)
        return [check for check in every if check.status == "missed"]


def behaves(target: str, good: bool, measured: str) -> Check:  # noqa: FBT001
    """Judge a behaviour."""
    return Check(target, "met" if good else "missed", measured)


def reaches(target: str, good: bool, measured: str) -> Check:  # noqa: FBT001
    """Judge a figure of this machine."""
    return Check(target, "met" if good else "missed", measured, behaviour=False)


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return value
