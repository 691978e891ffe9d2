"""Shadowing between the real apps: what stable sends, and what a candidate makes of it."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from service.admission import Admission
from service.audio import MAX_BODY_BYTES
from service.bundle import AudioDraft, Bundle, seal
from service.classifier import Classifier, open_classifier
from service.contract import ShadowAnswer
from service.guests import MAX_INSIDE, RETRY_S
from service.serving import BUSY_S
from service.shadow import Sender
from tests.support.asking import (
    CLASSIFY,
    HUB,
    SPEECH,
    WINDOWS,
    Answer,
    Standing,
    in_pieces,
    never_ending,
    post,
    problem,
)
from tests.support.audio import encoded, silence
from tests.support.models import tiny_model_bundle
from tests.support.stand import PATIENCE_S, Stand

pytestmark = pytest.mark.asyncio

ROUTE = "/shadow"
HOP_S = 0.25
"""Of the candidate; stable's windows begin half a second apart."""
CANDIDATE_WINDOWS = 5
"""Of SPEECH: 2 s in windows of 1 s every 0.25 s."""


@pytest.fixture(scope="module")
def new_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A candidate: another model, which hears other windows."""
    bundle = tiny_model_bundle(tmp_path_factory.mktemp("new") / "tiny", version="2.0.0", seed=1)
    facts = {name: getattr(bundle.manifest, name) for name in AudioDraft.model_fields}
    facts["audio"] = bundle.manifest.audio.model_copy(update={"hop_s": HOP_S})
    return seal(bundle.folder, AudioDraft.model_validate(facts))


@pytest.fixture(scope="module")
def candidate(new_bundle: Bundle) -> Classifier:
    """Its classifier."""
    return open_classifier(new_bundle)


@asynccontextmanager
async def shadowing(stable: Stand, url: str, app: Any) -> AsyncIterator[Sender]:  # noqa: ANN401
    """Have a stand send all its clips to the app that is a candidate's."""
    stable.desk.shadow = sender = Sender(
        {"canary": url},
        stable.serving.model.manifest.labels,
        stable.metrics,
        sample=1.0,
        busy=lambda: stable.serving.busy,
        transport=httpx.ASGITransport(app),
    )
    try:
        yield sender
    finally:
        await sender.close()


@asynccontextmanager
async def pair(make: Standing, candidate: Classifier, **settings: Any) -> AsyncIterator[Pair]:  # noqa: ANN401
    """Set up stable, and a candidate that it shadows to."""
    async with make(**settings) as stable, make(track="canary") as other:
        other.serving.model = replace(other.serving.model, classifier=candidate)
        app = other.internal._transport.app  # type: ignore[attr-defined]
        async with shadowing(stable, "http://127.0.0.1:3001", app) as sender:
            yield Pair(stable, other, sender)


class Pair:
    """Stable, a candidate, and what is between them."""

    def __init__(self, stable: Stand, candidate: Stand, sender: Sender) -> None:
        self.stable = stable
        self.candidate = candidate
        self.sender = sender

    async def settled(self) -> None:
        """Wait until no clip is under way."""
        async with asyncio.timeout(PATIENCE_S):
            await self.sender.settled()

    def clips(self, outcome: str) -> float:
        """Read what became of clips."""
        labels = {"candidate": "canary", "outcome": outcome}
        return self.stable.sample("timbre_shadow_clips_total", **labels)


