"""The batcher: nothing is lost, doubled or swapped, and nobody waits for a stranger's long clip.

The engine here blocks on events until a test lets it go on, and both the batcher's clock and the
event loop's timers run on a clock that only a test moves: nothing depends on how fast this machine
is.
"""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TypeVarTuple, Unpack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching import Batched, Batcher, BatchObserver, DispatchReason, DropReason
from service.domain import DeadlineExceeded, EngineFailed, NotReady
from service.priority import NICENESS

PATIENCE_S = 30
"""Real seconds after which a test that hangs fails."""

FOREVER = 1e9

Args = TypeVarTuple("Args")


@dataclass
class Clock:
    """A clock that a test moves."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


class ClockLoop(asyncio.SelectorEventLoop):
    """An event loop whose timers follow a Clock, and which tells of news from other threads."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.posted = threading.Semaphore(0)
        super().__init__()

    def time(self) -> float:
        return self.clock()

    def call_soon_threadsafe(
        self,
        callback: Callable[[Unpack[Args]], object],
        *args: *Args,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = super().call_soon_threadsafe(callback, *args, context=context)
        self.posted.release()
        return handle


@dataclass(frozen=True)
class Thing:
    """An item: `bad` makes every batch fail, `shy` each it isn't alone in, `short` eats answers."""

    name: int
    kind: str = "good"


@dataclass(eq=False)
class Call:
    """An engine call under way; it ends when `gate` is set."""

    things: tuple[Thing, ...]
    wide: bool = False
    gate: threading.Event = field(default_factory=threading.Event)

    @property
    def names(self) -> list[int]:
        return [thing.name for thing in self.things]


class Panic(BaseException):
    """What a native library raises when it gives up."""


def raise_by_kind(kind: str) -> None:
    """Fail as an item of this kind makes an engine fail, if it does."""
    errors: dict[str, BaseException] = {
        "bad": RuntimeError("bad item"),
        "stop": StopIteration(),
        "panic": Panic(),
    }
    if kind in errors:
        raise errors[kind]


class Engine:
    """Holds each call until it is let go; answers item n with n + 0.5."""

    def __init__(self) -> None:
        self.entered: list[Call] = []
        self.arrivals = threading.Semaphore(0)

    def __call__(self, things: Sequence[Thing], *, wide: bool = False) -> Sequence[float]:
        call = Call(tuple(things), wide)
        self.entered.append(call)
        self.arrivals.release()
        assert call.gate.wait(PATIENCE_S), "the test never let this call go"
        for thing in things:
            raise_by_kind(thing.kind)
            if thing.kind == "shy" and len(things) > 1:
                raise ValueError("not in company")
        return [thing.name + 0.5 for thing in things if thing.kind != "short"]


class Journal(BatchObserver):
    """Writes down what the batcher tells."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, DispatchReason]] = []
        self.drops: Counter[DropReason] = Counter()
        self.retries: list[int] = []
        self.waits: list[float] = []
        self.engine_s: list[float] = []
        self.news = asyncio.Event()

    def dispatched(self, items: int, reason: DispatchReason) -> None:
        self.batches.append((items, reason))

    def computed(self, seconds: float) -> None:
        self.engine_s.append(seconds)
        self.news.set()

    def waited(self, seconds: float) -> None:
        self.waits.append(seconds)

    def dropped(self, items: int, reason: DropReason) -> None:
        assert items > 0
        self.drops[reason] += items

    def retried(self, items: int) -> None:
        self.retries.append(items)


class Stage:
    """A batcher with an engine, a clock and a journal that a test plays with."""

    def __init__(
        self, loop: ClockLoop, streams: int, max_batch: int, ahead: int, *, wide: bool
    ) -> None:
        self.loop = loop
        self.clock = loop.clock
        self.engine = Engine()
        self.journal = Journal()
        self.batcher: Batcher[Thing, float] = Batcher(
            self.engine,
            streams=streams,
            max_batch=max_batch,
            ahead=ahead,
            run_wide=partial(self.engine, wide=True) if wide else None,
            observer=self.journal,
            clock=self.clock,
        )
        self._seen = 0
        self._ended: set[Call] = set()
        self._names = count()

    def things(self, *kinds: str) -> list[Thing]:
        return [Thing(next(self._names), kind) for kind in kinds]

    async def send(
        self, things: Sequence[Thing], within: float = FOREVER
    ) -> asyncio.Task[Batched[float]]:
        """Submit, and come back when the batcher has it."""
        deadline = self.clock() + within
        task = asyncio.create_task(self.batcher.submit(things, deadline=deadline))
        await settle()
        return task

    def send_good(
        self, items: int, within: float = FOREVER
    ) -> Coroutine[None, None, asyncio.Task[Batched[float]]]:
        return self.send(self.things(*["good"] * items), within)

    def running(self) -> list[Call]:
        """Wait until all dispatched calls have begun; returns those under way, oldest first."""
        while self._seen < len(self.journal.batches):
            assert self.engine.arrivals.acquire(timeout=PATIENCE_S), "a dispatched batch never ran"
            self._seen += 1
        return [call for call in self.engine.entered if call not in self._ended]

    async def finish(self, call: Call, leaver: asyncio.Task[Batched[float]] | None = None) -> None:
        """Let a call end, and come back when everybody has heard of it.

        A `leaver` is cancelled so that the batcher hears of the call's end before its task can run.
        """
        self._ended.add(call)
        self.journal.news.clear()
        call.gate.set()
        assert self.loop.posted.acquire(timeout=PATIENCE_S), "the call never ended"
        if leaver is not None:
            self.loop.call_soon(leaver.cancel)
        await self.journal.news.wait()
        await settle()

    async def finish_all(self) -> list[list[int]]:
        """Let everything run that is queued; returns the batches, as names, in their order."""
        batches = []
        while running := self.running():
            batches.append(running[0].names)
            await self.finish(running[0])
        return batches

    async def pass_time(self, seconds: float) -> None:
        self.running()  # so that a call's time begins before this, not somewhere within it
        self.clock.now += seconds
        await settle()


async def settle() -> None:
    """Let every task and timer that is due have its turn."""
    for _ in range(5):
        await asyncio.sleep(0)


def play(
    story: Callable[[Stage], Coroutine[None, None, None]],
    *,
    streams: int = 1,
    max_batch: int = 4,
    ahead: int = 0,
    wide: bool = False,
) -> None:
    """Run a story on a stage of its own."""

    async def show() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ClockLoop)
        await story(Stage(loop, streams, max_batch, ahead, wide=wide))

    with asyncio.Runner(loop_factory=ClockLoop) as runner:
        runner.run(show())


@dataclass(frozen=True)
class Arrive:
    """A clip arrives."""

    kinds: tuple[str, ...]
    within: float


@dataclass(frozen=True)
class Leave:
    """A client leaves (it may have been answered already)."""

    who: int


@dataclass(frozen=True)
class Pass:
    """Time passes."""

    seconds: float


@dataclass(frozen=True)
class End:
    """One of the engine calls under way ends."""

    which: int


@dataclass(frozen=True)
class EndAndLeave:
    """An engine call ends in the same turn of the loop as a client leaves."""

    which: int
    who: int


Event = Arrive | Leave | Pass | End | EndAndLeave

KINDS = st.sampled_from(["good"] * 6 + ["shy", "bad", "short"])
PICKS = st.integers(0, 20)
EVENTS: st.SearchStrategy[list[Event]] = st.lists(
    st.one_of(
        st.builds(
            Arrive,
            st.lists(KINDS, min_size=1, max_size=6).map(tuple),
            st.sampled_from([FOREVER, FOREVER, 0.0, 2.0, 5.0]),
        ),
        st.builds(End, PICKS),
        st.builds(Leave, PICKS),
        st.builds(Pass, st.sampled_from([0.5, 1.0, 3.0])),
        st.builds(EndAndLeave, PICKS, PICKS),
    ),
    max_size=40,
)


@dataclass
class Visit:
    """What is known of a clip from outside the batcher."""

    things: list[Thing]
    deadline: float
    task: asyncio.Task[Batched[float]]
    left: bool = False

    def check(self, now: float) -> None:
        """Assert that it ended in a way that what happened to it allows."""
        spoilt = any(thing.kind in {"bad", "short"} for thing in self.things)
        if self.task.cancelled():
            assert self.left
            return
        error = self.task.exception()
        if error is None:
            assert not spoilt
            assert self.task.result().answers == tuple(thing.name + 0.5 for thing in self.things)
        elif isinstance(error, DeadlineExceeded):
            assert now >= self.deadline
        else:
            assert isinstance(error, EngineFailed)
            assert spoilt


async def happen(stage: Stage, event: Event, visits: list[Visit]) -> None:
    """Let one event take place."""
    running = stage.running()
    if isinstance(event, Arrive):
        things = stage.things(*event.kinds)
        deadline = stage.clock() + event.within
        visits.append(Visit(things, deadline, await stage.send(things, event.within)))
    elif isinstance(event, Pass):
        await stage.pass_time(event.seconds)
    elif isinstance(event, Leave) and visits:
        visit = visits[event.who % len(visits)]
        visit.left |= visit.task.cancel()
    elif isinstance(event, End) and running:
        await stage.finish(running[event.which % len(running)])
    elif isinstance(event, EndAndLeave) and running:
        visit = visits[event.who % len(visits)]
        visit.left |= not visit.task.done()
        await stage.finish(running[event.which % len(running)], visit.task)
    await settle()


@settings(max_examples=200)
@given(
    events=EVENTS,
    streams=st.integers(1, 3),
    max_batch=st.integers(1, 4),
    ahead=st.integers(0, 2),
    wide=st.booleans(),
)
def test_no_result_is_lost_doubled_or_swapped(
    events: list[Event], streams: int, max_batch: int, ahead: int, *, wide: bool
) -> None:
    """Whatever arrives, leaves, expires and fails, each clip ends once, with its own answers."""

    async def story(stage: Stage) -> None:
        visits: list[Visit] = []
        for event in events:
            ended = {thing for visit in visits if visit.task.done() for thing in visit.things}
            entered = len(stage.engine.entered)
            await happen(stage, event, visits)
            running = stage.running()
            for call in stage.engine.entered[entered:]:
                assert ended.isdisjoint(call.things), "an item runs that nobody waits for"
            dispatched = sum(items for items, _ in stage.journal.batches)
            sent = sum(len(visit.things) for visit in visits)
            gone = dispatched - sum(stage.journal.retries) + stage.journal.drops.total()
            assert len(running) <= streams + ahead
            assert sent == stage.batcher.queued + gone
            inside = sum(len(call.things) for call in running) + stage.batcher.queued
            held = any(call.wide for call in running) and inside < streams
            full = len(running) == streams + ahead
            assert held or full or not stage.batcher.queued, "a stream rests"
            for visit in visits:
                late = visit.deadline <= stage.clock()
                assert visit.task.done() or not late, "a clip has outlived its deadline"
        closing = asyncio.create_task(stage.batcher.close())
        await stage.finish_all()
        await closing
        for visit in visits:
            visit.check(stage.clock())
        assert stage.batcher.queued == 0
        assert stage.batcher.longest_run_s == 0
        assert len(stage.journal.waits) == len(visits)
        assert all(1 <= len(call.things) <= max_batch for call in stage.engine.entered)
        in_company = Counter(
            name for call in stage.engine.entered if len(call.things) > 1 for name in call.names
        )
        alone = Counter(call.names[0] for call in stage.engine.entered if len(call.things) == 1)
        assert all(times == 1 for times in (in_company | alone).values()), "an item ran again"

    play(story, streams=streams, max_batch=max_batch, ahead=ahead, wide=wide)


def test_a_lone_clip_runs_at_once() -> None:
    """There is no waiting window: an item goes into a free stream as it arrives."""

    async def story(stage: Stage) -> None:
        clip = await stage.send_good(1)
        assert stage.journal.batches == [(1, "idle")]
        await stage.finish_all()
        assert clip.result() == Batched((0.5,), 0.0, 0.0, 1, "idle")

    play(story)


def test_a_batch_takes_what_has_queued_up_to_its_limit() -> None:
    """Behind a busy stream the next batch is all that waits, or `max_batch` of it."""

    async def story(stage: Stage) -> None:
        for _ in range(7):
            await stage.send_good(1)
        assert stage.batcher.queued == 6
        assert await stage.finish_all() == [[0], [1, 2, 3, 4], [5, 6]]
        assert stage.journal.batches == [(1, "idle"), (4, "full"), (2, "backlog")]

    play(story, max_batch=4)


def test_an_answer_tells_of_the_largest_batch_it_came_in() -> None:
    """Its size, and why that one was sent."""

    async def story(stage: Stage) -> None:
        first = await stage.send_good(1)
        clips = [await stage.send_good(size) for size in (2, 3)]
        await stage.finish_all()
        batches = [
            (clip.result().largest_batch, clip.result().dispatch) for clip in (first, *clips)
        ]
        assert stage.journal.batches == [(1, "idle"), (4, "full"), (1, "backlog")]
        assert batches == [(1, "idle"), (4, "full"), (4, "full")]

    play(story, max_batch=4)


@pytest.mark.parametrize(("streams", "max_batch"), [(1, 2), (2, 1)])
def test_what_the_streams_make_in_a_second_is_measured(streams: int, max_batch: int) -> None:
    """By the time they work: rest, a failed batch and its retries' company change nothing."""

    async def story(stage: Stage) -> None:
        assert stage.batcher.items_per_s == 0
        for _ in range(3):
            await stage.send_good(2)
            await stage.pass_time(0.5)
            await stage.finish_all()
            await stage.pass_time(100)
            assert stage.batcher.items_per_s == pytest.approx(2 / 0.5)
        await stage.send(stage.things("bad", "bad"))
        await stage.pass_time(3)
        await stage.finish_all()
        assert stage.batcher.items_per_s == pytest.approx(2 / 0.5)

    play(story, streams=streams, max_batch=max_batch)


def test_how_long_items_take_is_known_by_what_was_made() -> None:
    """A stall is seen before it ends; of a batch that waits for a stream nothing counts."""

    async def story(stage: Stage) -> None:
        assert stage.batcher.takes_s(10) is None
        await stage.send_good(2)
        assert stage.batcher.takes_s(10) is None
        await stage.pass_time(1.0)
        await stage.finish_all()
        assert stage.batcher.takes_s(10) == pytest.approx(5)
        await stage.send_good(2)
        assert stage.batcher.takes_s(10) == pytest.approx(5)
        await stage.send_good(2)
        await stage.pass_time(3.0)
        assert stage.batcher.takes_s(10) == pytest.approx((1 + 3) * 5)
        assert stage.batcher.items_per_s == pytest.approx(2)
        await stage.finish_all()

    play(story, streams=1, max_batch=2, ahead=1)


def test_a_clip_is_spread_over_free_streams() -> None:
    """No stream rests while a clip's items wait their turn in one batch beside it."""

    async def story(stage: Stage) -> None:
        await stage.send_good(5)
        assert sorted(call.names for call in stage.running()) == [[0, 1], [2, 3]]
        await stage.finish_all()

    play(story, streams=2, max_batch=8)


def test_a_stream_leaves_others_their_share() -> None:
    """The one that is free first takes a half of its half of what is inside, not all that waits."""

    async def story(stage: Stage) -> None:
        for _ in range(8):
            await stage.send_good(1)
        first, second = stage.running()
        await stage.finish(first)
        assert stage.running()[1].names == [2, 3]
        await stage.finish(second)
        assert stage.running()[1].names == [4, 5]
        await stage.finish_all()

    play(story, streams=2, max_batch=8)


def test_one_batch_more_than_streams_is_handed_over() -> None:
    """The engine has it when a stream is free, without a way through the loop; others queue."""

    async def story(stage: Stage) -> None:
        for _ in range(4):
            await stage.send_good(1)
        assert [call.names for call in stage.running()] == [[0], [1], [2]]
        assert stage.batcher.queued == 1
        assert stage.journal.batches[1:] == [(1, "idle"), (1, "backlog")]
        await stage.finish(stage.running()[0])
        assert [call.names for call in stage.running()] == [[1], [2], [3]]
        await stage.finish_all()

    play(story, streams=2, ahead=1)


def test_who_waits_in_the_engine_has_not_begun() -> None:
    """Neither its clip's time there nor the pace, nor what could be stuck, counts until it has."""

    async def story(stage: Stage) -> None:
        await stage.send_good(1)
        clip = await stage.send_good(1)
        await stage.pass_time(3.0)
        await stage.finish(stage.running()[0])
        assert stage.batcher.longest_run_s == 0
        await stage.pass_time(3.0)
        assert stage.batcher.longest_run_s == 3.0
        await stage.finish_all()
        assert clip.result() == Batched((1.5,), 3.0, 3.0, 1, "backlog")
        assert stage.journal.engine_s == [3.0, 3.0]
        assert stage.batcher.items_per_s == pytest.approx(1 / 3)

    play(story, streams=1, ahead=1)


def test_who_waits_in_the_engine_may_end_first() -> None:
    """Where the end of the call before it is heard of later, each clip has its own answer still."""

    async def story(stage: Stage) -> None:
        clips = [await stage.send_good(1) for _ in range(3)]
        first, second, third = stage.running()
        await stage.finish(third)
        assert clips[2].result().answers == (2.5,)
        assert clips[2].result().engine_s == 0
        await stage.finish(second)
        await stage.finish(first)
        assert [clip.result().answers for clip in clips[:2]] == [(0.5,), (1.5,)]

    play(story, streams=2, ahead=1)


def test_all_threads_work_on_what_is_fewer_than_the_streams() -> None:
    """What comes meanwhile waits for them, and then shares a batch."""

    async def story(stage: Stage) -> None:
        for _ in range(3):
            await stage.send_good(1)
        (first,) = stage.running()
        assert (first.names, first.wide) == ([0], True)
        await stage.finish(first)
        (second,) = stage.running()
        assert (second.names, second.wide) == ([1, 2], True)
        await stage.finish_all()

    play(story, streams=4, wide=True)


def test_streams_take_a_thread_each_when_there_is_enough_for_all() -> None:
    """Those that rest begin at once, beside the batch that all threads had been given to."""

    async def story(stage: Stage) -> None:
        await stage.send_good(1)
        await stage.send_good(1)
        assert [call.wide for call in stage.running()] == [True]
        await stage.send_good(2)
        wide, second, third = stage.running()
        assert [call.wide for call in (wide, second, third)] == [True, False, False]
        assert [second.names, third.names] == [[1], [2]]
        await stage.finish_all()
        await stage.send_good(1)
        assert stage.running()[0].wide, "they are all free again"
        await stage.finish_all()

    play(story, streams=3, wide=True)


def test_the_pace_of_a_batch_that_has_all_threads_is_that_of_all_streams() -> None:
    """Two windows in a second are two a second, however many streams could run beside it."""

    async def story(stage: Stage) -> None:
        await stage.send_good(2)
        await stage.pass_time(1.0)
        await stage.finish_all()
        assert stage.batcher.items_per_s == pytest.approx(2)

    play(story, streams=4, wide=True)


def test_clips_take_turns() -> None:
    """Each queued clip gives one item a round, the oldest first."""

    async def story(stage: Stage) -> None:
        for size in (1, 5, 1, 3):
            await stage.send_good(size)
        assert await stage.finish_all() == [[0], [1, 6, 7], [2, 8, 3], [9, 4, 5]]

    play(story, max_batch=3)


@settings(max_examples=50)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8), max_batch=st.integers(1, 5))
def test_batches_are_cut_from_rounds_over_the_clips(sizes: list[int], max_batch: int) -> None:
    """One item of each clip, the oldest first, again and again; batches end anywhere in a round."""

    async def story(stage: Stage) -> None:
        clips = [stage.things(*["good"] * size) for size in sizes]
        for clip in clips:
            await stage.send(clip)
        first, *batches = await stage.finish_all()
        assert first == [thing.name for thing in clips[0][:max_batch]]
        queued = [clips[0][max_batch:], *clips[1:]]
        rounds = [
            clip[number].name
            for number in range(max(sizes))
            for clip in queued
            if number < len(clip)
        ]
        assert [name for batch in batches for name in batch] == rounds
        assert all(len(batch) == max_batch for batch in batches[:-1])

    play(story, max_batch=max_batch)


