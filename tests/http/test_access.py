"""Who is let in: with tokens configured, what needs one, and what is said without."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from openapi_spec_validator import validate

from service.access import CHECK_S
from service.envelope import JsonFormatter
from tests.support.asking import (
    CLASSIFY,
    DOCUMENT,
    GUARDED,
    HUB,
    RAW,
    SPEECH,
    Standing,
    post,
    problem,
    untouchable,
)
from tests.support.stand import Stand
from tests.support.tokens import FIRST, SECOND, UNKNOWN, Secret, bearer

pytestmark = pytest.mark.asyncio

MODEL = "/v1/model"
NONE_SENT = 'Bearer realm="timbre"'
WRONG_SENT = 'Bearer realm="timbre", error="invalid_token"'


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    """A mounted Secret with two tokens."""
    return Secret(tmp_path, FIRST, SECOND)


@pytest_asyncio.fixture
async def guarded(make: Standing, secret: Secret) -> AsyncIterator[Stand]:
    """A stand that asks for one of them; its answers are held against its own document."""
    async with make(token_file=secret.file) as stand:
        yield stand


class TestGuard:
    """A request under /v1/ needs a token, and is told so by its headers alone."""

    @pytest.mark.parametrize("token", [FIRST, SECOND])
    @pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
    async def test_each_token_opens_every_route(
        self, guarded: Stand, token: str, scheme: str
    ) -> None:
        """A scheme's name has no case, and may be followed by more than one space."""
        headers = {"authorization": f"{scheme} {token}"}
        assert (await guarded.client.get(MODEL, headers=headers)).status_code == 200
        for path in (CLASSIFY, HUB):
            answer = await guarded.client.post(path, content=SPEECH, headers=headers | RAW)
            assert answer.status_code == 200

    @pytest.mark.parametrize(
        ("sent", "challenge"),
        [
            ([], NONE_SENT),
            ([""], NONE_SENT),
            (["Basic YTpi"], NONE_SENT),
            ([FIRST], NONE_SENT),
            ([f"Basic {FIRST}"], NONE_SENT),
            (["Bearer"], WRONG_SENT),
            (["Bearer "], WRONG_SENT),
            ([f"Bearer {UNKNOWN}"], WRONG_SENT),
            ([f"Bearer {FIRST[:-1]}"], WRONG_SENT),
            ([f"Bearer {FIRST},"], WRONG_SENT),
            ([f"Bearer\t{FIRST}"], NONE_SENT),
            ([f"Bearer {FIRST}\xa0"], WRONG_SENT),
            ([f"Bearer {FIRST}", f"Bearer {SECOND}"], WRONG_SENT),
            (["Bearer " + "x" * 60_000], WRONG_SENT),
            (["Bearer \xff\xfe"], WRONG_SENT),
        ],
    )
    async def test_without_one_the_body_is_not_read(
        self, guarded: Stand, sent: list[str], challenge: str
    ) -> None:
        """401 with the challenge of RFC 6750: an error only where a token was sent."""
        headers = [(b"authorization", value.encode("latin-1")) for value in sent]
        for path in (CLASSIFY, HUB):
            answer = await guarded.client.post(path, content=untouchable(), headers=headers)
            assert problem(answer) == "unauthorized"
            assert answer.headers["www-authenticate"] == challenge
        assert (await guarded.client.get(MODEL, headers=headers)).status_code == 401
        assert guarded.runner.batches == []

    async def test_it_comes_before_the_queue(self, guarded: Stand) -> None:
        """Who has no token learns nothing of how busy the server is, and is no work refused."""
        guarded.desk.buffers.held += 10**12
        guarded.serving.draining = True
        await guarded.serving.close()
        answer = await guarded.client.post(CLASSIFY, content=untouchable())
        guarded.desk.buffers.held -= 10**12
        assert problem(answer) == "unauthorized"
        assert guarded.sample("timbre_refused_windows_total") == 0

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("HEAD", MODEL),
            ("OPTIONS", CLASSIFY),
            ("GET", CLASSIFY),
            ("GET", "/v1/"),
            ("GET", "/v1/none"),
            ("POST", "/v1/classify/"),
            ("POST", "/%761/classify"),
            ("POST", "/v1//classify"),
            ("POST", "/v1/../v1/classify"),
        ],
    )
    async def test_no_other_way_leads_in(self, guarded: Stand, method: str, path: str) -> None:
        """Whatever the method, and whether there is anything there or not."""
        answer = await guarded.client.request(method, path)
        assert answer.status_code == 401

    async def test_web_sockets_are_closed(self, guarded: Stand) -> None:
        """There are none; a stranger who tries leaves no fault in the log."""
        scope = {"type": "websocket", "path": CLASSIFY, "headers": []}
        sent: list[MutableMapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: MutableMapping[str, Any]) -> None:
            sent.append(message)

        await guarded.app(scope, receive, send)
        assert [message["type"] for message in sent] == ["websocket.close"]

    @pytest.mark.parametrize("path", ["//v1/classify", "/V1/classify", "/v1", "/metrics", "/none"])
    async def test_what_is_nowhere_needs_none(self, guarded: Stand, path: str) -> None:
        """It is not there, for nobody."""
        answer = await guarded.client.post(f"http://timbre{path}", content=SPEECH)
        assert answer.status_code == 404

    @pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json", "/web/page.js"])
    async def test_pages_need_none(self, guarded: Stand, path: str) -> None:
        """They say nothing of the model, and how to send a token."""
        assert (await guarded.client.get(path)).status_code == 200

    async def test_metrics_need_none_on_their_own_port(self, guarded: Stand) -> None:
        """What no gateway reaches is Prometheus' as it is; the public routes are not there."""
        assert (await guarded.internal.get("/metrics")).status_code == 200
        for path in (CLASSIFY, MODEL, "/", "/docs"):
            assert problem(await guarded.internal.get(path)) == "not-found"

    async def test_without_tokens_everybody_is_let_in(self, stand: Stand) -> None:
        """A token that is sent all the same does no harm: Hugging Face's client may send one."""
        for headers in ({}, bearer(UNKNOWN), {"authorization": "Basic YTpi"}):
            assert (await stand.client.get(MODEL, headers=headers)).status_code == 200

    async def test_a_rotation_is_followed(self, guarded: Stand, secret: Secret) -> None:
        """Clients move from the old token to the new one while both are in the file."""

        async def open_to(token: str) -> bool:
            return (await guarded.client.get(MODEL, headers=bearer(token))).status_code == 200

        secret.change(SECOND, UNKNOWN)
        guarded.serving.skipped_s += CHECK_S
        assert [await open_to(token) for token in (FIRST, SECOND, UNKNOWN)] == [False, True, True]


