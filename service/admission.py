"""Admission: how much work may be inside, counted in windows, and when a refused clip may return.

A clip is taken or refused at once, never parked: what is inside can then be answered in time. The
unit is the window because windows, not clips, are what the engine's time goes by. It belongs to
one event loop, as the batcher does.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import NoReturn, Self

from service.domain import Overloaded
from service.rates import Arrivals

ASKED_MEMORY_S = 30.0
"""Seconds over which the rate of windows asked for is smoothed: five clips a second at random then
make it waver by 6%, which is within the 10% that a HorizontalPodAutoscaler ignores."""

DEFAULT_RETRY_S = 2.0
"""Retry-After while nobody knows how fast windows drain."""

MIN_RETRY_S = 1.0
"""Retry-After is sent in whole seconds; none would be an invitation to come back at once."""

MAX_RETRY_S = 30.0
"""Beyond it the estimate says more of a stall than of the queue."""

CLIP_MEMORY = 0.05
"""Weight of the newest clip in the average clip's windows."""


class Permit:
    """Leave to work on a clip; gives its places back once, at the latest on leaving `with`."""

    __slots__ = ("_give_back", "_places")

    def __init__(self, places: int, give_back: Callable[[int], None]) -> None:
        """Hold places, for windows or for a clip, until `give_back` is called with them."""
        self._places = places
        self._give_back = give_back

    @property
    def places(self) -> int:
        """Places still held; 0 once released."""
        return self._places

    def release(self) -> None:
        """Give the places back; again does nothing."""
        places, self._places = self._places, 0
        if places:
            self._give_back(places)

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


@dataclass(slots=True)
class _Held:
    """What is inside, of everybody or of one client."""

    windows: int = 0
    """With a permit."""
    clips: int = 0
    """Being decoded: their windows are not known yet."""


_NOTHING = _Held()


