"""Shadowing: some clips that were answered go to candidates too, and both answers become counts.

A candidate hears what the client sent, the original bytes, because it may cut other windows. Nobody
waits for it: a clip leaves when its client has its answer, and where anything is busy, full or gone
it is left out. Clips are held in memory until the candidate has answered, and kept nowhere.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Literal, TypeAlias, cast

import httpx
from pydantic import ValidationError

from service.contract import REQUEST_ID, ShadowAnswer
from service.domain import Result
from service.lookup import addresses
from service.metrics import Metrics

logger = logging.getLogger("timbre")

ROUTE = "/shadow"
"""On the internal port of a candidate."""
MAX_CLIPS = 8
"""On their way to one candidate at a time, or waiting for their own answer to be sent."""
MAX_BYTES = 16 * 1024 * 1024
"""Of those clips together."""
CONNECT_S = 1.0
"""Seconds to find a candidate's address, and to connect to it."""
TIMEOUT_S = 30.0
"""Seconds that a candidate has for a clip; as long as a client would wait by default."""
RETRY_S = 10.0
"""Seconds for which a candidate that did not answer is left alone. Then one clip tries it."""
MAX_ANSWER_BYTES = 64 * 1024
MAX_DIGESTS = 32
"""Bundles of one candidate that are counted apart; of one more, answers count as failed. What
somebody else says becomes label values, which must not fill the memory."""
DIGEST_DIGITS = 12
"""Of a bundle's digest, in labels: enough to tell bundles apart."""
OTHER_LABEL = "other"
"""Stands for all labels of a candidate that stable doesn't know."""
NO_SPEECH = ""

Outcome: TypeAlias = Literal["paired", "busy", "full", "refused", "failed", "unreachable"]
"""What became of a clip: counted as a pair, left out (stable is busy, or too many clips are under
way), refused by the candidate, not answered as it should be, or the candidate is not there."""

Resolve: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
_REFUSALS = {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE}


@dataclass(frozen=True, slots=True)
class _Clip:
    """A clip and what stable made of it."""

    data: bytes
    result: Result
    request_id: str


