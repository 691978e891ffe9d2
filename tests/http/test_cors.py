"""What browsers are told: which pages may call the server, and what those may read."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.support.asking import CLASSIFY, HUB, RAW, SPEECH, Answer, Standing, post, problem
from tests.support.stand import Stand
from tests.support.tokens import FIRST, bearer, token_file

pytestmark = pytest.mark.asyncio

APP, OTHER = "https://app.example", "https://other.example"
FOUND = "access-control-allow-origin"


NAMED = "authorization,content-type,x-request-id,x-timbre-track"
"""Headers that a page may want to send."""
ASKED = {"route": CLASSIFY, "traffic": "live"}


async def preflight(stand: Stand, origin: str, path: str = CLASSIFY) -> Answer:
    """Ask as a browser does before it sends a clip with a token; this is no request of its own."""
    transport = httpx.ASGITransport(stand.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://timbre") as client:
        return await client.options(
            path,
            headers={
                "origin": origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": NAMED,
            },
        )


def told(answer: Answer) -> set[str]:
    """Name the headers of CORS in an answer."""
    return {name for name in answer.headers if name.startswith("access-control-")}


class TestOff:
    """Unless it is asked for."""

    async def test_no_page_of_another_origin_may_call(self, stand: Stand) -> None:
        """Nothing of CORS is in any answer, and a preflight is a method that is not there."""
        assert problem(await preflight(stand, APP)) == "method-not-allowed"
        for answer in (
            await preflight(stand, APP),
            await stand.client.post(CLASSIFY, content=SPEECH, headers={"origin": APP}),
            await stand.client.get("/none", headers={"origin": APP}),
        ):
            assert told(answer) == set()
            assert "vary" not in answer.headers


class TestOrigins:
    """With origins listed, their pages may, and no others."""

    @pytest.mark.parametrize("path", [CLASSIFY, HUB, "/v1/model", "/openapi.json"])
    async def test_a_listed_origin_may(self, make: Standing, path: str) -> None:
        """A preflight allows what a page needs, an answer lets it read what it may need."""
        async with make(cors_origins=(APP, "http://localhost:8000")) as stand:
            asked = await preflight(stand, APP, path)
            assert asked.status_code == 204
            assert asked.headers[FOUND] == APP
            assert asked.headers["access-control-allow-methods"] == "GET, POST"
            assert asked.headers["access-control-allow-headers"] == NAMED
            assert asked.headers["access-control-max-age"] == "600"
            answer = await stand.client.post(CLASSIFY, content=SPEECH, headers={"origin": APP})
            assert answer.status_code == 200
            assert answer.headers[FOUND] == APP
            exposed = set(answer.headers["access-control-expose-headers"].split(", "))
            own = {"x-request-id", "x-model-version", "server-timing", "x-batch"}
            assert exposed == own | {"retry-after", "x-model-fallback"}
            assert own <= set(answer.headers)

    @pytest.mark.parametrize("origin", [OTHER, "null", f"{APP}.evil.example", f"{APP}:8443", ""])
    async def test_another_one_may_not(self, make: Standing, origin: str) -> None:
        """It is answered as if there were no CORS: browsers keep the answer from the page."""
        async with make(cors_origins=(APP,)) as stand:
            assert problem(await preflight(stand, origin)) == "method-not-allowed"
            for answer in (
                await preflight(stand, origin),
                await stand.client.get("/v1/model", headers={"origin": origin}),
            ):
                assert told(answer) == set()

    async def test_caches_tell_origins_apart(self, make: Standing) -> None:
        """Also for requests that have none."""
        async with make(cors_origins=(APP,)) as stand:
            for headers in ({"origin": APP}, {"origin": OTHER}, {}):
                answer = await stand.client.get("/v1/model", headers=headers)
                assert answer.headers["vary"] == "origin"

    async def test_any_origin_may_where_all_are_meant(self, make: Standing) -> None:
        """The answer is the same for all then; cookies are never allowed."""
        async with make(cors_origins=("*",)) as stand:
            for answer in (
                await preflight(stand, OTHER),
                await stand.client.get("/v1/model", headers={"origin": "null"}),
            ):
                assert answer.headers[FOUND] == "*"
                assert "access-control-allow-credentials" not in answer.headers
                assert "vary" not in answer.headers
            assert told(await stand.client.get("/v1/model")) == set()

    async def test_metrics_are_no_page_s(self, make: Standing) -> None:
        """The internal port has no part in it."""
        async with make(cors_origins=("*",)) as stand:
            assert told(await stand.internal.get("/metrics", headers={"origin": APP})) == set()


class TestErrors:
    """A page can read why it was refused."""

    async def test_a_preflight_needs_no_token_but_its_request_does(
        self, make: Standing, tmp_path: Path
    ) -> None:
        """Browsers send none with it. A page can read the 401, and send one then."""
        async with make(cors_origins=(APP,), token_file=token_file(tmp_path, FIRST)) as stand:
            assert (await preflight(stand, APP)).status_code == 204
            headers = {"origin": APP} | RAW
            refused = await stand.client.post(CLASSIFY, content=SPEECH, headers=headers)
            assert problem(refused) == "unauthorized"
            assert refused.headers[FOUND] == APP
            answer = await stand.client.post(
                CLASSIFY, content=SPEECH, headers=headers | bearer(FIRST)
            )
            assert answer.status_code == 200

    async def test_refusals_and_faults_have_the_headers(self, make: Standing) -> None:
        """404, 413, 429 and 500, as any answer."""
        async with make(cors_origins=(APP,), queue_windows=1) as stand:
            headers = {"origin": APP}
            answers = [await stand.client.get("/none", headers=headers)]
            large = headers | {"content-length": str(2**40)}
            answers.append(await stand.client.post(CLASSIFY, content=b"", headers=large))
            stand.runner.gate.shut()
            first = post(stand)
            await stand.runner.gate.reached()
            answers.append(await stand.client.post(CLASSIFY, content=SPEECH, headers=headers))
            stand.let_go()
            assert (await first).status_code == 200

            async def broken(data: bytes, **how: object) -> None:
                raise ZeroDivisionError(data, how)

            stand.serving.classify = broken  # type: ignore[method-assign, assignment]
            answers.append(await stand.client.post(CLASSIFY, content=SPEECH, headers=headers))
        assert [answer.status_code for answer in answers] == [404, 413, 429, 500]
        for answer in answers:
            assert answer.headers[FOUND] == APP
            assert "retry-after" in answer.headers["access-control-expose-headers"]

    async def test_preflights_are_no_requests_of_a_route(self, make: Standing) -> None:
        """They would pass for clips in the counts of the route they ask about."""
        async with make(cors_origins=(APP,)) as stand:
            await preflight(stand, APP)
            assert stand.sample("timbre_requests_total", **ASKED, status="204") == 0
            await preflight(stand, OTHER)
            assert stand.sample("timbre_requests_total", **ASKED, status="405") == 1
