"""Who is let in: overload is refused before it is read or decoded, and shares hold."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from service.audio import MAX_BODY_BYTES
from service.internal import InternalServer, listen
from tests.support.asking import (
    CLASSIFY,
    RAW,
    SPEECH,
    WINDOWS,
    Answer,
    Standing,
    post,
    problem,
    untouchable,
)
from tests.support.stand import PATIENCE_S
from tests.support.tokens import FIRST, SECOND, bearer, token_file

pytestmark = pytest.mark.asyncio


class TestGate:
    """Room is counted with the clips that are being decoded."""

    async def test_clips_being_decoded_close_the_gate(self, make: Standing) -> None:
        """They will fill the queue: one more would be decoded to be refused."""
        async with make(queue_windows=2 * WINDOWS) as stand:
            await post(stand)
            stand.classifier.decoding.shut()
            inside = [post(stand) for _ in range(2)]
            for _ in inside:
                await stand.classifier.decoding.reached()
            refused = await stand.client.post(CLASSIFY, content=untouchable(), headers=RAW)
            assert problem(refused) == "overloaded"
            assert "2 of 64 clips are being decoded" in refused.json()["detail"]
            stand.let_go()
            assert [(await answer).status_code for answer in inside] == [200, 200]
            assert stand.sample("timbre_refused_windows_total") == WINDOWS

    async def test_a_body_that_comes_too_late_is_not_decoded(self, make: Standing) -> None:
        """There was room when it began, and the place has been taken since."""
        async with make(decode_backlog=1) as stand:
            begun, taken = asyncio.Event(), asyncio.Event()

            async def slow() -> AsyncIterator[bytes]:
                yield SPEECH[:100]
                begun.set()
                await taken.wait()
                yield SPEECH[100:]

            late = asyncio.ensure_future(stand.client.post(CLASSIFY, content=slow(), headers=RAW))
            await begun.wait()
            stand.classifier.decoding.shut()
            first = post(stand)
            await stand.classifier.decoding.reached()
            taken.set()
            assert problem(await late) == "overloaded"
            stand.let_go()
            assert (await first).status_code == 200
            assert stand.sample("timbre_decode_seconds_count") == 1

    async def test_a_place_is_given_back_however_decoding_ends(self, make: Standing) -> None:
        """With an error, at the deadline, or without its client."""
        async with make(decode_backlog=1) as stand:
            assert problem(await post(stand, b"no audio")) == "not-audio"
            stand.classifier.decoding.shut()
            leaver = post(stand)
            await stand.classifier.decoding.reached()
            leaver.cancel()
            await asyncio.wait([leaver])
            stand.let_go()
            assert (await post(stand)).status_code == 200
        async with make(decode_backlog=1, deadline_s=0.05) as stand:
            stand.classifier.decoding.shut()
            for _ in range(2):
                assert problem(await post(stand)) == "deadline"


class TestWaiting:
    """How long a clip would wait is known by what the engine makes."""

    async def test_the_first_clips_are_judged_by_the_warm_up(self, make: Standing) -> None:
        """Before any is computed a burst would fill the queue with what is answered too late."""
        async with make(queue_s=2.0) as stand:
            stand.serving.model = replace(stand.serving.model, window_s=0.75)
            stand.runner.gate.shut()
            first = post(stand)
            await stand.runner.gate.reached()
            refused = await stand.client.post(CLASSIFY, content=untouchable(), headers=RAW)
            assert problem(refused) == "overloaded"
            assert "3 windows are in flight, which take 2.25 s" in refused.json()["detail"]
            stand.let_go()
            assert (await first).status_code == 200

    async def test_who_leaves_makes_the_engine_no_faster(self, make: Standing) -> None:
        """What is dropped unseen isn't computed, however many clips come and go in a moment."""
        async with make(queue_s=60.0, deadline_s=600.0) as stand:
            stand.runner.gate.shut()
            staying = post(stand)
            await stand.runner.gate.reached()
            await stand.serving.submitted()
            for _ in range(20):
                leaver = post(stand)
                await stand.serving.submitted()
                leaver.cancel()
                await asyncio.wait([leaver])
            stand.serving.skipped_s += 10 * WINDOWS
            stand.let_go()
            assert (await staying).status_code == 200
            stand.runner.gate.shut()
            next_one = post(stand)
            await stand.runner.gate.reached()
            assert stand.serving.admission.queue_s == pytest.approx(10 * WINDOWS, rel=0.1)
            stand.let_go()
            assert (await next_one).status_code == 200


