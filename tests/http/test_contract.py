"""The document of the interface, and the headers that every answer has."""

from __future__ import annotations

import base64
import re

import pytest
from openapi_spec_validator import validate

from service import problems
from service.http import Desk, create_app
from tests.support.asking import (
    CLASSIFY,
    DOCUMENT,
    GUARDED,
    HUB,
    SPEECH,
    WINDOWS,
    checked_client,
    post,
    problem,
)
from tests.support.audio import encoded, silence
from tests.support.models import HOP_S, LABELS, WINDOW_S
from tests.support.stand import Stand

pytestmark = pytest.mark.asyncio


class TestDocument:
    """/openapi.json is true; the fixtures that give stands check that answers agree with it."""

    async def test_it_is_served_and_valid(self, stand: Stand) -> None:
        document = (await stand.client.get("/openapi.json")).json()
        assert document == DOCUMENT
        validate(document)

    async def test_it_lists_the_routes_there_are(self, stand: Stand) -> None:
        """The public interface is what is under /v1: no route without its entry, and no more."""
        router = stand.app._app  # type: ignore[attr-defined]
        (mount,) = [route for route in router.routes if getattr(route, "path", "") == "/v1"]
        routes = {
            (f"/v1{route.path}", method.lower())
            for route in mount.app._app.routes
            for method in route.methods or ()
            if method != "HEAD"
        }
        assert not [route for route in router.routes if getattr(route, "path", "")[:4] == "/v1/"]
        documented = {
            (path, method) for path, methods in DOCUMENT["paths"].items() for method in methods
        }
        assert routes == documented

    async def test_its_statuses_are_those_of_the_error_table(self) -> None:
        """A clip can meet all of them but 404 and 405, which no operation has, and some's 401."""
        for path in (CLASSIFY, HUB):
            for document, others in ((DOCUMENT, {401, 404, 405}), (GUARDED, {404, 405})):
                statuses = {int(status) for status in document["paths"][path]["post"]["responses"]}
                assert statuses == {200, *problems.STATUS.values()} - others

    async def test_its_media_types_are_accepted(self, stand: Stand) -> None:
        """Each content type that is listed for a body is one the route takes."""
        for path in (CLASSIFY, HUB):
            content = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]
            for media_type in content:
                if media_type == "multipart/form-data":
                    answer = await stand.client.post(path, files={"file": SPEECH})
                elif media_type == "application/json":
                    inputs = base64.b64encode(SPEECH).decode()
                    answer = await stand.client.post(path, json={"inputs": inputs})
                else:
                    headers = {"content-type": media_type}
                    answer = await stand.client.post(path, content=SPEECH, headers=headers)
                assert answer.status_code == 200, media_type

    async def test_the_facts_of_the_model(self, stand: Stand) -> None:
        """What /v1/model says is what bundle.json says."""
        facts = (await stand.client.get("/v1/model")).json()
        bundle = stand.runner.bundle
        assert facts["digest"] == bundle.digest
        assert facts["labels"] == list(bundle.manifest.labels) == list(LABELS)
        assert (facts["window_s"], facts["hop_s"]) == (WINDOW_S, HOP_S)
        assert (facts["runtime"], facts["precision"]) == ("openvino", "fp32")
        assert facts["precision_choice"] == {"reason": "asked", "why": "asked for", "window_ms": {}}
        assert facts["gate"] is None
        assert (facts["streams"], facts["threads"]) == (1, 1)


class TestHeaders:
    """What every answer says beside its body."""

    @pytest.mark.parametrize("sent", ["a", "A.b_c:d-9", "x" * 128])
    async def test_an_id_is_taken_over(self, stand: Stand, sent: str) -> None:
        """So that a caller finds its request in the log."""
        answer = await stand.client.post(CLASSIFY, content=SPEECH, headers={"x-request-id": sent})
        assert answer.headers["x-request-id"] == answer.json()["id"] == sent

    @pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "a\tb", '{"a"}', "é", "<script>"])
    async def test_an_id_that_is_malformed_is_replaced(self, stand: Stand, sent: str) -> None:
        """It goes into logs and answers as it is."""
        headers = {b"x-request-id": sent.encode()}
        answer = await stand.client.post(CLASSIFY, content=SPEECH, headers=headers)
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])

    async def test_an_id_is_made(self, stand: Stand) -> None:
        """Each request has its own."""
        ids = {(await stand.client.get("/v1/model")).headers["x-request-id"] for _ in range(5)}
        assert len(ids) == 5

    @pytest.mark.parametrize(
        "path", ["/v1/model", "/", "/docs", "/v1/none", "/none", "/web/page.js"]
    )
    async def test_the_model_s_version_is_in_every_answer(self, stand: Stand, path: str) -> None:
        """Errors included, so that a rollout can be followed by headers alone."""
        assert (await stand.client.get(path)).headers["x-model-version"] == "1.0.0"

    @pytest.mark.parametrize("path", [CLASSIFY, HUB])
    async def test_an_answer_says_where_its_time_went(self, stand: Stand, path: str) -> None:
        """In headers too: one of the routes has no other place for it."""
        answer = await post(stand, path=path)
        entries = [entry.split(";dur=") for entry in answer.headers["server-timing"].split(", ")]
        spent = {name: float(milliseconds) for name, milliseconds in entries}
        assert list(spent) == ["decode", "queue", "inference", "total"]
        assert spent["decode"] + spent["queue"] + spent["inference"] <= spent["total"] + 0.002
        if path == CLASSIFY:
            assert spent == answer.json()["timing_ms"]

    async def test_an_answer_says_which_batch_it_came_in(self, stand: Stand) -> None:
        """The largest one: its windows, those of others too, and why it was sent."""
        stand.runner.gate.shut()
        first = post(stand)
        await stand.runner.gate.reached()
        await stand.serving.submitted()
        others = [post(stand) for _ in range(2)]
        await stand.serving.submitted(2)
        stand.let_go()
        assert (await first).headers["x-batch"] == f"idle;windows={WINDOWS}"
        for other in others:
            assert (await other).headers["x-batch"] == f"backlog;windows={2 * WINDOWS}"

    async def test_a_clip_without_speech_was_in_no_batch(self, stand: Stand) -> None:
        answer = await post(stand, encoded(silence(2.0)))
        assert "x-batch" not in answer.headers
        assert "inference;dur=0.0" in answer.headers["server-timing"]

    async def test_connections_are_closed_while_draining(self, stand: Stand) -> None:
        """Clips are answered as before, but clients are told to connect to another pod."""
        assert "connection" not in (await post(stand)).headers
        stand.serving.draining = True
        answer = await post(stand)
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        assert stand.sample("timbre_ready") == 0

    async def test_connections_are_closed_while_loading(self) -> None:
        """There is no version to tell then."""
        async with checked_client(create_app(Desk())) as client:
            for method, path in (("GET", "/v1/model"), ("POST", CLASSIFY), ("POST", HUB)):
                answer = await client.request(method, path)
                assert problem(answer) == "not-ready"
                assert answer.headers["connection"] == "close"
                assert "x-model-version" not in answer.headers

    @pytest.mark.parametrize("path", ["/", "/docs"])
    async def test_pages_load_nothing_from_elsewhere(self, stand: Stand, path: str) -> None:
        """The policy says so, and nothing on them asks for it."""
        page = await stand.client.get(path)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page.text)

    async def test_pages_find_their_files(self, stand: Stand) -> None:
        for path in ("/", "/docs"):
            page = (await stand.client.get(path)).text
            for file in re.findall(r"""(?:src|href)="(/web/[^"]+)""", page):
                assert (await stand.client.get(file)).status_code == 200, file