def test_a_long_clip_delays_a_short_one_by_one_batch() -> None:
    """A clip that arrives while a long one runs is in the very next batch."""

    async def story(stage: Stage) -> None:
        await stage.send_good(20)
        short = await stage.send_good(1)
        for _ in range(2):
            assert not short.done()
            await stage.finish(stage.running()[0])
        assert short.done()
        await stage.finish_all()

    play(story, max_batch=2)


@settings(max_examples=50)
@given(
    sizes=st.lists(st.integers(1, 8), min_size=1, max_size=6),
    ended=st.integers(0, 6),
    max_batch=st.integers(1, 4),
)
def test_a_newcomer_waits_for_one_item_of_each_clip(
    sizes: list[int], ended: int, max_batch: int
) -> None:
    """However long the clips before it are, and however far, each goes before it but once."""

    async def story(stage: Stage) -> None:
        for size in sizes:
            await stage.send_good(size)
        for _ in range(ended):
            if stage.batcher.queued:
                await stage.finish(stage.running()[0])
        begun = len(stage.running())
        newcomer = stage.things("good")
        await stage.send(newcomer)
        order = [name for batch in (await stage.finish_all())[begun:] for name in batch]
        if order:
            assert order.index(newcomer[0].name) <= len(sizes)

    play(story, max_batch=max_batch)


