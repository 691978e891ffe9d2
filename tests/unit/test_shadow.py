"""The sender of shadows by itself: a candidate of the test's own, its clock and its chance."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from service.domain import Decision, Result
from service.metrics import Metrics
from service.shadow import (
    MAX_ANSWER_BYTES,
    MAX_BYTES,
    MAX_CLIPS,
    MAX_DIGESTS,
    RETRY_S,
    Sender,
)

pytestmark = pytest.mark.asyncio

PATIENCE_S = 10.0
CLIP = b"a clip"
HEXADECIMAL = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEXADECIMAL}"
URLS = {"canary": "http://canary:3001"}
BOTH = {**URLS, "baseline": "http://baseline:3001/"}
ANGRY = Result("angry", 0.75, Decision.ACCEPT)
SILENT = Result(None, None, Decision.NO_SPEECH)

Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]


def said(**changes: object) -> dict[str, Any]:
    """Give a candidate's answer."""
    model = {"name": "tiny", "version": "2", "track": "canary", "digest": DIGEST}
    answer = {"model": model, "label": "calm", "score": 0.5, "decision": "review"}
    return {**answer, **changes}


class Candidate:
    """What stands where candidates are: it answers, or does as a test says."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answer: Handler = self.score
        self.asked = asyncio.Semaphore(0)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.asked.release()
        answer = await self.answer(request)
        # To be read as what comes from a network is; httpx has read it already.
        return httpx.Response(answer.status_code, headers=answer.headers, stream=answer.stream)

    async def score(self, _: httpx.Request) -> httpx.Response:
        """Answer as it should."""
        return httpx.Response(200, json=said())

    async def hang(self, _: httpx.Request) -> httpx.Response:
        """Never answer."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    async def refuse_to_connect(self, request: httpx.Request) -> httpx.Response:
        """Be a name that does not resolve, or a port that nobody listens on."""
        raise httpx.ConnectError("Name or service not known", request=request)

    def hosts(self) -> list[str]:
        """Name who was asked."""
        return [request.headers["host"].partition(":")[0] for request in self.requests]


class Stage:
    """A sender with all its parts in reach."""

    def __init__(self, urls: dict[str, str], sample: float) -> None:
        self.now = 50.0
        self.chance = 0.0
        self.busy = False
        self.names = {"canary": ["10.0.0.1", "fd00::1"], "baseline": ["10.0.0.2"]}
        self.metrics = Metrics()
        self.candidate = Candidate()
        self.sender = Sender(
            urls,
            ("angry", "calm"),
            self.metrics,
            sample=sample,
            busy=lambda: self.busy,
            transport=httpx.MockTransport(self.candidate),
            resolve=self.resolve,
            clock=lambda: self.now,
            draw=lambda: self.chance,
        )

    async def resolve(self, host: str) -> list[str]:
        """Be a name server."""
        return self.names[host]

    def offer(self, data: bytes = CLIP, result: Result = ANGRY, *, answered: bool = True) -> bool:
        """Have a clip answered, or not; tells whether it was taken."""
        ended = self.sender.take(data, result, "some-id")
        if ended is not None:
            ended(answered)
        return ended is not None

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        async with asyncio.timeout(PATIENCE_S):
            await self.sender.settled()

    async def there(self) -> None:
        """Have the candidate known to answer, which takes a clip."""
        assert self.offer()
        await self.settled()
        self.candidate.requests.clear()

    def clips(self, outcome: str, candidate: str = "canary") -> float:
        """Read what became of clips."""
        labels = {"candidate": candidate, "outcome": outcome}
        name = "timbre_shadow_clips_total"
        return self.metrics.registry.get_sample_value(name, labels) or 0.0

    def sample(self, name: str, **labels: str) -> float:
        """Read a metric of the pairs."""
        who = {"candidate": "canary", "digest": HEXADECIMAL[:12]}
        value = self.metrics.registry.get_sample_value(f"timbre_shadow_{name}", {**who, **labels})
        return value or 0.0


@asynccontextmanager
async def staged(urls: dict[str, str] = URLS, sample: float = 1.0) -> AsyncIterator[Stage]:
    """Set up a sender, and take it down."""
    stage = Stage(urls, sample)
    try:
        yield stage
    finally:
        async with asyncio.timeout(PATIENCE_S):
            await stage.sender.close()
    assert not [target for target in stage.sender._targets if target._clips or target._bytes]