class TestPairs:
    """A candidate scores what the client sent, in its own way."""

    async def test_the_candidate_hears_its_own_windows_of_the_original_bytes(
        self, make: Standing, candidate: Classifier, new_bundle: Bundle
    ) -> None:
        """Other windows, another model: its own label is beside stable's in the counts."""
        expected = candidate.classify(candidate.hear(SPEECH))
        async with pair(make, candidate) as both:
            answer = (await both.stable.client.post(CLASSIFY, content=SPEECH)).json()
            await both.settled()
            who = {"candidate": "canary", "digest": new_bundle.digest.removeprefix("sha256:")[:12]}
            labels = {"stable_label": answer["label"], "candidate_label": str(expected.label)}
            assert both.stable.sample("timbre_shadow_pairs_total", **who, **labels) == 1
            decided = {
                "stable_decision": answer["decision"],
                "candidate_decision": expected.decision.value,
            }
            assert both.stable.sample("timbre_shadow_decisions_total", **who, **decided) == 1
            difference = "timbre_shadow_confidence_difference_count"
            assert both.stable.sample(difference, **who) == 1
            assert both.stable.sample("timbre_admitted_windows_total") == WINDOWS
            admitted = both.candidate.sample("timbre_admitted_windows_total")
            assert admitted == CANDIDATE_WINDOWS != WINDOWS

    async def test_it_is_counted_as_a_shadow(self, make: Standing, candidate: Classifier) -> None:
        """And nothing of it as a client's clip."""
        async with pair(make, candidate) as both:
            await both.stable.client.post(CLASSIFY, content=SPEECH)
            await both.settled()
            for name in ("timbre_confidence_count", "timbre_decisions_total"):
                family = both.candidate.metrics.registry.collect()
                traffic = {
                    sample.labels["traffic"]
                    for metric in family
                    for sample in metric.samples
                    if sample.name == name
                }
                assert traffic == {"shadow"}
            route = {"route": ROUTE, "traffic": "shadow"}
            assert both.candidate.sample("timbre_request_seconds_count", **route) == 1
            assert both.candidate.sample("timbre_requests_total", status="200", **route) == 1

    @pytest.mark.parametrize("kind", ["raw", "chunks", "form", "hub", "base64"])
    async def test_it_is_sent_the_clip_however_that_came(
        self, make: Standing, candidate: Classifier, kind: str
    ) -> None:
        """Out of its form or its JSON, byte for byte."""
        async with pair(make, candidate) as both:
            client = both.stable.client
            raw = {"content-type": "audio/wav"}
            match kind:
                case "raw":
                    await client.post(CLASSIFY, content=SPEECH, headers=raw)
                case "chunks":
                    await client.post(CLASSIFY, content=in_pieces(SPEECH), headers=raw)
                case "form":
                    await client.post(CLASSIFY, files={"file": SPEECH})
                case "hub":
                    await client.post(HUB, content=SPEECH, headers=raw)
                case "base64":
                    await client.post(HUB, json={"inputs": base64.b64encode(SPEECH).decode()})
            await both.settled()
            assert both.clips("paired") == 1

    async def test_both_can_hear_nothing(self, make: Standing, candidate: Classifier) -> None:
        """Silence is a pair too."""
        async with pair(make, candidate) as both:
            await both.stable.client.post(CLASSIFY, content=encoded(silence(2.0)))
            await both.settled()
            assert both.clips("paired") == 1


