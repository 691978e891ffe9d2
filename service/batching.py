"""The adaptive batcher: clips' windows → batches for the engine → each clip's answers.

It never waits for a batch to fill. The moment an engine stream is free it takes its share of what
is queued, so the batch follows the load by itself: small when quiet, `max_batch` when busy. With
several streams the engine may have the next batch before that, so that none waits for Python. Where
the engine can also give all its threads to one batch, it does so while there is less inside than
there are streams. The batcher knows nothing of HTTP or of the model (an item is whatever `run`
takes), and it belongs to one event loop, the only one to change its state; other threads only run
the engine.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeAlias, TypeVar

from service.domain import DeadlineExceeded, EngineFailed, NotReady, TimbreError
from service.priority import give_way
from service.rates import Pace

Item = TypeVar("Item")
Answer = TypeVar("Answer")

DispatchReason: TypeAlias = Literal["idle", "backlog", "full", "retry"]
"""Why a batch has its size: a stream was free on arrival, its share of what had queued behind busy
ones, the most a batch may have, or alone because the batch it was in had failed."""

DropReason: TypeAlias = Literal["cancelled", "deadline", "failed"]
"""Why a queued item never ran: its client left, its time was up, or its clip had failed already."""

PACE_MEMORY_S = 30.0
"""Seconds of a stream's work after which a measurement of the streams' pace has faded to 1/e."""

NOT_READY_RETRY_S = 1.0
"""A closed batcher means a pod on its way out; by then another one takes the clip."""


class BatchObserver:
    """What a batcher tells about its work; override what you measure. Called in the event loop."""

    def dispatched(self, items: int, reason: DispatchReason) -> None:
        """Note a batch of that many items, on its way into the engine."""

    def computed(self, seconds: float) -> None:
        """Note the end, good or bad, of an engine call that took so long."""

    def waited(self, seconds: float) -> None:
        """Note the end, good or bad, of a clip; so long none of its items was in the engine."""

    def dropped(self, items: int, reason: DropReason) -> None:
        """Note queued items of one clip that will not run."""

    def retried(self, items: int) -> None:
        """Note a failed batch; that many of its items are queued again, to run one by one."""


@dataclass(frozen=True, slots=True)
class Batched(Generic[Answer]):
    """A clip's answers in the order of its items, and how it came by them.

    `engine_s` is the time (seconds) at least one of its items was in the engine, `queue_s` the
    rest of its time in the batcher; `largest_batch` counts items, its own and its neighbours', and
    `dispatch` is why that one was sent (None for a clip without items).
    """

    answers: tuple[Answer, ...]
    queue_s: float
    engine_s: float
    largest_batch: int
    dispatch: DispatchReason | None


@dataclass(slots=True, eq=False)
class _Clip(Generic[Item, Answer]):
    """One submission on its way; it has ended, well or badly, when `done` is."""

    items: tuple[Item, ...]
    deadline: float
    submitted: float
    done: asyncio.Future[None]
    waiting: deque[int]
    answers: dict[int, Answer] = field(default_factory=dict)
    # Kept here and not in `done`, which would complain of it when nobody is left to hear it.
    error: TimbreError | None = None
    running: int = 0
    entered: float = 0.0
    engine_s: float = 0.0
    largest_batch: int = 0
    dispatch: DispatchReason | None = None

    def enter(self, now: float, batch: int, reason: DispatchReason) -> None:
        if not self.running:
            self.entered = now
        self.running += 1
        if batch > self.largest_batch:
            self.largest_batch, self.dispatch = batch, reason

    def leave(self, now: float) -> None:
        self.running -= 1
        if not self.running:
            self.engine_s += now - self.entered

    def answer(self, index: int, answer: Answer) -> None:
        self.answers[index] = answer
        if len(self.answers) == len(self.items) and not self.done.done():
            self.done.set_result(None)

    def times(self, now: float) -> tuple[float, float]:
        """Seconds outside and inside the engine so far."""
        engine_s = self.engine_s + (now - self.entered if self.running else 0.0)
        return now - self.submitted - engine_s, engine_s


_Seat: TypeAlias = tuple[_Clip[Item, Answer], int]
"""An item of a clip, by its index."""


@dataclass(slots=True, eq=False)
class _Call(Generic[Item, Answer]):
    """An engine call: computed since `began`, or None while it waits there for a stream."""

    batch: list[_Seat[Item, Answer]]
    reason: DispatchReason
    wide: bool
    began: float | None = None


_Outcome: TypeAlias = tuple[Sequence[Answer] | BaseException, float]
"""What came of an engine call: answers, or the error in their place; and its seconds."""


class Batcher(Generic[Item, Answer]):
    """Shares `streams` engine streams among clips, one item of each clip in its turn.

    `run` gets 1 to `max_batch` items and returns one answer for each, in their order; it blocks,
    and is called from up to `streams` threads at once. So does `run_wide`, if given, with the
    threads of all streams: it is called where nothing runs and less is inside than there are
    streams, and nothing else is started until it ends or more has come. Up to `ahead` calls more
    are made while all streams compute: the engine begins one the moment that a stream is free,
    which otherwise rests until the event loop has heard of it and a thread has its turn. `run` has
    to let them wait. Deadlines are times of `clock`, in seconds.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Answer]],
        *,
        streams: int,
        max_batch: int,
        ahead: int = 0,
        run_wide: Callable[[Sequence[Item]], Sequence[Answer]] | None = None,
        observer: BatchObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start nothing yet: no event loop is needed, and threads come with the first batches."""
        if streams < 1 or max_batch < 1:
            raise ValueError(f"need a stream and a batch of 1, got {streams=}, {max_batch=}")
        self._run = run
        self._run_wide = run_wide
        self._streams = streams
        self._ahead = ahead
        self._max_batch = max_batch
        self._observer = observer or BatchObserver()
        self._clock = clock
        self._pool = ThreadPoolExecutor(
            streams + ahead, thread_name_prefix="engine", initializer=give_way
        )
        # Clips with items waiting, next turn first. A clip that has given an item goes to the end,
        # where new clips join too: who waits, waits for one item of each clip before it.
        self._line: deque[_Clip[Item, Answer]] = deque()
        # Items of a failed batch: each runs alone, and before the line, as it has had its turn.
        self._suspects: deque[_Seat[Item, Answer]] = deque()
        self._in_line = 0
        self._in_engine = 0
        self._calls: dict[asyncio.Future[_Outcome[Answer]], _Call[Item, Answer]] = {}
        # A stream's: the seconds are those it is kept from others, its way to the engine included.
        self._pace = Pace(PACE_MEMORY_S)
        self._closed = False

    @property
    def queued(self) -> int:
        """Items that wait for the engine, but for those that it has been given ahead."""
        return self._in_line + len(self._suspects)

    @property
    def _computing(self) -> int:
        """Calls that have a stream."""
        return sum(call.began is not None for call in self._calls.values())

    @property
    def _wide(self) -> bool:
        """Whether a call has the threads of all streams."""
        return any(call.wide for call in self._calls.values())

    @property
    def _few(self) -> bool:
        """Whether less is inside than there are streams."""
        return self.queued + self._in_engine < self._streams

    @property
    def items_per_s(self) -> float:
        """Items a second that all streams together make while all are busy; 0 if none has yet.

        Measured of late, in batches as large as they came: a stream that could make fuller ones
        has a little more to give.
        """
        return self._streams * self._pace.per_s

    def takes_s(self, items: int) -> float | None:
        """Seconds that so many items take all streams together; None before any has been made.

        As `items_per_s` has it, but what is under way counts with its time so far: an engine that
        stalls is not thought fast until it goes on.
        """
        if not self._pace.amount:
            return None
        now = self._clock()
        under_way_s = sum(
            self._streams_of(call) * (now - call.began)
            for call in self._calls.values()
            if call.began is not None
        )
        return items * (self._pace.seconds + under_way_s) / self._pace.amount / self._streams

    @property
    def longest_run_s(self) -> float:
        """Seconds the longest engine call now under way has been running; 0 when there is none."""
        now = self._clock()
        begun = [call.began for call in tuple(self._calls.values())]
        return max((now - began for began in begun if began is not None), default=0.0)

    async def submit(self, items: Sequence[Item], *, deadline: float) -> Batched[Answer]:
        """Answer a clip's items, by `deadline`. Cancelling this drops what has not yet run.

        Raises DeadlineExceeded, EngineFailed (an item failed alone) or NotReady (closed).
        """
        if self._closed:
            raise NotReady("the server is shutting down", NOT_READY_RETRY_S)
        if len(items) == 0:
            return Batched((), 0.0, 0.0, 0, None)
        loop = asyncio.get_running_loop()
        now = self._clock()
        clip: _Clip[Item, Answer] = _Clip(
            tuple(items), deadline, now, loop.create_future(), deque(range(len(items)))
        )
        # A timer, since a busy or stuck engine may not come back to the queue in time.
        timer = loop.call_later(max(0.0, deadline - now), self._expire, clip)
        self._line.append(clip)
        self._in_line += len(items)
        self._dispatch("idle")
        try:
            await clip.done
        finally:
            timer.cancel()
            self._drop(clip, "cancelled")  # no other end leaves anything to drop
            queue_s, engine_s = clip.times(self._clock())
            self._observer.waited(queue_s)
        if clip.error is not None:
            raise clip.error
        answers = tuple(clip.answers[index] for index in range(len(clip.items)))
        return Batched(answers, queue_s, engine_s, clip.largest_batch, clip.dispatch)

    async def close(self) -> None:
        """Refuse new clips at once, then return when those taken have ended and no stream runs.

        Clips end by their deadlines, but a stuck engine call doesn't: put a time limit on this.
        """
        self._closed = True
        while self._calls:  # streams rest only when nothing is queued
            await asyncio.wait(tuple(self._calls))
        self._pool.shutdown()

    def _dispatch(self, reason: DispatchReason) -> None:
        """Give every free stream a batch, or one batch all of them, as far as the queue goes."""
        while len(self._calls) < self._streams + self._ahead and not (self._wide and self._few):
            run_wide = None if self._calls or not self._few else self._run_wide
            batch, alone = self._take(streams=1 if run_wide else self._streams)
            if not batch:
                return
            free = self._computing < self._streams
            full = len(batch) == self._max_batch
            why: DispatchReason = "full" if full else reason if free else "backlog"
            call = _Call(batch, "retry" if alone else why, wide=run_wide is not None)
            self._in_engine += len(batch)
            self._observer.dispatched(len(batch), call.reason)
            items = [clip.items[index] for clip, index in batch]
            future = asyncio.get_running_loop().run_in_executor(
                self._pool, _timed, run_wide or self._run, items, self._clock
            )
            self._calls[future] = call
            if free:
                self._begin(call)
            future.add_done_callback(self._finished)

    def _streams_of(self, call: _Call[Item, Answer]) -> int:
        """How many streams a call keeps from others."""
        return self._streams if call.wide else 1

    def _begin(self, call: _Call[Item, Answer]) -> float:
        """Note that a call has a stream, from now on."""
        call.began = self._clock()
        for clip, _ in call.batch:
            clip.enter(call.began, len(call.batch), call.reason)
        return call.began

    def _take(self, streams: int) -> tuple[list[_Seat[Item, Answer]], bool]:
        """Take the next batch of one of `streams`; and whether it is one suspect, alone."""
        while self._suspects:
            if not self._gone(self._suspects[0][0]):
                return [self._suspects.popleft()], True
        # What is inside is spread over the streams, whether they are free together or in turns: on
        # CPUs two half batches side by side end sooner than a whole one beside an idle core. A
        # stream takes half of its share, as there a whole one is next to no faster, and later.
        share = self._in_line
        if streams > 1:
            free = streams + self._ahead - len(self._calls)
            inside = self._in_line + self._in_engine
            share = min(math.ceil(share / free), math.ceil(inside / (2 * streams)))
        batch: list[_Seat[Item, Answer]] = []
        while self._line and len(batch) < min(share, self._max_batch):
            clip = self._line[0]
            if self._gone(clip):
                continue
            batch.append((clip, clip.waiting.popleft()))
            self._in_line -= 1
            self._line.popleft()
            if clip.waiting:
                self._line.append(clip)
        return batch, False

    def _finished(self, future: asyncio.Future[_Outcome[Answer]]) -> None:
        """Hand out a batch's answers, or find out who made it fail; then feed the free stream."""
        call = self._calls.pop(future)
        batch = call.batch
        self._in_engine -= len(batch)
        # It may even have ended before the one that it waited for was heard of.
        began = self._begin(call) if call.began is None else call.began
        result, seconds = future.result()
        now = self._clock()
        self._observer.computed(min(seconds, now - began))
        for clip, _ in batch:
            clip.leave(now)
        ahead = next((each for each in self._calls.values() if each.began is None), None)
        if ahead is not None and self._computing < self._streams:
            self._begin(ahead)
        if not isinstance(result, BaseException):
            self._pace.add(len(batch), self._streams_of(call) * (now - began))
            for (clip, index), answer in zip(batch, result, strict=True):
                clip.answer(index, answer)
        elif len(batch) > 1:
            again = [(clip, index) for clip, index in batch if not clip.done.done()]
            self._suspects.extend(again)
            self._observer.retried(len(again))
        else:
            clip, index = batch[0]
            failed = EngineFailed(f"the model failed on window {index + 1} of {len(clip.items)}")
            failed.__cause__ = result
            self._fail(clip, failed, "failed")
        self._dispatch("backlog")

    def _gone(self, clip: _Clip[Item, Answer]) -> bool:
        """Drop a clip that need not run any more, ahead of its task or timer, and say if so."""
        if clip.done.cancelled():
            self._drop(clip, "cancelled")
        elif clip.deadline <= self._clock():
            self._expire(clip)
        return clip.done.done()

    def _expire(self, clip: _Clip[Item, Answer]) -> None:
        allowed_s = clip.deadline - clip.submitted
        self._fail(clip, DeadlineExceeded(f"no answer within {allowed_s:.3g} s"), "deadline")

    def _fail(self, clip: _Clip[Item, Answer], error: TimbreError, reason: DropReason) -> None:
        if not clip.done.done():
            clip.error = error
            clip.done.set_result(None)
            self._drop(clip, reason)

    def _drop(self, clip: _Clip[Item, Answer], reason: DropReason) -> None:
        """Take what a clip still has in the queue out of it."""
        dropped = len(clip.waiting)
        if clip.waiting:
            self._line.remove(clip)
            self._in_line -= dropped
            clip.waiting.clear()
        if self._suspects:
            kept = deque(seat for seat in self._suspects if seat[0] is not clip)
            dropped += len(self._suspects) - len(kept)
            self._suspects = kept
        if dropped:
            self._observer.dropped(dropped, reason)


def _timed(
    run: Callable[[Sequence[Item]], Sequence[Answer]],
    items: Sequence[Item],
    clock: Callable[[], float],
) -> _Outcome[Answer]:
    """Call the engine, in a worker thread."""
    started = clock()
    result: Sequence[Answer] | BaseException
    try:
        result = run(items)
        if len(result) != len(items):
            result = ValueError(f"the engine gave {len(result)} answers to {len(items)} items")
    except BaseException as error:  # noqa: BLE001  # panics of native code are no Exceptions
        result = error
    return result, clock() - started