class TestPairs:
    """Both answers to a clip become counts, and nothing else is left of it."""

    async def test_a_candidate_is_sent_the_original_bytes(self) -> None:
        """With the request's id, to be found in both logs; and no header that asks for packing."""
        async with staged() as stage:
            assert stage.offer()
            await stage.settled()
        (request,) = stage.candidate.requests
        assert (request.method, str(request.url)) == ("POST", "http://10.0.0.1:3001/shadow")
        assert request.headers["host"] == "canary:3001"
        assert request.content == CLIP
        assert request.headers["x-request-id"] == "some-id"
        assert request.headers["accept-encoding"] == "identity"

    async def test_labels_decisions_and_confidence_are_compared(self) -> None:
        """By the first digits of the candidate's digest."""
        async with staged() as stage:
            stage.offer()
            await stage.settled()
        assert stage.clips("paired") == 1
        assert stage.sample("pairs_total", stable_label="angry", candidate_label="calm") == 1
        decisions = {"stable_decision": "accept", "candidate_decision": "review"}
        assert stage.sample("decisions_total", **decisions) == 1
        assert stage.sample("confidence_difference_count") == 1
        for bound, below in (("-0.325", 0), ("-0.275", 0), ("-0.225", 1), ("0.975", 1)):
            assert stage.sample("confidence_difference_bucket", le=bound) == below

    @pytest.mark.parametrize(
        ("stable", "candidate", "labels"),
        [
            (SILENT, said(), ("", "calm")),
            (ANGRY, said(label=None, score=None, decision="no_speech"), ("angry", "")),
        ],
    )
    async def test_without_speech_a_label_is_empty_and_no_confidence_compared(
        self, stable: Result, candidate: dict[str, Any], labels: tuple[str, str]
    ) -> None:
        """On either side."""
        async with staged() as stage:

            async def answer(_: httpx.Request) -> httpx.Response:
                return httpx.Response(200, json=candidate)

            stage.candidate.answer = answer
            stage.offer(result=stable)
            await stage.settled()
        pair = dict(zip(("stable_label", "candidate_label"), labels, strict=True))
        assert stage.sample("pairs_total", **pair) == 1
        assert stage.sample("confidence_difference_count") == 0

    async def test_a_label_that_stable_does_not_know_is_other(self) -> None:
        """What somebody else says doesn't become a series."""
        async with staged() as stage:

            async def answer(_: httpx.Request) -> httpx.Response:
                return httpx.Response(200, json=said(label="bored"))

            stage.candidate.answer = answer
            stage.offer()
            await stage.settled()
        assert stage.sample("pairs_total", stable_label="angry", candidate_label="other") == 1

    async def test_bundles_are_counted_apart_up_to_a_limit(self) -> None:
        """One more fails, and those known are counted on."""
        digests = [f"{number:064x}"[::-1] for number in range(MAX_DIGESTS + 1)]
        async with staged() as stage:

            async def answer(_: httpx.Request) -> httpx.Response:
                model = {**said()["model"], "digest": f"sha256:{next(coming)}"}
                return httpx.Response(200, json=said(model=model))

            stage.candidate.answer = answer
            coming = iter((*digests, digests[0]))
            for _ in range(MAX_DIGESTS + 2):
                stage.offer()
                await stage.settled()
        assert (stage.clips("paired"), stage.clips("failed")) == (MAX_DIGESTS + 1, 1)
        pair = {"stable_label": "angry", "candidate_label": "calm"}
        for digest, count in ((digests[0], 2), (digests[1], 1), (digests[-1], 0)):
            assert stage.sample("pairs_total", digest=digest[:12], **pair) == count


class TestSample:
    """A share of the clips, the same ones for all candidates, and only once they are answered."""

    @pytest.mark.parametrize(("chance", "taken"), [(0.0, True), (0.2499, True), (0.25, False)])
    async def test_chance_decides_for_all_candidates(self, chance: float, *, taken: bool) -> None:
        """Candidates that are compared with each other should hear the same."""
        async with staged(BOTH, sample=0.25) as stage:
            stage.chance = chance
            assert stage.offer() == taken
            await stage.settled()
        assert stage.candidate.hosts() == (["canary", "baseline"] if taken else [])

    async def test_a_sample_of_1_is_every_clip(self) -> None:
        async with staged(sample=1.0) as stage:
            stage.chance = 1 - 2**-53  # the most that random() gives
            assert stage.offer()

    async def test_a_clip_whose_client_got_no_answer_is_not_sent(self) -> None:
        """Its room is free again."""
        async with staged() as stage:
            await stage.there()
            for _ in range(MAX_CLIPS + 1):
                assert stage.offer(answered=False)
            assert not stage.sender._sending
        assert stage.candidate.requests == []

    async def test_a_busy_server_sends_nothing(self) -> None:
        """The first thing to be left out."""
        async with staged(BOTH) as stage:
            stage.busy = True
            assert not stage.offer()
            assert stage.clips("busy") == stage.clips("busy", "baseline") == 1
            stage.busy = False
            assert stage.offer()
            await stage.settled()
            assert stage.clips("paired") == 1


