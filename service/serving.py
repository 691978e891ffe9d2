"""One clip's way through a busy server: decoder → admission → batcher → result.

Every stage is bounded and refuses at once rather than park work it may not finish in time.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import NoReturn, Protocol

from service.admission import Admission
from service.batching import NOT_READY_RETRY_S, Batched, Batcher, DispatchReason
from service.classifier import Classifier, Heard
from service.domain import (
    BundleError,
    Clip,
    DeadlineExceeded,
    Logits,
    NotReady,
    Overloaded,
    Result,
    Traffic,
)
from service.fallback import Switch
from service.manifest import Manifest
from service.metrics import Metrics
from service.precision import Choice
from service.priority import give_way
from service.runner import Runner, Seat, run_each
from service.runtime import AHEAD
from service.settings import Settings

BUSY_S = 0.5
"""Seconds of work inside from which on what nobody waits for is left out. A client's clip is
refused much later, and goes to the fallback later too, by default."""


class Decoder(Protocol):
    """Where clips are decoded; safe from any thread."""

    @property
    def alive(self) -> bool:
        """False when it will not decode again."""

    def decode(self, data: bytes) -> Clip:
        """Decode a clip as `audio.decode` does, in bounded time; it blocks."""

    def close(self) -> None:
        """End what it runs."""


@dataclass(frozen=True, slots=True)
class Model:
    """A loaded bundle, warmed up, and why it is computed in its precision."""

    classifier: Classifier
    choice: Choice
    window_s: float | None = None
    """Seconds a window took when it was warmed up."""

    @property
    def manifest(self) -> Manifest:
        """The bundle's facts."""
        return self.classifier.runner.bundle.manifest


@dataclass(frozen=True, slots=True)
class Served:
    """A clip's result by `model`; where its time went, in seconds, and its largest batch."""

    model: Model
    traffic: Traffic
    heard: Heard
    result: Result
    decode_s: float
    queue_s: float
    inference_s: float
    largest_batch: int
    dispatch: DispatchReason | None