def test_answers_tell_how_long_they_waited_and_ran() -> None:
    """Time in the engine and time outside it add up to the clip's time in the batcher."""

    async def story(stage: Stage) -> None:
        await stage.send_good(1)
        clip = await stage.send_good(3)
        for seconds in (1.0, 2.0, 4.0):
            await stage.pass_time(seconds)
            await stage.finish(stage.running()[0])
        assert clip.result() == Batched((1.5, 2.5, 3.5), 1.0, 6.0, 2, "full")
        assert stage.journal.waits == [0.0, 1.0]
        assert stage.journal.engine_s == [1.0, 2.0, 4.0]

    play(story, max_batch=2)


def test_engine_time_counts_once_on_several_streams() -> None:
    """While one of a clip's items runs, another that begins or waits adds nothing."""

    async def story(stage: Stage) -> None:
        await stage.send_good(1)
        clip = await stage.send_good(2)
        for seconds in (1.0, 2.0, 4.0):
            await stage.pass_time(seconds)
            await stage.finish(stage.running()[0])
        assert clip.result() == Batched((1.5, 2.5), 0.0, 7.0, 1, "full")

    play(story, streams=2, max_batch=1)


def test_an_answered_clip_leaves_nothing_behind() -> None:
    """Its audio is free long before the deadline it kept."""

    async def story() -> None:
        batcher: Batcher[Thing, int] = Batcher(
            lambda things: [thing.name for thing in things], streams=1, max_batch=1
        )
        thing = Thing(7)
        remains = weakref.ref(thing)
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        assert (await batcher.submit([thing], deadline=deadline)).answers == (7,)
        await batcher.close()
        del thing
        gc.collect()
        assert remains() is None

    asyncio.run(story())


