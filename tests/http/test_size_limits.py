"""How large a body may be: raw, as a form, as JSON, and all of them together."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator

import pytest
from starlette.requests import Request
from starlette.types import Message

from service import bodies
from tests.support.asking import CLASSIFY, HUB, SPEECH, in_pieces, never_ending, post, problem
from tests.support.stand import PATIENCE_S, Stand

pytestmark = pytest.mark.asyncio


async def held(stand: Stand, size: int) -> None:
    """Wait until the bodies hold so many bytes."""
    async with asyncio.timeout(PATIENCE_S):
        while stand.desk.buffers.held != size:  # noqa: ASYNC110 - nothing tells of bytes
            await asyncio.sleep(0)


class TestSize:
    """Bodies are accepted up to their limit and not a byte further, whoever counts."""

    @pytest.fixture(autouse=True)
    def _limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bodies, "MAX_RAW_BYTES", len(SPEECH))
        monkeypatch.setattr(bodies, "MAX_FORM_BYTES", len(SPEECH) + bodies.ENVELOPE_BYTES)

    @pytest.mark.parametrize("chunked", [True, False])
    async def test_raw(self, stand: Stand, *, chunked: bool) -> None:
        for more, status in ((0, 200), (1, 413)):
            body = SPEECH + bytes(more)
            content = in_pieces(body) if chunked else body
            answer = await stand.client.post(CLASSIFY, content=content)
            assert answer.status_code == status
        assert problem(answer) == "too-large"

    async def test_a_chunked_body_is_not_read_beyond_the_limit(self, stand: Stand) -> None:
        """What comes after the byte too many stays where it is."""

        async def endless() -> AsyncIterator[bytes]:
            yield SPEECH
            yield b"\0"
            pytest.fail("the body was read on")

        assert problem(await stand.client.post(CLASSIFY, content=endless())) == "too-large"

    async def test_multipart(self, stand: Stand) -> None:
        """The file counts; the form around it has its own allowance."""
        for more, status in ((0, 200), (1, 413)):
            answer = await stand.client.post(CLASSIFY, files={"file": SPEECH + bytes(more)})
            assert answer.status_code == status
        assert problem(answer) == "too-large"

    async def test_a_multipart_body_is_bounded_as_a_whole(self, stand: Stand) -> None:
        form = {"file": SPEECH, "note": bytes(bodies.ENVELOPE_BYTES)}
        assert problem(await stand.client.post(CLASSIFY, files=form)) == "too-large"

    async def test_json(self, stand: Stand) -> None:
        """The decoded clip counts."""
        for more, status in ((0, 200), (1, 413)):
            inputs = base64.b64encode(SPEECH + bytes(more)).decode()
            answer = await stand.client.post(HUB, json={"inputs": inputs})
            assert answer.status_code == status
        assert problem(answer) == "too-large"

    async def test_a_json_body_is_bounded_as_a_whole(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = json.dumps({"inputs": base64.b64encode(SPEECH).decode()}).encode()
        monkeypatch.setattr(bodies, "MAX_JSON_BYTES", len(body))
        headers = {"content-type": "application/json"}
        for more, status in ((0, 200), (1, 413)):
            padded = body + b" " * more
            answer = await stand.client.post(HUB, content=padded, headers=headers)
            assert answer.status_code == status

    async def test_the_limit_of_all_bodies_together(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Exactly filled is accepted, one byte more is not."""
        monkeypatch.setattr(bodies, "MAX_BUFFERED_BYTES", len(SPEECH))
        assert (await post(stand)).status_code == 200
        monkeypatch.setattr(bodies, "MAX_BUFFERED_BYTES", len(SPEECH) - 1)
        assert problem(await post(stand)) == "overloaded"

    async def test_who_stalls_makes_room_for_who_does_not(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Of bodies of one size the oldest is dropped; as many as it takes, no more."""
        monkeypatch.setattr(bodies, "MAX_BUFFERED_BYTES", 3 * len(SPEECH))
        stalling = []
        for number in range(3):
            stalling.append(post(stand, never_ending(SPEECH)))
            await held(stand, (number + 1) * len(SPEECH))
        assert (await post(stand)).status_code == 200
        assert problem(await stalling[0]) == "overloaded"
        assert stand.desk.buffers.held == 2 * len(SPEECH)
        for task in stalling[1:]:
            task.cancel()
        await asyncio.gather(*stalling, return_exceptions=True)

    async def test_who_holds_little_for_long_is_not_the_one(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A slow client on a poor line stays, where one that hoards is there to go."""
        now = 0.0
        monkeypatch.setattr(stand.desk.buffers, "clock", lambda: now)
        monkeypatch.setattr(bodies, "MAX_BUFFERED_BYTES", 2 * len(SPEECH))
        slow = post(stand, never_ending())
        await held(stand, len(b"RIFF"))
        now = 10.0
        hoard = post(stand, never_ending(SPEECH))
        await held(stand, len(b"RIFF") + len(SPEECH))
        now = 11.0
        assert (await post(stand)).status_code == 200
        assert problem(await hoard) == "overloaded"
        assert not slow.done()
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)

    async def test_whose_time_is_up_can_be_the_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Even in the moment when it hasn't heard of it: who needs the room is none the worse."""
        monkeypatch.setattr(bodies, "MAX_BUFFERED_BYTES", 1)
        buffers, due = bodies.Buffers(), asyncio.Event()

        async def read(body: AsyncIterator[bytes], timeout_s: float) -> bytes | None:
            async def receive() -> Message:
                return {"type": "http.request", "body": await anext(body), "more_body": True}

            request = Request({"type": "http", "headers": []}, receive)
            with buffers.hold() as buffered:
                return await buffered.read(request, limit=1, timeout_s=timeout_s)

        async def at_that_moment() -> AsyncIterator[bytes]:
            await due.wait()
            yield b"b"
            await asyncio.get_running_loop().create_future()

        late = asyncio.ensure_future(read(never_ending(b"a"), 0.01))
        needs_room = asyncio.ensure_future(read(at_that_moment(), PATIENCE_S))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(due.set)
        time.sleep(0.02)  # noqa: ASYNC251 - so that both are due in the same turn of the loop
        assert await late is None
        assert buffers.held == 1
        assert not needs_room.done()
        needs_room.cancel()
        await asyncio.gather(needs_room, return_exceptions=True)

    async def test_a_whole_body_is_not_dropped(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its clip is being decoded, and only bodies that are still coming can go."""
        monkeypatch.setattr(bodies, "MAX_BUFFERED_BYTES", len(SPEECH))
        stand.classifier.decoding.shut()
        whole = post(stand)
        await stand.classifier.decoding.reached()
        assert problem(await post(stand)) == "overloaded"
        stand.let_go()
        assert (await whole).status_code == 200

    async def test_a_length_that_is_no_length_is_counted(self, stand: Stand) -> None:
        """Servers refuse such headers; behind one that doesn't, the bytes count."""
        for length in ("", "-1", "many", "9" * 5000):
            headers = {"content-length": length}
            answer = await stand.client.post(CLASSIFY, content=in_pieces(SPEECH), headers=headers)
            assert answer.status_code in {200, 413}