class Serving:
    """The loaded models and everything between them and the clients of one event loop."""

    def __init__(
        self,
        model: Model,
        settings: Settings,
        metrics: Metrics,
        decoder: Decoder,
        *,
        fallback: Model | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take a model, a faster one for when the queue is long, and a decoder.

        `close` closes the decoder.

        Raises:
            BundleError: the fallback has other labels than the model.
        """
        if fallback is not None:
            _require_same_labels(model.manifest, fallback.manifest)
        self.model = model
        self.fallback = fallback
        self.settings = settings
        self.metrics = metrics
        self.clock = clock
        self.draining = False
        self.admission = Admission(
            settings.queue_windows,
            backlog=settings.decode_backlog,
            longest_s=settings.queue_s,
            takes_s=self._takes_s,
            client_share=settings.client_share,
            clock=clock,
        )
        # One queue for both models: they share the CPUs, and clips their turns.
        runtime = model.classifier.runner.runtime
        self._batcher: Batcher[Seat, Logits] = Batcher(
            run_each,
            streams=runtime.streams,
            # More would be cut into these, and answered when the last is done.
            max_batch=min([settings.max_batch, *runtime.batches[:1]]),
            # With one stream a batch that is made up ahead would be smaller, and make less.
            ahead=AHEAD if runtime.streams > 1 else 0,
            run_wide=partial(run_each, wide=True) if runtime.wide else None,
            observer=metrics,
            clock=clock,
        )
        self._switch = Switch(settings.fallback_queue_s)
        self._decoder = decoder
        self._hearers = ThreadPoolExecutor(
            settings.decoder_processes, thread_name_prefix="hear", initializer=give_way
        )
        self._listening: dict[int, float] = {}
        self._inside = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._closed = False
        metrics.ready.set_function(lambda: float(self.ready))
        metrics.in_flight_windows.set_function(lambda: float(self.admission.in_flight))
        metrics.demand.set_function(lambda: self.demand)
        metrics.fallback_on.set_function(lambda: float(self._switch.on))

    @property
    def ready(self) -> bool:
        """Whether new clips should be sent here. Overload doesn't change it."""
        return not (self.draining or self._closed)

    @property
    def alive(self) -> bool:
        """False only when a call has been under way for so long that it must be stuck.

        One of the engine, with a batch or to look for speech. A stuck decoder is replaced instead;
        only when none can be started any more is the server not alive.
        """
        now = self.clock()
        listening_s = max((now - since for since in tuple(self._listening.values())), default=0.0)
        stuck = max(listening_s, self._batcher.longest_run_s) >= self.settings.stuck_s
        return self._decoder.alive and not stuck

    @property
    def demand(self) -> float:
        """Windows asked for in a second, by those the engine makes in one; 0 until it has made any.

        Refused windows count, so it goes on rising where the work in flight has met its limit.
        """
        makes_per_s = self._batcher.items_per_s
        return self.admission.asked_per_s / makes_per_s if makes_per_s else 0.0

    def _takes_s(self, windows: int) -> float | None:
        """Seconds that windows take the engine: as warmed up, until it has made any for clients."""
        warm_s = self.model.window_s
        known = self._batcher.takes_s(windows)
        return windows * warm_s if known is None and warm_s is not None else known

    @property
    def busy(self) -> bool:
        """Whether a clip that came now would wait for as long as `BUSY_S`."""
        return (self.admission.queue_s or 0.0) >= BUSY_S

    def check(self, client: Hashable = None) -> None:
        """Refuse before a body is read: closed, or no room for one more clip or window.

        Raises:
            NotReady, Overloaded: with the seconds to wait.
        """
        self._require_open()
        with self._counted():
            self.admission.check(client)

    def refuse(self, reason: str) -> NoReturn:
        """Refuse a clip of unknown size for a reason of the caller's; raises Overloaded."""
        with self._counted():
            self.admission.refuse(reason)

    async def classify(
        self,
        data: bytes,
        *,
        deadline: float,
        client: Hashable = None,
        traffic: Traffic = Traffic.LIVE,
    ) -> Served:
        """Classify a clip by `deadline` (seconds of `clock`); cancelling drops what is queued.

        `client` is whatever tells whose clip it is, for no one to have more than their share. A
        shadow is scored by the model itself, never by the fallback: it is the model that is judged.

        Raises:
            TimbreError: what `Classifier.hear` raises, Overloaded, DeadlineExceeded, NotReady or
                EngineFailed.
        """
        self._require_open()
        started = self.clock()
        self._inside += 1
        self._empty.clear()
        try:
            self._watch_queue()
            model = self.model
            if self.fallback and self._switch.on and traffic is not Traffic.SHADOW:
                model, traffic = self.fallback, Traffic.FALLBACK
            heard = await self._hear(data, model.classifier, deadline, client)
            decode_s = self.clock() - started
            self.metrics.decode_seconds.observe(decode_s)
            batched = await self._run(heard, model.classifier.runner, deadline, client)
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()
            self._watch_queue()  # the last clip of a rush sees its end
        result = model.classifier.conclude(heard, batched.answers)
        self._measure(traffic, heard, result)
        return Served(
            model,
            traffic,
            heard,
            result,
            decode_s,
            batched.queue_s,
            batched.engine_s,
            batched.largest_batch,
            batched.dispatch,
        )

    async def close(self) -> None:
        """Refuse new clips, and return when those inside are answered.

        All are by their deadlines; what still runs then is stuck, and not waited for.
        """
        self._closed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(self.settings.deadline_s):
                await self._empty.wait()
                await self._batcher.close()
        self._hearers.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._decoder.close)

    def _require_open(self) -> None:
        if self._closed:
            raise NotReady("The server is shutting down.", NOT_READY_RETRY_S)

    def _watch_queue(self) -> None:
        """Turn to the fallback, if there is one, or back."""
        if self.fallback is not None:
            self._switch.turn(self.admission.queue_s or 0.0)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Bring what admission refuses meanwhile into the metrics; nothing is awaited in it."""
        refused = self.admission.refused_windows
        try:
            yield
        except Overloaded:
            self.metrics.refused_windows.inc(self.admission.refused_windows - refused)
            raise

    async def _hear(
        self, data: bytes, classifier: Classifier, deadline: float, client: Hashable
    ) -> Heard:
        with self._counted():
            permit = self.admission.expect(client)
        # A call that is cancelled before it has begun stays in its executor's queue, with all that
        # it was given: the clip isn't counted any more then, so its bytes must not stay either.
        waiting = [data]
        with permit:
            try:
                async with asyncio.timeout(max(0.0, deadline - self.clock())):
                    return await asyncio.get_running_loop().run_in_executor(
                        self._hearers, self._hear_now, waiting, classifier
                    )
            except TimeoutError:
                raise DeadlineExceeded("The clip was not decoded by the deadline.") from None
            finally:
                waiting.clear()

    def _hear_now(self, waiting: list[bytes], classifier: Classifier) -> Heard:
        """Hear a clip in a thread, and let `alive` see since when the engine listens.

        What has begun to decode is decoded, even if its client or its deadline has gone: that is
        bounded, mostly to milliseconds, and to end a process for it would cost more.

        Raises:
            CancelledError: the clip that was waiting has been taken away.
        """
        try:
            data = waiting.pop()
        except IndexError:
            raise CancelledError from None
        clip = self._decoder.decode(data)
        thread = threading.get_ident()
        self._listening[thread] = self.clock()
        try:
            return classifier.listen(clip)
        finally:
            del self._listening[thread]

    async def _run(
        self, heard: Heard, runner: Runner, deadline: float, client: Hashable
    ) -> Batched[Logits]:
        windows = len(heard.batch)
        with self._counted():
            permit = self.admission.admit(windows, client)
        self.metrics.admitted_windows.inc(windows)
        with permit:
            seats = [(runner, window) for window in heard.batch]
            return await self._batcher.submit(seats, deadline=deadline)

    def _measure(self, traffic: Traffic, heard: Heard, result: Result) -> None:
        if traffic is Traffic.FALLBACK:
            self.metrics.fallback_clips.inc()
        self.metrics.clip_seconds.observe(heard.clip.duration_s)
        self.metrics.decisions.labels(result.decision, result.label or "", traffic).inc()
        if result.score is not None:
            self.metrics.confidence.labels(traffic).observe(result.score)


def _require_same_labels(model: Manifest, fallback: Manifest) -> None:
    if set(model.labels) != set(fallback.labels):
        raise BundleError(
            f"The fallback {fallback.name} {fallback.version} knows {', '.join(fallback.labels)}, "
            f"and {model.name} {model.version} {', '.join(model.labels)}; they must be the same."
        )