def test_a_clip_without_items_needs_no_engine() -> None:
    """No items, no answers, at once and even while the engine is busy."""

    async def story(stage: Stage) -> None:
        await stage.send_good(1)
        assert (await stage.batcher.submit([], deadline=0)).answers == ()
        await stage.finish_all()

    play(story)


def test_a_deadline_is_kept_while_the_engine_is_busy() -> None:
    """Queued items are dropped at the deadline, by a timer: no engine call has to end first."""

    async def story(stage: Stage) -> None:
        await stage.send_good(1)
        clip = await stage.send_good(2, within=5)
        await stage.pass_time(4.999)
        assert not clip.done()
        await stage.pass_time(0.001)
        assert isinstance(clip.exception(), DeadlineExceeded)
        assert stage.batcher.queued == 0
        assert stage.journal.drops == {"deadline": 2}
        assert await stage.finish_all() == [[0]]

    play(story)


def test_a_deadline_is_kept_while_the_clip_itself_runs() -> None:
    """What runs is computed and discarded; what has not yet run never is."""

    async def story(stage: Stage) -> None:
        clip = await stage.send_good(3, within=5)
        await stage.pass_time(5)
        assert isinstance(clip.exception(), DeadlineExceeded)
        assert await stage.finish_all() == [[0, 1]]
        assert stage.journal.drops == {"deadline": 1}

    play(story, max_batch=2)


