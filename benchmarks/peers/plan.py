"""How much is measured: the full profile, and a quick one for tests and for trying things out."""

from __future__ import annotations

import math
from dataclasses import dataclass

FOCUS = (1, 8)
"""Numbers of clients that every contender meets in every round."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes of the loads."""

    models: tuple[str, ...]
    clients: tuple[int, ...]
    """Of the sweep; those of `FOCUS` in it come in every round."""
    rounds: int
    least: int
    """Requests of a load at least."""
    least_s: float
    """Seconds of a load at least, by the speed that the warm-up showed."""
    shares: tuple[float, ...]
    """Of a contender's capacity, offered as Poisson arrivals."""
    overloads: tuple[float, ...]
    """The same beyond capacity, for Timbre."""
    open_s: float
    overload_clips: int
    """Answers that the capacity gives while it is exceeded, at least: a queue has to fill before
    batches are full, and what has not been answered by the end does not count."""
    warm_up: int
    """Requests of 8 clients before the first load of a server."""
    bare_s: float

    def requests(self, clients: int, clips_per_s: float) -> int:
        """How many requests a closed loop sends: enough turns of each client, and seconds."""
        turns = min(3 * clients, clients + 16)
        return max(self.least, turns, math.ceil(clips_per_s * self.least_s))

    def seconds(self, share: float, capacity: float) -> float:
        """How long Poisson arrivals of so much of a capacity (clips/s) last."""
        least = self.overload_clips / capacity if share > 1 else 0.0
        return max(self.open_s, least)

    def loads(self, round_: int, *, sweep: bool) -> list[int]:
        """Numbers of clients of a round: the sweep once, the focus each time."""
        return [n for n in self.clients if n in FOCUS or (sweep and round_ == 0)]


FULL = Plan(
    models=("wav2vec2-base", "compact", "tiny"),
    clients=(1, 4, 8, 16, 32),
    rounds=3,
    least=10,
    least_s=3.0,
    shares=(0.5, 0.8),
    overloads=(2.0, 5.0, 10.0),
    open_s=8.0,
    overload_clips=100,
    warm_up=12,
    bare_s=2.0,
)
QUICK = Plan(
    models=("tiny",),
    clients=(1, 8),
    rounds=1,
    least=24,
    least_s=0.5,
    shares=(0.5,),
    overloads=(),
    open_s=1.0,
    overload_clips=0,
    warm_up=16,
    bare_s=0.2,
)
ONCE = frozenset({"tiny"})
"""Models that one round is enough for: they only show what a framework costs."""
