"""Two rates that forget what is long ago: of what comes, by the clock, and of work, by its time.

Nothing here knows what is counted. Reading changes nothing, so another thread may read.
"""

from __future__ import annotations

import math
from collections.abc import Callable


class Arrivals:
    """How much comes a second, smoothed: what came `memory_s` ago weighs 1/e of what comes now.

    Steady arrivals converge to their rate, to 95% in three times `memory_s`. A burst counts as if
    it had been spread over `memory_s`, and is forgotten as fast. `clock` gives seconds.
    """

    def __init__(self, memory_s: float, *, clock: Callable[[], float]) -> None:
        """Start as if nothing had ever come."""
        self._memory_s = memory_s
        self._clock = clock
        self._remembered = 0.0
        self._at = clock()

    def add(self, amount: float) -> None:
        """Note that so much has come, now."""
        now = self._clock()
        self._remembered = self._faded(now) + amount
        self._at = now

    @property
    def per_s(self) -> float:
        """How much comes a second, of late."""
        return self._faded(self._clock()) / self._memory_s

    def _faded(self, now: float) -> float:
        # A reader in another thread may see the clock before an arrival that is noted meanwhile.
        return self._remembered * math.exp(-max(0.0, now - self._at) / self._memory_s)


class Pace:
    """How much is done in a second of work, of late. Idle time neither slows it nor fades it.

    `amount` was done in `seconds`; both fade by each second of work, to 1/e in `memory_s`, so that
    a piece of work and its seconds keep the same weight.
    """

    def __init__(self, memory_s: float) -> None:
        """Start with nothing measured."""
        self.amount = 0.0
        self.seconds = 0.0
        self._memory_s = memory_s

    def add(self, amount: float, seconds: float) -> None:
        """Note that so much was done in that many seconds of work."""
        kept = math.exp(-seconds / self._memory_s)
        self.amount = self.amount * kept + amount
        self.seconds = self.seconds * kept + seconds

    @property
    def per_s(self) -> float:
        """Amount by seconds; 0 before anything has taken time."""
        return self.amount / self.seconds if self.seconds else 0.0