class TestRoom:
    """Clips that a candidate hasn't answered are few, and small together."""

    async def test_clips_are_bounded(self) -> None:
        """As many as there may be, and not one more until one is done."""
        async with staged() as stage:
            await stage.there()
            go_on = asyncio.Event()

            async def wait(request: httpx.Request) -> httpx.Response:
                await go_on.wait()
                return await stage.candidate.score(request)

            stage.candidate.answer = wait
            assert [stage.offer() for _ in range(MAX_CLIPS)] == [True] * MAX_CLIPS
            assert not stage.offer()
            assert stage.clips("full") == 1
            go_on.set()
            await stage.settled()
            assert stage.offer()

    async def test_bytes_are_bounded(self) -> None:
        """The last byte that fits does, and one more does not."""
        for more, fits in ((0, True), (1, False)):
            async with staged() as stage:
                await stage.there()
                stage.candidate.answer = stage.candidate.hang
                half = bytes(MAX_BYTES // 2)
                assert stage.offer(half)
                assert stage.offer(half + bytes(more)) == fits
                assert stage.clips("full") == (not fits)

    async def test_one_candidate_takes_no_room_from_another(self) -> None:
        """A canary that hangs leaves the baseline what it has."""
        async with staged(BOTH) as stage:
            await stage.there()

            async def answer(request: httpx.Request) -> httpx.Response:
                there = request.headers["host"] == "baseline:3001"
                return await (stage.candidate.score if there else stage.candidate.hang)(request)

            stage.candidate.answer = answer
            for _ in range(MAX_CLIPS + 1):
                assert stage.offer()
                # The baseline's, for the canary hangs.
                under_way = set(stage.sender._sending)
                await asyncio.wait(
                    under_way, timeout=PATIENCE_S, return_when=asyncio.FIRST_COMPLETED
                )
            assert stage.clips("full") == 1
            assert stage.clips("full", "baseline") == 0
            assert stage.clips("paired", "baseline") == 1 + MAX_CLIPS + 1


class TestFailing:
    """A candidate that doesn't do its part costs next to nothing."""

    async def test_one_that_is_not_there_is_tried_by_one_clip_at_times(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Meanwhile clips aren't even drawn, nothing is said, and it is found when it comes."""
        caplog.set_level(logging.INFO)
        async with staged() as stage:
            stage.candidate.answer = stage.candidate.refuse_to_connect
            assert stage.offer()
            assert not stage.offer()  # while the first one tries
            await stage.settled()
            stage.sender._draw = lambda: pytest.fail("a clip was drawn")
            stage.now += RETRY_S - 0.5
            assert not stage.offer()
            stage.sender._draw = lambda: 0.0
            stage.now += 0.5
            assert stage.offer()
            await stage.settled()
            assert stage.clips("unreachable") == 2
            stage.now += RETRY_S
            stage.candidate.answer = stage.candidate.score
            await stage.there()
            assert stage.offer()
            assert stage.offer()
            await stage.settled()
            assert stage.clips("paired") == 3
        assert not [record for record in caplog.records if record.name == "timbre"]

    async def test_a_candidate_that_is_gone_leaves_the_other_alone(self) -> None:
        async with staged(BOTH) as stage:

            async def answer(request: httpx.Request) -> httpx.Response:
                there = request.headers["host"] == "baseline:3001"
                act = stage.candidate.score if there else stage.candidate.refuse_to_connect
                return await act(request)

            stage.candidate.answer = answer
            await stage.there()
            assert stage.offer()
            await stage.settled()
            assert stage.candidate.hosts() == ["baseline"]
            assert stage.clips("unreachable") == 1
            assert stage.clips("paired", "baseline") == 2

    async def test_addresses_are_looked_up_for_a_try_and_taken_in_turns(self) -> None:
        """A candidate that answers is not looked up again; one that is gone may have moved."""
        async with staged() as stage:
            await stage.there()
            stage.names["canary"] = ["10.0.0.9", "fd00::1"]
            for answer in (stage.candidate.score, stage.candidate.refuse_to_connect):
                stage.candidate.answer = answer
                assert stage.offer()
                await stage.settled()
            stage.now += RETRY_S
            assert stage.offer()
            await stage.settled()
        where = [request.url.host for request in stage.candidate.requests]
        assert where == ["10.0.0.1", "10.0.0.1", "fd00::1"]

    @pytest.mark.parametrize("hangs", [True, False])
    async def test_a_name_that_nobody_knows_is_unreachable(
        self, monkeypatch: pytest.MonkeyPatch, *, hangs: bool
    ) -> None:
        """Whether the name server says so or doesn't answer."""
        monkeypatch.setattr("service.shadow.CONNECT_S", 0.01)

        async def resolve(_: str) -> list[str]:
            if hangs:
                await asyncio.get_running_loop().create_future()
            raise OSError("Name or service not known")

        async with staged() as stage:
            stage.sender._targets[0]._resolve = resolve
            assert stage.offer()
            await stage.settled()
            assert stage.clips("unreachable") == 1
            assert not stage.offer()

    async def test_one_that_hangs_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """After its time, and then left alone for a while."""
        monkeypatch.setattr("service.shadow.TIMEOUT_S", 0.01)
        async with staged() as stage:
            await stage.there()
            stage.candidate.answer = stage.candidate.hang
            stage.offer()
            await stage.settled()
            assert stage.clips("failed") == 1
            assert not stage.offer()
            stage.now += RETRY_S
            await stage.there()

    async def test_one_that_drips_is_given_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its time counts from the first byte sent, not from the last one heard."""
        monkeypatch.setattr("service.shadow.TIMEOUT_S", 0.05)

        async def drip() -> AsyncIterator[bytes]:
            while True:
                yield b" "
                await asyncio.sleep(0.01)

        async def answer(_: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=drip())

        async with staged() as stage:
            stage.candidate.answer = answer
            stage.offer()
            await stage.settled()
            assert stage.clips("failed") == 1

    @pytest.mark.parametrize(
        "error", [httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError, httpx.ReadTimeout]
    )
    async def test_one_that_hangs_up_fails(self, error: type[httpx.TransportError]) -> None:
        async def answer(request: httpx.Request) -> httpx.Response:
            raise error("gone", request=request)

        async with staged() as stage:
            stage.candidate.answer = answer
            stage.offer()
            await stage.settled()
            assert stage.clips("failed") == 1
            assert not stage.offer()

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [(429, "refused"), (503, "refused"), (400, "failed"), (500, "failed"), (302, "failed")],
    )
    async def test_one_that_answers_otherwise_is_asked_again(
        self, status: int, outcome: str
    ) -> None:
        """It is there; a place to go instead is not gone to."""

        async def answer(_: httpx.Request) -> httpx.Response:
            return httpx.Response(status, headers={"location": "http://elsewhere:1/"})

        async with staged() as stage:
            stage.candidate.answer = answer
            for _ in range(2):
                assert stage.offer()
                await stage.settled()
            assert stage.clips(outcome) == 2
            assert stage.candidate.hosts() == ["canary"] * 2

    @pytest.mark.parametrize(
        "body",
        [
            *(b"", b"null", b"[]", b"{}", b"\xff\x00", b"[" * 10_000),
            *(
                json.dumps(said(**changes)).encode()
                for changes in (
                    {"model": {**said()["model"], "digest": HEXADECIMAL}},
                    {"model": {**said()["model"], "track": "purple"}},
                    *({"score": 1.01}, {"score": -0.01}, {"score": float("nan")}, {"label": 3}),
                    {"decision": "perhaps"},
                )
            ),
        ],
    )
    async def test_nonsense_fails(self, body: bytes) -> None:
        """And leaves no series behind."""

        async def answer(_: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=body)

        async with staged() as stage:
            stage.candidate.answer = answer
            stage.offer()
            await stage.settled()
            assert stage.clips("failed") == 1
        assert not stage.metrics.shadow_pairs._metrics

    @pytest.mark.parametrize(("more", "outcome"), [(0, "paired"), (1, "failed")])
    async def test_an_answer_is_read_up_to_a_limit(self, more: int, outcome: str) -> None:
        """One that never ends fills no memory."""
        body = json.dumps(said()).encode()

        async def answer(_: httpx.Request) -> httpx.Response:
            return httpx.Response(200, content=body.ljust(MAX_ANSWER_BYTES + more))

        async with staged() as stage:
            stage.candidate.answer = answer
            stage.offer()
            await stage.settled()
            assert stage.clips(outcome) == 1


class TestClosing:
    """The end of the server doesn't wait for candidates."""

    async def test_what_is_under_way_is_dropped(self) -> None:
        """At once, though the candidate hangs."""
        async with staged() as stage:
            stage.candidate.answer = stage.candidate.hang
            stage.offer()
            await stage.candidate.asked.acquire()
            async with asyncio.timeout(PATIENCE_S):
                await stage.sender.close()
            assert not stage.sender._sending

    async def test_clips_answered_later_stay(self) -> None:
        """Those that it had room for, and those that are new."""
        async with staged() as stage:
            await stage.there()
            ended = stage.sender.take(CLIP, ANGRY, "some-id")
            assert ended is not None
            await stage.sender.close()
            ended(True)  # noqa: FBT003
            assert not stage.offer()
            assert not stage.sender._sending
        assert stage.candidate.requests == []