def test_a_late_clip_never_runs() -> None:
    """A deadline that has passed on arrival is refused, even by an idle engine."""

    async def story(stage: Stage) -> None:
        clip = await stage.send_good(1, within=0)
        assert isinstance(clip.exception(), DeadlineExceeded)
        assert stage.engine.entered == []

    play(story)


def test_deadlines_follow_the_real_clock_by_default() -> None:
    """With the default clock and observer a clip behind a blocked engine ends at its deadline."""

    async def story() -> None:
        engine = Engine()
        batcher: Batcher[Thing, float] = Batcher(engine, streams=1, max_batch=1)
        loop = asyncio.get_running_loop()
        held = asyncio.create_task(batcher.submit([Thing(0)], deadline=loop.time() + PATIENCE_S))
        await settle()
        with pytest.raises(DeadlineExceeded):
            await batcher.submit([Thing(1)], deadline=loop.time() + 0.01)
        assert engine.arrivals.acquire(timeout=PATIENCE_S)
        engine.entered[0].gate.set()
        assert (await held).answers == (0.5,)
        await batcher.close()

    asyncio.run(story())


def test_a_client_that_left_is_not_computed() -> None:
    """Cancelling drops the queued items at once; the one that runs is computed and discarded."""

    async def story(stage: Stage) -> None:
        leaver = await stage.send_good(3)
        stayer = await stage.send_good(1)
        leaver.cancel()
        await settle()
        assert leaver.cancelled()
        assert stage.journal.drops == {"cancelled": 2}
        assert await stage.finish_all() == [[0], [3]]
        assert stayer.result().answers == (3.5,)

    play(story, max_batch=1)


