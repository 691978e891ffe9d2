"""How long each trial is: the full profile, and a quick one for CI and for trying things out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

BASE, COMPACT, TINY = "wav2vec2-base", "compact", "tiny"
ORDER = (
    "start",
    "capacity",
    "overload",
    "slow",
    "vanishing",
    "decoder",
    "termination",
    "drift",
)
"""All trials, in the order in which they run."""
START_S = 6.0
"""Estimated, to start and stop a server."""


@dataclass(frozen=True, slots=True)
class Overload:
    """Phases around an overload: half of capacity before and after it, in seconds each."""

    shares: tuple[float, ...]
    """Of capacity, offered during the overload."""
    before_s: float
    during_s: float
    after_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the trials; times in seconds."""

    trials: Mapping[str, tuple[str, ...]]
    """The trials of each model, unless others are asked for."""
    overloads: Mapping[str, Overload]
    starts: int
    """Times that a server is started, to see how soon it is ready."""
    capacity_s: float
    """Of each closed loop, about."""
    slow_s: float
    slow: int
    """Clients with slow headers, and as many with slow bodies."""
    hoards: int
    """Clients that stall after 9 MiB."""
    vanishing_s: float
    decoder_s: float
    kills: int
    hangs: int
    terminations: int
    drain_s: float
    drift_s: float
    settle_s: float
    """Of the drift, not counted: caches fill."""
    clients: tuple[int, ...] = field(default=(8, 32))
    """Of closed loops; the capacity is that of the better one."""

    def overload(self, model: str) -> Overload:
        """Give the overload of a model."""
        return self.overloads[model]

    def seconds(self, model: str, trial: str) -> float:
        """Estimate how long a trial takes, server and all."""
        load = self.overload(model)
        return {
            "start": self.starts * START_S,
            "capacity": START_S + self.capacity_s * (len(self.clients) + 0.5),
            "overload": sum(
                START_S + load.before_s + load.during_s + load.after_s for _ in load.shares
            ),
            "slow": START_S + 2 * self.slow_s,
            "vanishing": START_S + self.vanishing_s,
            "decoder": START_S + self.decoder_s,
            "termination": self.terminations * (START_S + 3 * self.drain_s),
            "drift": START_S + self.drift_s,
        }[trial]


FULL = Plan(
    trials={COMPACT: ORDER, BASE: ("start", "capacity", "overload")},
    overloads={
        BASE: Overload((2.0, 5.0, 10.0), before_s=10, during_s=45, after_s=30),
        COMPACT: Overload((1.5, 2.0, 3.0, 5.0, 10.0), before_s=6, during_s=15, after_s=15),
        TINY: Overload((2.0, 5.0, 10.0), before_s=4, during_s=10, after_s=8),
    },
    starts=3,
    capacity_s=12,
    slow_s=25,
    slow=500,
    hoards=32,
    vanishing_s=30,
    decoder_s=40,
    kills=20,
    hangs=2,
    terminations=3,
    drain_s=3,
    drift_s=600,
    settle_s=120,
)
QUICK = Plan(
    trials={TINY: ORDER},
    overloads={
        BASE: Overload((2.0,), before_s=8, during_s=20, after_s=20),
        COMPACT: Overload((3.0,), before_s=3, during_s=6, after_s=8),
        TINY: Overload((3.0,), before_s=2, during_s=3, after_s=6),
    },
    starts=1,
    capacity_s=1,
    slow_s=5,
    slow=500,
    hoards=32,
    vanishing_s=4,
    decoder_s=14,
    kills=5,
    hangs=1,
    terminations=1,
    drain_s=2,
    drift_s=8,
    settle_s=2,
)