class Admission:
    """Lets `capacity` windows in at a time, and `backlog` clips whose windows aren't known yet.

    And no more than will have drained in `longest_s` seconds: how many windows may wait depends on
    the model and the machine, how long a client should wait doesn't. `takes_s` tells in how many
    seconds windows drain, or None where that isn't known. It is to go by what is computed, not by
    permits that come back: those of clients who leave do so undone, and a slow engine would seem
    fast.

    One client may hold `client_share` of both: 1.0 lets anyone have it all. A client is whatever
    tells it from others, and is remembered while it holds something. `clock` gives seconds.

    `refused_windows` only grows. A clip of unknown size counts as an average clip, hence the
    fraction.
    """

    def __init__(
        self,
        capacity: int,
        *,
        backlog: int,
        longest_s: float = math.inf,
        takes_s: Callable[[int], float | None] = lambda _: None,
        client_share: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin empty.

        Raises:
            ValueError: there is no room for one window, one clip, or any of a client's.
        """
        if capacity < 1 or backlog < 1:
            raise ValueError(f"capacity must be at least 1, got {capacity=}, {backlog=}")
        if not longest_s > 0:
            raise ValueError(f"a clip must be allowed to wait, got {longest_s=}")
        if not 0 < client_share <= 1:
            raise ValueError(f"a share is above 0 and at most 1, got {client_share}")
        self.capacity = capacity
        self.backlog = backlog
        self.longest_s = longest_s
        self.client_share = client_share
        self.refused_windows = 0.0
        self._takes_s = takes_s
        self._all = _Held()
        self._clients: dict[Hashable, _Held] = {}
        self._average_clip: float | None = None
        self._asked = Arrivals(ASKED_MEMORY_S, clock=clock)

    @property
    def in_flight(self) -> int:
        """Windows with a permit."""
        return self._all.windows

    @property
    def full(self) -> bool:
        """Whether there is no room for even one more window or clip.

        Clips being decoded are expected to need an average clip's windows: else clips would be let
        in to be decoded for nothing.
        """
        return self._no_room(self._all, 1.0) or self._too_late

    @property
    def asked_per_s(self) -> float:
        """Windows asked for in a second, smoothed over `ASKED_MEMORY_S`, refused ones included."""
        return self._asked.per_s

    @property
    def queue_s(self) -> float | None:
        """Seconds in which what is in flight will have drained; None where no rate is known."""
        return self._takes_s(self.in_flight)

    @property
    def retry_after_s(self) -> float:
        """`queue_s`, within [MIN_RETRY_S, MAX_RETRY_S]; DEFAULT_RETRY_S where it isn't known."""
        queue_s = self.queue_s
        return DEFAULT_RETRY_S if queue_s is None else min(max(queue_s, MIN_RETRY_S), MAX_RETRY_S)

    def check(self, client: Hashable = None) -> None:
        """Raise Overloaded when full, or when the client's share is.

        For the gate at header time, when a clip's size is unknown.
        """
        if self.full:
            self.refuse(self._everybody)
        held = self._clients.get(client)
        if held and self._no_room(held, self.client_share):
            self.refuse(self._one_client(held))

    def refuse(self, reason: str) -> NoReturn:
        """Raise Overloaded for a clip of unknown size, which counts as an average one."""
        self._refuse(self._average, reason)

    def expect(self, client: Hashable = None) -> Permit:
        """Let a clip be decoded until the permit is released; raises Overloaded as `check` does."""
        self.check(client)
        self._all.clips += 1
        self._of(client).clips += 1
        return Permit(1, partial(self._decoded, client))

    def admit(self, windows: int, client: Hashable = None) -> Permit:
        """Let a clip of that many windows in; raises Overloaded at once when they don't fit.

        A clip larger than there is room gets in when nothing else is, and one larger than its
        client's share when the client has nothing else in: it would never be served.
        """
        if windows < 0:
            raise ValueError(f"a clip cannot have {windows} windows")
        if self._average_clip is None:
            self._average_clip = float(windows)
        self._average_clip += CLIP_MEMORY * (windows - self._average_clip)
        held = self._clients.get(client, _NOTHING)
        if self._too_many(windows, self._all, 1.0) or (windows and self._too_late):
            self._refuse(windows, self._everybody)
        if self._too_many(windows, held, self.client_share):
            self._refuse(windows, self._one_client(held))
        self._all.windows += windows
        self._asked.add(windows)
        if windows:
            self._of(client).windows += windows
        return Permit(windows, partial(self._release, client))

    def _decoded(self, client: Hashable, clips: int) -> None:
        self._all.clips -= clips
        self._of(client).clips -= clips
        self._forget(client)

    def _release(self, client: Hashable, windows: int) -> None:
        self._all.windows -= windows
        self._of(client).windows -= windows
        self._forget(client)

    def _refuse(self, windows: float, reason: str) -> NoReturn:
        self.refused_windows += windows
        self._asked.add(windows)
        raise Overloaded(reason, self.retry_after_s)

    def _no_room(self, held: _Held, share: float) -> bool:
        expected = held.windows + held.clips * max(1.0, self._average)
        return expected >= share * self.capacity or held.clips >= share * self.backlog

    def _too_many(self, windows: int, held: _Held, share: float) -> bool:
        beside = held.windows > 0 and windows > 0
        return beside and held.windows + windows > share * self.capacity

    @property
    def _too_late(self) -> bool:
        queue_s = self.queue_s
        return queue_s is not None and queue_s >= self.longest_s

    def _of(self, client: Hashable) -> _Held:
        return self._clients.setdefault(client, _Held())

    def _forget(self, client: Hashable) -> None:
        if self._clients[client] == _NOTHING:
            del self._clients[client]

    @property
    def _average(self) -> float:
        return 1.0 if self._average_clip is None else self._average_clip

    @property
    def _everybody(self) -> str:
        held = self._all
        if not self._no_room(held, 1.0) and self._too_late:
            return f"{held.windows} windows are in flight, which take {self.queue_s:.3g} s."
        return (
            f"{held.windows} of {self.capacity} windows are in flight and {held.clips} of "
            f"{self.backlog} clips are being decoded."
        )

    def _one_client(self, held: _Held) -> str:
        return (
            f"This client has {held.windows} windows in flight and {held.clips} clips being "
            f"decoded; it may have {self.client_share:.0%} of the server's {self.capacity} "
            f"windows and {self.backlog} clips."
        )