class Sender:
    """Sends a sample of live clips to the candidates. Belongs to one event loop."""

    def __init__(
        self,
        urls: Mapping[str, str],
        labels: Collection[str],
        metrics: Metrics,
        *,
        sample: float,
        busy: Callable[[], bool],
        transport: httpx.AsyncBaseTransport | None = None,
        resolve: Resolve = addresses,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """Take candidates by name, each with the URL of its internal port.

        Args:
            urls: of the candidates.
            labels: that stable knows.
            metrics: where pairs are counted.
            sample: the share of clips to send, above 0 to 1.
            busy: tells that this server has enough to do without.
            transport: in place of the network, for tests.
            resolve: finds the addresses of a candidate's host.
            clock: gives seconds.
            draw: gives chance, in [0, 1).
        """
        self._sample = sample
        self._busy = busy
        self._draw = draw
        self._client = httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_S),
            headers={"accept-encoding": "identity", "content-type": "application/octet-stream"},
            trust_env=False,  # a proxy would be given the audio
        )
        self._targets = [
            _Target(name, httpx.URL(url).join(ROUTE), self._client, labels, metrics, resolve, clock)
            for name, url in urls.items()
        ]
        self._sending: set[asyncio.Task[None]] = set()
        self._closed = False

    def take(self, data: bytes, result: Result, request_id: str) -> Callable[[bool], None] | None:
        """Reserve room for a clip that is about to be answered, if it is one of the sample.

        Returns:
            What is to be called when its exchange has ended, with whether it was answered: only
            then is it sent. None where it isn't wanted, and its bytes needn't be kept.
        """
        targets = [target for target in self._targets if target.open]
        # One draw for all: candidates that are compared should hear the same clips.
        if not targets or self._closed or self._draw() >= self._sample:
            return None
        if self._busy():
            for target in targets:
                target.count("busy")
            return None
        takers = [target for target in targets if target.reserve(len(data))]
        return partial(self._ended, takers, _Clip(data, result, request_id)) if takers else None

    async def settled(self) -> None:
        """Return when no clip is under way."""
        while self._sending:
            await asyncio.wait(self._sending)

    async def close(self) -> None:
        """Take no more, and drop what is under way: a candidate that hangs is not waited for."""
        self._closed = True
        for task in self._sending:
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        await self._client.aclose()

    def _ended(self, targets: list[_Target], clip: _Clip, answered: bool) -> None:  # noqa: FBT001
        for target in targets:
            if not answered or self._closed:
                target.release(clip)
                continue
            task = asyncio.ensure_future(target.send(clip))
            self._sending.add(task)
            task.add_done_callback(partial(self._sent, target, clip))

    def _sent(self, target: _Target, clip: _Clip, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        target.release(clip)


class _Target:
    """One candidate: the room there is for its clips, and whether it answers."""

    def __init__(  # noqa: PLR0917 - the sender's parts
        self,
        name: str,
        url: httpx.URL,
        client: httpx.AsyncClient,
        labels: Collection[str],
        metrics: Metrics,
        resolve: Resolve,
        clock: Callable[[], float],
    ) -> None:
        self._name = name
        self._url = url
        self._client = client
        self._labels = frozenset(labels)
        self._metrics = metrics
        self._resolve = resolve
        self._clock = clock
        self._at = url
        self._tries = 0
        self._digests: set[str] = set()
        self._clips = 0
        self._bytes = 0
        self._there = False
        self._retry_at = clock()

    @property
    def open(self) -> bool:
        """Whether a clip may be sent: it answers, or it is time to try whether it does."""
        return self._there or self._clock() >= self._retry_at

    def reserve(self, size: int) -> bool:
        """Make room for a clip of `size` bytes, or count it as left out."""
        if self._clips >= MAX_CLIPS or self._bytes + size > MAX_BYTES:
            self.count("full")
            return False
        if not self._there:
            self._retry_at = self._clock() + RETRY_S
        self._clips += 1
        self._bytes += size
        return True

    def release(self, clip: _Clip) -> None:
        """Give a clip's room back."""
        self._clips -= 1
        self._bytes -= len(clip.data)

    def count(self, outcome: Outcome) -> None:
        """Count a clip."""
        self._metrics.shadow_clips.labels(self._name, outcome).inc()

    async def send(self, clip: _Clip) -> None:
        """Have a clip scored, and count the pair, or what came instead."""
        self.count(await self._outcome(clip))

    async def _outcome(self, clip: _Clip) -> Outcome:
        try:
            # httpx's own time-outs begin again with every byte.
            async with asyncio.timeout(TIMEOUT_S):
                if not self._there:
                    await self._locate()
                status, body = await self._ask(clip)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            self._leave_alone(error)
            return "unreachable"
        except (httpx.HTTPError, TimeoutError) as error:
            self._leave_alone(error)
            return "failed"
        self._there = True
        if status in _REFUSALS:
            return "refused"
        if status != HTTPStatus.OK:
            return "failed"
        try:
            answer = ShadowAnswer.model_validate_json(body)
        except ValidationError:
            return "failed"
        return self._pair(clip.result, answer)

    async def _locate(self) -> None:
        """Look up where the candidate is; of several addresses each try takes the next."""
        try:
            async with asyncio.timeout(CONNECT_S):
                found = await self._resolve(self._url.host)
        except OSError as error:  # a time-out is one
            raise httpx.ConnectError(str(error)) from error
        self._at = self._url.copy_with(host=found[self._tries % len(found)])
        self._tries += 1

    async def _ask(self, clip: _Clip) -> tuple[int, bytes]:
        """Post a clip; gives the status and the answer, empty where it is too long for one."""
        headers = {"host": self._url.netloc.decode("ascii"), REQUEST_ID: clip.request_id}
        posted = self._client.stream("POST", self._at, content=clip.data, headers=headers)
        body = bytearray()
        async with posted as answer:
            # Raw, so that nothing is unpacked; it is a generator, which its type doesn't say.
            chunks = cast("AsyncGenerator[bytes, None]", answer.aiter_raw())
            async with aclosing(chunks):
                async for chunk in chunks:
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        return answer.status_code, b""
        return answer.status_code, bytes(body)

    def _leave_alone(self, error: Exception) -> None:
        self._there = False
        self._retry_at = self._clock() + RETRY_S
        # Most of the time there is no candidate, and that is nothing to tell of.
        logger.debug("%s does not answer: %s", self._name, error)

    def _pair(self, stable: Result, candidate: ShadowAnswer) -> Outcome:
        digest = candidate.model.digest.removeprefix("sha256:")[:DIGEST_DIGITS]
        if digest not in self._digests and len(self._digests) >= MAX_DIGESTS:
            return "failed"
        self._digests.add(digest)
        label = candidate.label
        if label is not None and label not in self._labels:
            label = OTHER_LABEL
        who = (self._name, digest)
        metrics = self._metrics
        metrics.shadow_pairs.labels(*who, stable.label or NO_SPEECH, label or NO_SPEECH).inc()
        metrics.shadow_decisions.labels(*who, stable.decision, candidate.decision).inc()
        if stable.score is not None and candidate.score is not None:
            difference = candidate.score - stable.score
            metrics.shadow_confidence_difference.labels(*who).observe(difference)
        return "paired"