def test_a_client_that_left_a_moment_ago_is_not_computed() -> None:
    """Its items are passed over even when its task has not come round to dropping them."""

    async def story(stage: Stage) -> None:
        await stage.send_good(1)
        leaver = await stage.send_good(2)
        await stage.send_good(1)
        await stage.finish(stage.running()[0], leaver)
        assert leaver.cancelled()
        assert stage.journal.drops == {"cancelled": 2}
        assert await stage.finish_all() == [[3]]

    play(story)


@pytest.mark.parametrize("kind", ["bad", "short", "stop", "panic"])
def test_one_bad_item_fails_alone(kind: str) -> None:
    """A batch that raises, or lacks an answer, is retried one by one: neighbours are answered."""

    async def story(stage: Stage) -> None:
        await stage.send_good(1)
        before, after = stage.things("good"), stage.things("good", "good")
        first = await stage.send(before)
        bad = await stage.send(stage.things(kind))
        last = await stage.send(after)
        await stage.finish_all()
        assert first.result().answers == (1.5,)
        assert last.result().answers == (2.5, 3.5)
        error = bad.exception()
        assert isinstance(error, EngineFailed)
        assert error.__cause__ is not None
        assert stage.journal.batches[1:] == [(4, "full"), *[(1, "retry")] * 4]
        assert stage.journal.retries == [4]

    play(story)


