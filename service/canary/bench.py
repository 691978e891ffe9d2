"""Where a verdict is looked for in the background, and kept for whoever asks.

Who asks gets an answer at once. Only a fresh verdict passes or fails: one that is old, or couldn't
be made, is inconclusive, and says why.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from service.canary.compare import Finding, Judge, undecided
from service.canary.observations import Observations
from service.canary.verdict import Outcome, Verdict
from service.domain import TimbreError

STALE_ROUNDS = 3
"""After so many rounds without another, a verdict is nothing to act on any more."""

logger = logging.getLogger("timbre.judge")


@dataclass(slots=True)
class _Look:
    """What was seen once, and the verdicts on it by weight, as far as they were asked for."""

    at: datetime
    moment_s: float
    """By the clock that tells how old it is."""
    observations: Observations | None
    trouble: str = ""
    """Why there are no observations."""
    verdicts: dict[int, Verdict] = field(default_factory=dict)


class Bench:
    """Looks and judges in one thread, and tells in any."""

    def __init__(
        self,
        observe: Callable[[], Iterable[Observations]],
        judge: Judge,
        weight: int,
        *,
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what gathers and what judges; nothing is looked at yet.

        Args:
            observe: gathers, the last being everything, or raises TimbreError.
            judge: of what was gathered.
            weight: the step, in percent, where nobody asks for another.
            every_s: seconds from one look's end to the next.
            clock: in seconds.
        """
        self.weight = weight
        self.every_s = every_s
        self._observe = observe
        self._judge = judge
        self._clock = clock
        self._look: _Look | None = None
        self._judging = threading.Lock()

    def look(self) -> None:
        """Look at the sources and judge; whatever goes wrong is what the verdict then says.

        What is known first and fails is told before the rest is known: a candidate that crashes
        while it is asked about a golden set would never be told of in time. It stays what is told
        where there is only trouble with the rest.
        """
        failing = False
        for seen in self._seen():
            if failing and seen.observations is None:
                return
            failing = self._verdict(seen, self.weight).outcome is Outcome.FAIL
            if failing:
                self._look = seen
        self._look = seen

    def keep_looking(self, ended: threading.Event) -> None:
        """Look, wait, and look again until it ends."""
        while not ended.is_set():
            self.look()
            ended.wait(self.every_s)

    @property
    def age_s(self) -> float | None:
        """Seconds since the last look; None before the first."""
        return None if self._look is None else self._clock() - self._look.moment_s

    def finding(self, weight: int | None = None) -> Finding | None:
        """Tell the verdict at a weight; None before the first look."""
        seen, age_s = self._look, self.age_s
        if seen is None or age_s is None:
            return None
        weight = self.weight if weight is None else weight
        verdict = self._verdict(seen, weight)
        if age_s > STALE_ROUNDS * self.every_s:
            reason = f"The last look was {age_s:.0f} s ago; it said {verdict.outcome}."
            verdict = replace(verdict, outcome=Outcome.INCONCLUSIVE, reason=reason)
        return Finding(seen.at, verdict, seen.observations)

    def _seen(self) -> Iterator[_Look]:
        """Give what is seen, as far as it is known; trouble is the last that is."""
        try:
            for observations in self._observe():
                yield self._now(observations)
        except TimbreError as error:
            yield self._now(None, str(error))
        except Exception as error:  # a thread that ended would leave its last verdict to go stale
            logger.exception("the look failed")
            yield self._now(None, f"The look failed: {error!r}.")

    def _now(self, observations: Observations | None, trouble: str = "") -> _Look:
        return _Look(datetime.now(UTC), self._clock(), observations, trouble)

    def _verdict(self, seen: _Look, weight: int) -> Verdict:
        with self._judging:
            if weight not in seen.verdicts:
                seen.verdicts[weight] = self._judged(seen, weight)
            return seen.verdicts[weight]

    def _judged(self, seen: _Look, weight: int) -> Verdict:
        if seen.observations is None:
            return undecided(weight, seen.trouble)
        try:
            return self._judge(seen.observations, weight)
        except Exception as error:  # of odd data: whoever asks is told, and the next look may do
            logger.exception("judging failed")
            return undecided(weight, f"Judging failed: {error!r}.")
