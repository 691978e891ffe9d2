"""The HTTP app in this process, with an engine and a decoder that a test holds and lets go."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
from prometheus_client import generate_latest
from starlette.types import ASGIApp

from service.access import Tokens
from service.audio import decode
from service.batching import Batched, DropReason
from service.classifier import Classifier, Heard
from service.domain import Clip, Logits, Samples
from service.http import Desk, create_app, create_internal_app
from service.metrics import Metrics
from service.precision import Choice
from service.runner import Runner, Wav2Vec2Runner
from service.serving import Decoder, Model, Serving
from service.settings import Settings

PATIENCE_S = 30
"""Real seconds after which a test that hangs fails."""


class Gate:
    """Passed freely until it is shut; `passing` tells of everyone who comes to it."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self._arrived = threading.Semaphore(0)

    def shut(self) -> None:
        """Hold who comes from now on, and forget who came."""
        self._open.clear()
        while self._arrived.acquire(blocking=False):
            pass

    def open(self) -> None:
        """Let everyone go on."""
        self._open.set()

    def pass_through(self) -> None:
        """Come to the gate, in a worker thread."""
        self._arrived.release()
        assert self._open.wait(PATIENCE_S), "the test never opened the gate"

    async def reached(self) -> None:
        """Wait for one more to have come."""
        assert await asyncio.to_thread(self._arrived.acquire, timeout=PATIENCE_S)


class HeldRunner(Wav2Vec2Runner):
    """The runner behind a gate. It fails on `poison`, and notes the size of each batch."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner.bundle, runner.runtime, runner.precision)
        self.gate = Gate()
        self.poison: Samples | None = None
        self.batches: list[int] = []

    def __call__(self, windows: Sequence[Samples]) -> Sequence[Logits]:
        """Score windows once the gate is open."""
        self.batches.append(len(windows))
        self.gate.pass_through()
        if self.poison is not None and any(np.array_equal(w, self.poison) for w in windows):
            raise RuntimeError("a window this engine can't take")
        return super().__call__(windows)


class HeldClassifier(Classifier):
    """The classifier whose hearing waits at a gate too: between decoding and listening."""

    def __init__(self, classifier: Classifier) -> None:
        self.held = HeldRunner(classifier.runner)
        super().__init__(self.held, classifier._voice)
        self.decoding = Gate()

    def listen(self, clip: Clip) -> Heard:
        """Listen once the gate is open."""
        self.decoding.pass_through()
        return super().listen(clip)


class HereDecoder:
    """Decodes in the calling thread: no process has to be started for a test of something else."""

    alive = True

    def __init__(self) -> None:
        self.decode = decode
        self.closed = False

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True


class WatchedMetrics(Metrics):
    """Metrics that tell when windows have been dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.drop = asyncio.Event()

    def dropped(self, items: int, reason: DropReason) -> None:
        """Count, and tell."""
        super().dropped(items, reason)
        self.drop.set()


class WatchedServing(Serving):
    """Serving that tells when clips are in the batcher, and keeps their logits by id(heard)."""

    def __init__(
        self,
        model: Model,
        settings: Settings,
        metrics: Metrics,
        decoder: Decoder,
        fallback: Model | None,
    ) -> None:
        self.skipped_s = 0.0
        super().__init__(model, settings, metrics, decoder, fallback=fallback, clock=self._now)
        self._submitted = asyncio.Semaphore(0)
        self.answers: dict[int, Sequence[Logits]] = {}

    def _now(self) -> float:
        return time.monotonic() + self.skipped_s

    async def _run(
        self, heard: Heard, runner: Runner, deadline: float, client: Hashable
    ) -> Batched[Logits]:
        # Whoever waits for this is scheduled only when what follows has gone as far as it can.
        self._submitted.release()
        batched = await super()._run(heard, runner, deadline, client)
        self.answers[id(heard)] = batched.answers
        return batched

    async def submitted(self, clips: int = 1) -> None:
        """Wait until that many more clips have been decoded and submitted."""
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(clips):
                await self._submitted.acquire()


class Stand:
    """The app with all its parts in reach."""

    def __init__(
        self,
        classifier: Classifier,
        decoder: Decoder | None = None,
        fallback: Classifier | None = None,
        /,
        **settings: Any,  # noqa: ANN401
    ) -> None:
        self.decoder = decoder or HereDecoder()
        self.classifier = HeldClassifier(classifier)
        self.runner = self.classifier.held
        self.metrics = WatchedMetrics()
        chosen = Settings(**settings)
        self.serving = WatchedServing(
            Model(self.classifier, Choice(self.runner.precision)),
            chosen,
            self.metrics,
            self.decoder,
            None if fallback is None else Model(fallback, Choice(fallback.runner.precision)),
        )
        tokens = None
        if chosen.token_file is not None:
            tokens = Tokens(chosen.token_file, clock=self.serving.clock)
            tokens.load()
        self.desk = Desk(tokens)
        self.desk.serving = self.serving
        self.desk.render_metrics = lambda: generate_latest(self.metrics.registry)
        self.app = create_app(self.desk, cors_origins=chosen.cors_origins)
        self.client = _client(self.app)
        self.internal = _client(create_internal_app(self.desk))

    def sample(self, name: str, **labels: str) -> float:
        """Read a metric; 0 when it has not been counted yet."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def let_go(self) -> None:
        """Open all gates."""
        self.runner.gate.open()
        self.classifier.decoding.open()


def _client(app: ASGIApp) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://timbre", timeout=PATIENCE_S
    )


@asynccontextmanager
async def standing(
    classifier: Classifier,
    decoder: Decoder | None = None,
    fallback: Classifier | None = None,
    /,
    **settings: Any,  # noqa: ANN401
) -> AsyncIterator[Stand]:
    """Build a stand and take it down again, with nothing left inside."""
    stand = Stand(classifier, decoder, fallback, **settings)
    try:
        async with stand.client, stand.internal:
            yield stand
    finally:
        stand.let_go()
        async with asyncio.timeout(PATIENCE_S):
            await stand.serving.close()
    assert stand.desk.buffers.held == 0, "bytes that nobody gave back"
    assert stand.serving.admission.in_flight == 0, "permits that nobody gave back"