def test_an_item_that_fails_only_in_company_is_answered() -> None:
    """A batch's failure is nobody's failure yet."""

    async def story(stage: Stage) -> None:
        clip = await stage.send(stage.things("shy", "good"))
        await stage.finish_all()
        assert clip.result().answers == (0.5, 1.5)

    play(story)


def test_a_failed_clip_is_not_computed_further() -> None:
    """After one item has failed alone, the clip's others would be work for nothing."""

    async def story(stage: Stage) -> None:
        clip = await stage.send(stage.things("bad", "good", "good", "good"))
        assert await stage.finish_all() == [[0, 1], [0]]
        assert str(clip.exception()) == "the model failed on window 1 of 4"
        assert stage.journal.drops == {"failed": 3}

    play(story, max_batch=2)


def test_suspects_are_not_retried_for_nobody() -> None:
    """Items of a failed batch whose client has left are not run again."""

    async def story(stage: Stage) -> None:
        leaver = await stage.send(stage.things("bad", "good"))
        leaver.cancel()
        await settle()
        assert await stage.finish_all() == [[0, 1]]
        assert stage.journal.retries == [0]

    play(story)


def test_suspects_have_deadlines_too() -> None:
    """Items that wait for their retry are dropped at the deadline as others are."""

    async def story(stage: Stage) -> None:
        clip = await stage.send(stage.things("shy", "shy", "shy"), within=5)
        await stage.finish(stage.running()[0])
        await stage.pass_time(5)
        assert isinstance(clip.exception(), DeadlineExceeded)
        assert await stage.finish_all() == [[0]]
        assert stage.journal.drops == {"deadline": 2}

    play(story)


