"""Admission: how much work may be inside, counted in windows, and when a refused clip may return.

A clip is taken or refused at once, never parked: what is inside can then be answered in time. The
unit is the window because windows, not clips, are what the engine's time goes by. It belongs to
one event loop, as the batcher does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, Self

from service.domain import Overloaded

RATE_MEMORY_S = 30.0
"""Seconds of work after which a measurement of the drain rate has faded to 1/e."""

DEFAULT_RETRY_S = 2.0
"""Retry-After before the first window has been drained."""

MIN_RETRY_S = 1.0
"""Retry-After is sent in whole seconds; none would be an invitation to come back at once."""

MAX_RETRY_S = 30.0
"""Beyond it the estimate says more of a stall than of the queue."""

CLIP_MEMORY = 0.05
"""Weight of the newest clip in the average clip's windows."""


class Permit:
    """Leave to work on a clip; gives its windows back once, at the latest on leaving `with`."""

    __slots__ = ("_give_back", "_windows")

    def __init__(self, windows: int, give_back: Callable[[int], None]) -> None:
        """Hold the windows until `give_back` is called with them."""
        self._windows = windows
        self._give_back = give_back

    @property
    def windows(self) -> int:
        """Windows still held; 0 once released."""
        return self._windows

    def release(self) -> None:
        """Give the windows back; again does nothing."""
        windows, self._windows = self._windows, 0
        if windows:
            self._give_back(windows)

    def __enter__(self) -> Self:
        """Hold the permit, which counts since it was given."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release, whatever happened."""
        self.release()


class Admission:
    """Lets at most `capacity` windows in at a time. `clock` gives seconds.

    `admitted_windows` and `refused_windows` only grow; their sum is the demand, which goes on
    rising under overload where the work in flight stops at `capacity`. A clip refused before its
    body was read counts as an average clip, hence the fraction.
    """

    def __init__(self, capacity: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Raise ValueError unless there is room for one window."""
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1 window, got {capacity}")
        self.capacity = capacity
        self.admitted_windows = 0
        self.refused_windows = 0.0
        self._clock = clock
        self._in_flight = 0
        self._average_clip: float | None = None
        # The drain rate: windows drained over the busy seconds they took, both fading at each
        # release by RATE_MEMORY_S, so that a window and its seconds keep the same weight.
        self._drained = 0.0
        self._busy_s = 0.0
        self._since_release_s = 0.0
        self._measured_at = clock()

    @property
    def in_flight(self) -> int:
        """Windows with a permit."""
        return self._in_flight

    @property
    def full(self) -> bool:
        """Whether there is no room for even one window."""
        return self._in_flight >= self.capacity

    @property
    def retry_after_s(self) -> float:
        """Seconds in which the work now in flight will have drained, at the rate of late.

        Within [MIN_RETRY_S, MAX_RETRY_S]; DEFAULT_RETRY_S while no rate has been measured.
        """
        self._measure()
        if not self._drained:
            return DEFAULT_RETRY_S
        drain_s = self._in_flight * (self._busy_s + self._since_release_s) / self._drained
        return min(max(drain_s, MIN_RETRY_S), MAX_RETRY_S)

    def check(self) -> None:
        """Raise Overloaded when full; for the header-time gate, when a clip's size is unknown."""
        if self.full:
            self.refuse(self._reason)

    def refuse(self, reason: str) -> NoReturn:
        """Raise Overloaded for a clip of unknown size, which counts as an average one."""
        self.refused_windows += 1.0 if self._average_clip is None else self._average_clip
        raise Overloaded(reason, self.retry_after_s)

    def admit(self, windows: int) -> Permit:
        """Let a clip of that many windows in; raises Overloaded at once when they don't fit.

        A clip larger than `capacity` gets in when nothing else is: it would never be served.
        """
        if windows < 0:
            raise ValueError(f"a clip cannot have {windows} windows")
        if self._average_clip is None:
            self._average_clip = float(windows)
        self._average_clip += CLIP_MEMORY * (windows - self._average_clip)
        if self._in_flight and windows > max(0, self.capacity - self._in_flight):
            self.refused_windows += windows
            raise Overloaded(self._reason, self.retry_after_s)
        self._measure()
        self._in_flight += windows
        self.admitted_windows += windows
        return Permit(windows, self._release)

    def _release(self, windows: int) -> None:
        self._measure()
        self._in_flight -= windows
        kept = math.exp(-self._since_release_s / RATE_MEMORY_S)
        self._drained = self._drained * kept + windows
        self._busy_s = self._busy_s * kept + self._since_release_s
        self._since_release_s = 0.0

    def _measure(self) -> None:
        """Count the time up to now if it was busy: an idle engine is not a slow one."""
        now = self._clock()
        if self._in_flight:
            self._since_release_s += now - self._measured_at
        self._measured_at = now

    @property
    def _reason(self) -> str:
        return f"{self._in_flight} of {self.capacity} windows are in flight"