class TestTraces:
    """What is left of a refusal."""

    async def test_it_is_counted_by_route(self, guarded: Stand) -> None:
        """The counter of requests has the status, and that of problems the type."""
        await post(guarded)
        refused = {"route": CLASSIFY, "status": "401", "traffic": "live"}
        assert guarded.sample("timbre_requests_total", **refused) == 1
        assert guarded.sample("timbre_problems_total", type="unauthorized") == 1

    async def test_tokens_are_neither_logged_nor_answered(
        self, guarded: Stand, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Right or wrong, or sent where none belongs."""
        caplog.set_level(logging.DEBUG)
        for token in (FIRST, UNKNOWN):
            answers = [
                await guarded.client.get(MODEL, headers=bearer(token)),
                await guarded.client.get(f"/v1/none?token={token}", headers=bearer(token)),
                await guarded.client.get(f"/none/{token}", headers=bearer(token)),
                await guarded.internal.get("/metrics", headers=bearer(token)),
            ]
            for answer in answers:
                assert token not in answer.text
                assert token not in str(answer.headers)
        lines = [JsonFormatter().format(record) for record in caplog.records]
        ours = [line for line in lines if json.loads(line)["logger"].startswith("timbre")]
        assert len(ours) == 8
        assert not [line for line in ours for token in (FIRST, UNKNOWN) if token in line]


class TestDocument:
    """The document is that of this very server."""

    async def test_a_server_with_tokens_says_so(self, guarded: Stand) -> None:
        """Each operation needs the one scheme, and can be refused."""
        document = (await guarded.client.get("/openapi.json")).json()
        assert document == GUARDED
        validate(document)
        (scheme,) = document["components"]["securitySchemes"].items()
        assert document["security"] == [{scheme[0]: []}]
        assert (scheme[1]["type"], scheme[1]["scheme"]) == ("http", "bearer")
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                assert "security" not in operation
                assert "401" in operation["responses"]
                answer = await guarded.client.request(method, path)
                assert problem(answer) == "unauthorized"

    async def test_a_server_without_them_claims_nothing(self, stand: Stand) -> None:
        """No scheme, and no answer that it never gives."""
        text = (await stand.client.get("/openapi.json")).text
        assert json.loads(text) == DOCUMENT
        assert "security" not in text
        assert "401" not in text