def test_closing_answers_what_is_queued_and_refuses_the_rest() -> None:
    """Draining loses no clip that was taken, and takes none that comes later."""

    async def story(stage: Stage) -> None:
        clips = [await stage.send_good(2) for _ in range(3)]
        closing = [asyncio.create_task(stage.batcher.close()) for _ in range(2)]
        await settle()
        with pytest.raises(NotReady) as refusal:
            await stage.batcher.submit(stage.things("good"), deadline=FOREVER)
        assert refusal.value.retry_after_s > 0
        assert not any(close.done() for close in closing)
        await stage.finish_all()
        await asyncio.gather(*closing)
        assert [clip.result().answers for clip in clips] == [(0.5, 1.5), (2.5, 3.5), (4.5, 5.5)]
        await stage.batcher.close()

    play(story)


def test_closing_waits_for_a_run_nobody_wants() -> None:
    """The engine is not pulled from under a call whose client has left."""

    async def story(stage: Stage) -> None:
        (await stage.send_good(1)).cancel()
        closing = asyncio.create_task(stage.batcher.close())
        await settle()
        assert not closing.done()
        await stage.finish_all()
        await closing

    play(story)


def test_an_idle_batcher_closes_at_once() -> None:
    """There may never have been a clip."""

    async def story(stage: Stage) -> None:
        await stage.batcher.close()

    play(story)


def test_the_longest_run_is_known_while_it_lasts() -> None:
    """A stuck engine call shows, whatever the other streams do."""

    async def story(stage: Stage) -> None:
        assert stage.batcher.longest_run_s == 0
        await stage.send_good(1)
        await stage.pass_time(7)
        await stage.send_good(1)
        await stage.pass_time(2)
        assert stage.batcher.longest_run_s == 9
        await stage.finish(stage.running()[0])
        assert stage.batcher.longest_run_s == 2
        await stage.finish_all()
        assert stage.batcher.longest_run_s == 0

    play(story, streams=2)


def test_the_engine_gives_way_to_the_event_loop() -> None:
    """Its threads have a lower priority, or they would delay those who only ask for an answer."""

    async def story() -> None:
        priorities: Batcher[int, int] = Batcher(
            lambda threads: [os.getpriority(os.PRIO_PROCESS, thread) for thread in threads],
            streams=1,
            max_batch=1,
        )
        batched = await priorities.submit([0], deadline=time.monotonic() + PATIENCE_S)
        assert batched.answers == (os.getpriority(os.PRIO_PROCESS, 0) + NICENESS,)
        await priorities.close()

    asyncio.run(story())


@pytest.mark.parametrize(("streams", "max_batch"), [(0, 1), (1, 0)])
def test_a_batcher_needs_a_stream_and_a_batch(streams: int, max_batch: int) -> None:
    """Limits below one are refused when it is built, not when the first clip comes."""
    with pytest.raises(ValueError, match="need a stream"):
        Batcher[Thing, float](Engine(), streams=streams, max_batch=max_batch)