class TestSending:
    """Live clips that were answered, and no others, when nobody waits for it any more."""

    async def test_the_client_has_its_answer_while_the_candidate_works(
        self, make: Standing, candidate: Classifier
    ) -> None:
        """A candidate that hangs delays nobody, and loses nobody a clip."""
        async with pair(make, candidate) as both:
            await both.stable.client.post(CLASSIFY, content=SPEECH)
            await both.settled()
            held = both.candidate.classifier
            both.candidate.serving.model = replace(both.candidate.serving.model, classifier=held)
            both.candidate.runner.gate.shut()
            for _ in range(3):
                answer = await both.stable.client.post(CLASSIFY, content=SPEECH)
                assert answer.status_code == 200
            await both.candidate.runner.gate.reached()
            assert both.clips("paired") == 1
            both.candidate.let_go()
            await both.settled()
            assert both.clips("paired") == 4

    async def test_it_is_sent_when_the_answer_has_gone(
        self, make: Standing, candidate: Classifier
    ) -> None:
        """Not while it is still being sent, however slowly the client reads."""
        async with pair(make, candidate) as both:
            order: list[str] = []
            send_on = both.sender._targets[0].send

            async def noted(clip: Any) -> None:  # noqa: ANN401
                order.append("shadow")
                await send_on(clip)

            both.sender._targets[0].send = noted  # type: ignore[method-assign]
            body = [{"type": "http.request", "body": SPEECH, "more_body": False}]

            async def receive() -> Any:  # noqa: ANN401
                if body:
                    return body.pop()
                return await asyncio.get_running_loop().create_future()

            async def send(message: Any) -> None:  # noqa: ANN401
                await asyncio.sleep(0.01)  # what is to happen meanwhile would
                order.append(message["type"])

            scope = {"type": "http", "method": "POST", "path": CLASSIFY, "headers": []}
            await both.stable.app({**scope, "query_string": b""}, receive, send)
            await both.settled()
            assert order == ["http.response.start", "http.response.body", "shadow"]

    @pytest.mark.parametrize("track", ["canary", "stable", "baseline"])
    async def test_forced_clips_are_not_shadowed(
        self, make: Standing, candidate: Classifier, track: str
    ) -> None:
        """Who tries a version is no sample of who uses it."""
        async with pair(make, candidate) as both:
            headers = {"x-timbre-track": track}
            await both.stable.client.post(CLASSIFY, content=SPEECH, headers=headers)
            assert not both.sender._sending
            assert both.candidate.sample("timbre_admitted_windows_total") == 0

    async def test_the_fallback_s_clips_are_not_shadowed(
        self, make: Standing, candidate: Classifier
    ) -> None:
        """Another model answered them."""
        settings = {"fallback": candidate, "fallback_queue_s": BUSY_S / 2}
        async with pair(make, candidate, **settings) as both:
            both.stable.serving._switch.on = True
            both.stable.serving._watch_queue = lambda: None  # type: ignore[method-assign]
            answer = await both.stable.client.post(CLASSIFY, content=SPEECH)
            assert answer.headers["x-model-fallback"]
            assert not both.sender._sending

    async def test_what_is_refused_is_not_shadowed(
        self, make: Standing, candidate: Classifier
    ) -> None:
        """What is no clip here would be none there."""
        async with pair(make, candidate) as both:
            await post(both.stable, b"no audio")
            assert not both.sender._sending

    async def test_a_candidate_s_own_clips_go_nowhere(self, stand: Stand) -> None:
        """A shadow casts none."""
        app = stand.internal._transport.app  # type: ignore[attr-defined]
        async with shadowing(stand, "http://127.0.0.1:1", app) as sender:
            assert (await stand.internal.post(ROUTE, content=SPEECH)).status_code == 200
            assert not sender._sending

    async def test_a_busy_stable_sends_nothing(
        self, make: Standing, candidate: Classifier, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its clients' clips need the CPU."""
        async with pair(make, candidate) as both:
            await post(both.stable)
            await both.settled()
            with monkeypatch.context() as busy:
                busy.setattr(Admission, "queue_s", BUSY_S)
                assert (await post(both.stable)).status_code == 200
            assert (both.clips("paired"), both.clips("busy")) == (1, 1)


class TestReceiving:
    """POST /shadow on the internal port: scored while there is nothing better to do."""

    async def test_its_answer_is_small_and_its_own(
        self, make: Standing, candidate: Classifier, new_bundle: Bundle
    ) -> None:
        """Which bundle, what label, how sure, what decision."""
        async with pair(make, candidate) as both:
            headers = {"x-request-id": "some-id"}
            answer = await both.candidate.internal.post(ROUTE, content=SPEECH, headers=headers)
            expected = candidate.classify(candidate.hear(SPEECH))
            assert answer.status_code == 200
            assert answer.headers["x-request-id"] == "some-id"
            assert answer.headers["content-type"] == "application/json"
            scored = ShadowAnswer.model_validate(answer.json())
            assert (scored.label, scored.decision) == (expected.label, expected.decision)
            assert scored.score == pytest.approx(expected.score, abs=1e-5)
            assert answer.json()["model"] == {
                "name": "tiny",
                "version": "2.0.0",
                "track": "canary",
                "digest": new_bundle.digest,
            }

    async def test_it_is_never_the_fallback_s(self, make: Standing, candidate: Classifier) -> None:
        """It is the model that is judged."""
        async with make(fallback=candidate) as stand:
            stand.serving._switch.on = True
            stand.serving._watch_queue = lambda: None  # type: ignore[method-assign]
            answer = await stand.internal.post(ROUTE, content=SPEECH)
            assert answer.json()["model"]["version"] == "1.0.0"

    async def test_a_few_are_inside_at_a_time(self, stand: Stand) -> None:
        """One more is refused at once, without being demand for more pods."""
        stand.runner.gate.shut()
        inside = [self._post(stand) for _ in range(MAX_INSIDE)]
        await stand.serving.submitted(MAX_INSIDE)
        answer = await stand.internal.post(ROUTE, content=never_ending())
        assert problem(answer) == "overloaded"
        assert answer.headers["retry-after"] == f"{RETRY_S:g}"
        assert stand.sample("timbre_refused_windows_total") == 0
        assert stand.sample("timbre_refusal_seconds_count") == 0
        assert (await stand.client.get("/v1/model")).status_code == 200
        stand.let_go()
        assert {answer.status_code for answer in await asyncio.gather(*inside)} == {200}
        assert (await self._post(stand)).status_code == 200

    @pytest.mark.parametrize(("queue_s", "status"), [(BUSY_S - 1e-6, 200), (BUSY_S, 429)])
    async def test_it_is_refused_where_clients_would_wait(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch, queue_s: float, status: int
    ) -> None:
        """From a noticeable queue on; clients' clips are still let in."""
        monkeypatch.setattr(Admission, "queue_s", queue_s)
        assert (await stand.internal.post(ROUTE, content=SPEECH)).status_code == status
        assert (await post(stand)).status_code == 200

    async def test_a_pod_on_its_way_out_takes_none(self, stand: Stand) -> None:
        """Though it still answers clients."""
        stand.serving.draining = True
        answer = await stand.internal.post(ROUTE, content=SPEECH)
        assert (problem(answer), answer.status_code) == ("not-ready", 503)
        assert (await post(stand)).status_code == 200

    async def test_a_pod_that_loads_takes_none(self, stand: Stand) -> None:
        stand.desk.serving = None
        answer = await stand.internal.post(ROUTE, content=SPEECH)
        assert (problem(answer), answer.status_code) == ("not-ready", 503)

    @pytest.mark.parametrize(
        ("body", "slug"),
        [
            *((b"", "not-audio"), (b"no audio", "not-audio"), (SPEECH[:30], "not-audio")),
            (bytes(MAX_BODY_BYTES), "not-audio"),
            (bytes(MAX_BODY_BYTES + 1), "too-large"),
        ],
    )
    async def test_what_is_no_clip_is_a_problem(self, stand: Stand, body: bytes, slug: str) -> None:
        """As on the public port, and its place is free again."""
        for _ in range(MAX_INSIDE + 1):
            assert problem(await stand.internal.post(ROUTE, content=body)) == slug

    async def test_other_methods_are_a_problem(self, stand: Stand) -> None:
        assert problem(await stand.internal.get(ROUTE)) == "method-not-allowed"

    async def test_it_is_on_the_internal_port_only(self, stand: Stand) -> None:
        """No gateway leads there."""
        assert problem(await stand.client.post(ROUTE, content=SPEECH)) == "not-found"

    @staticmethod
    def _post(stand: Stand) -> asyncio.Task[Answer]:
        return asyncio.ensure_future(stand.internal.post(ROUTE, content=SPEECH))