class TestMemory:
    """What is kept of clips whose clients have gone."""

    async def test_a_clip_that_waits_for_a_decoder_goes_with_its_client(
        self, make: Standing
    ) -> None:
        """It isn't counted any more, so hundreds could pile up behind one that takes long."""
        async with make(decoders=1) as stand:
            stand.classifier.decoding.shut()
            first = post(stand)
            await stand.classifier.decoding.reached()
            body = bytes(bytearray(SPEECH))
            known = sys.getrefcount(body)
            work = asyncio.ensure_future(
                stand.serving.classify(body, deadline=stand.serving.clock() + PATIENCE_S)
            )
            await asyncio.sleep(0)
            assert stand.serving._hearers._work_queue.qsize() == 1
            assert sys.getrefcount(body) > known
            work.cancel()
            await asyncio.wait([work])
            del work
            assert sys.getrefcount(body) == known
            assert stand.serving._hearers._work_queue.qsize() == 1
            stand.let_go()
            assert (await first).status_code == 200


@asynccontextmanager
async def full_server(make: Standing) -> AsyncIterator[int]:
    """Serve a full stand over loopback; gives its port."""
    async with make(decode_backlog=1) as stand:
        opened = listen("127.0.0.1", 0)
        server = InternalServer(stand.app, opened)
        port: int = opened.getsockname()[1]
        server.start()
        stand.classifier.decoding.shut()
        first = post(stand)
        await stand.classifier.decoding.reached()
        async with asyncio.timeout(PATIENCE_S):
            yield port
        stand.let_go()
        assert (await first).status_code == 200
        await server.close()


def head(path: str, *lines: str) -> bytes:
    """Write a request's head."""
    return "\r\n".join([f"POST {path} HTTP/1.1", "host: timbre", *lines, "", ""]).encode()


async def read_answer(reader: asyncio.StreamReader) -> int:
    """Read one answer whole; gives its status."""
    answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert "connection: close" not in answer
    (length,) = re.findall(r"content-length: (\d+)", answer)
    await reader.readexactly(int(length))
    return int(answer.split()[1])


class TestConnection:
    """What becomes of the connection of a clip that is refused before its body is read."""

    async def test_it_stays_open_and_the_body_is_thrown_away(self, make: Standing) -> None:
        """Closed on a client that is sending, it would lose the answer; and it serves again."""
        async with full_server(make) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head(CLASSIFY, f"content-length: {MAX_BODY_BYTES}"))
            assert await read_answer(reader) == 429
            for _ in range(2):
                writer.write(bytes(MAX_BODY_BYTES // 2))
                await writer.drain()
            writer.write(head("/none", "content-length: 0"))
            assert await read_answer(reader) == 404
            writer.close()

    async def test_a_client_that_asks_first_sends_no_body(self, make: Standing) -> None:
        """The refusal comes in the place of 100 Continue."""
        async with full_server(make) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            length = f"content-length: {MAX_BODY_BYTES}"
            writer.write(head(CLASSIFY, length, "expect: 100-continue"))
            assert await read_answer(reader) == 429
            writer.close()


class TestShares:
    """One client's clips don't keep out another's."""

    async def test_a_token_has_its_share(self, make: Standing, tmp_path: Path) -> None:
        """Whoever uses it; its text is in no answer."""
        tokens = token_file(tmp_path, FIRST, SECOND)
        share = {"queue_windows": 2 * WINDOWS, "client_share": 0.5}
        async with make(token_file=tokens, **share) as stand:
            stand.runner.gate.shut()

            def ask(token: str, **body: object) -> asyncio.Task[Answer]:
                headers = RAW | bearer(token)
                return asyncio.ensure_future(
                    stand.client.post(CLASSIFY, headers=headers, **body)  # type: ignore[arg-type]
                )

            first = ask(FIRST, content=SPEECH)
            await stand.runner.gate.reached()
            refused = await ask(FIRST, content=untouchable())
            assert problem(refused) == "overloaded"
            assert refused.json()["detail"].startswith(f"This client has {WINDOWS} windows")
            assert FIRST not in refused.text
            second = ask(SECOND, content=SPEECH)
            await stand.serving.submitted(2)
            stand.let_go()
            assert [(await answer).status_code for answer in (first, second)] == [200, 200]

    @pytest.mark.parametrize("share", [0.5, 1.0])
    async def test_an_address_has_its_share(self, make: Standing, share: float) -> None:
        """Over as many connections as it likes; without shares one may fill the queue."""
        async with make(queue_windows=3 * WINDOWS, client_share=share) as stand:
            await post(stand)
            await stand.serving.submitted()
            stand.runner.gate.shut()

            def ask(host: str, port: int) -> asyncio.Task[Answer]:
                transport = httpx.ASGITransport(stand.app, client=(host, port))
                client = httpx.AsyncClient(transport=transport, base_url="http://timbre")
                return asyncio.ensure_future(client.post(CLASSIFY, content=SPEECH))

            first = ask("192.0.2.1", 1)
            await stand.runner.gate.reached()
            again, other = ask("192.0.2.1", 2), ask("192.0.2.2", 1)
            await stand.serving.submitted(3)
            stand.let_go()
            answers = [(await answer).status_code for answer in (first, again, other)]
            assert answers == [200, 429 if share < 1 else 200, 200]
