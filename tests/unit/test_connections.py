"""Connections by themselves: a fake transport, a clock of the test's own, and uvicorn's parser."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from service.connections import MAX_HEAD_BYTES, OTHER_FILES, Connection, Crowd, HangUp, room_for

PATIENCE_S = 10.0
KEEP_ALIVE_S = 120
HEAD = b"POST / HTTP/1.1\r\nhost: a\r\n"
REQUEST = HEAD + b"content-length: 4\r\n\r\n"
BODY = b"clip"


class Handle:
    """A timer that can be cancelled."""

    def __init__(self, at: float, call: Callable[[], object]) -> None:
        self.at, self.call, self.cancelled = at, call, False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """An event loop's timers, on a clock that a test turns; its tasks are the real one's."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[Handle] = []

    def call_later(self, delay: float, call: Callable[..., object], *args: object) -> Handle:
        self._timers.append(Handle(self.now + delay, lambda: call(*args)))
        return self._timers[-1]

    def create_task(self, work: Any, **_: object) -> asyncio.Task[None]:  # noqa: ANN401
        return asyncio.get_running_loop().create_task(work)

    def pass_time(self, seconds: float) -> None:
        """Let that much time pass, and what is due happen."""
        self.now += seconds
        for timer in list(self._timers):
            if timer.at <= self.now and not timer.cancelled:
                timer.cancel()
                timer.call()


class Transport:
    """The other end of a connection: what was written, and whether it was closed or cut off."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.written = b""
        self.unread = 0
        self.closed = self.aborted = False

    def get_extra_info(self, _: str) -> None:
        return None

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unread

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True
        self._connection.connection_lost(None)

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        """Nothing comes that the test doesn't send."""

    resume_reading = pause_reading


class Stand:
    """A crowd whose connections a test opens, and an app that answers when the test says so."""

    def __init__(self, limit: int = 100) -> None:
        self.loop = Loop()
        self.hung_up: Counter[HangUp] = Counter()
        self.crowd = Crowd(limit, hung_up=lambda why: self.hung_up.update([why]))
        self._answers = asyncio.Semaphore(0)
        self.early = False
        self.config = uvicorn.Config(
            self._app,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            ws="none",
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        self.config.load()
        self.state = ServerState()

    async def _app(self, _: Scope, receive: Receive, send: Send) -> None:
        while not self.early and (await receive()).get("more_body"):
            pass
        await self._answers.acquire()
        head = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": b"ok"})

    def answer(self, requests: int = 10) -> None:
        """Let so many requests be answered."""
        for _ in range(requests):
            self._answers.release()

    def open(self) -> tuple[Connection, Transport]:
        """Connect."""
        connection = Connection(
            self.config,
            self.state,
            {},
            self.loop,
            crowd=self.crowd,
            patience_s=PATIENCE_S,
        )
        transport = Transport(connection)
        connection.connection_made(transport)  # type: ignore[arg-type]
        return connection, transport


async def settle() -> None:
    """Let the app go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


pytestmark = pytest.mark.asyncio


class TestTime:
    """A client that keeps the server waiting is hung up on, at its limit and not before."""

    @pytest.mark.parametrize("sent", [b"", b"P", HEAD, b"\r\n"])
    async def test_headers_have_a_deadline(self, sent: bytes) -> None:
        """From the connection on, whatever came so far and however often it comes."""
        stand = Stand()
        connection, transport = stand.open()
        stand.loop.pass_time(PATIENCE_S / 2)
        if sent:
            connection.data_received(sent)
        stand.loop.pass_time(PATIENCE_S / 2 - 0.01)
        assert not transport.closed
        stand.loop.pass_time(0.02)
        assert transport.aborted
        assert stand.hung_up == {"slow": 1}
        assert len(stand.crowd) == 0

    async def test_a_body_has_no_deadline_here(self) -> None:
        """It has one of its own, with an answer (bodies.py)."""
        stand = Stand()
        connection, transport = stand.open()
        connection.data_received(REQUEST)
        stand.loop.pass_time(10 * PATIENCE_S)
        assert not transport.closed
        connection.data_received(BODY)
        stand.answer()
        await settle()
        assert transport.written.endswith(b"ok")

    @pytest.mark.parametrize("sent", [b"P", b"\r\n"])
    async def test_the_next_request_s_headers_have_one_too(self, sent: bytes) -> None:
        """From their first byte on; until then the connection may rest, as uvicorn allows."""
        stand = Stand()
        stand.answer()
        connection, transport = stand.open()
        connection.data_received(REQUEST + BODY)
        await settle()
        stand.loop.pass_time(KEEP_ALIVE_S - 1)
        assert not transport.closed
        connection.data_received(sent)
        stand.loop.pass_time(PATIENCE_S - 0.01)
        assert not transport.closed
        stand.loop.pass_time(0.02)
        assert transport.aborted

    @pytest.mark.parametrize("sent", [b"P", HEAD])
    async def test_headers_that_begin_before_an_answer_have_theirs_from_it_on(
        self, sent: bytes
    ) -> None:
        """The connection doesn't rest then, and another byte gives them no more time."""
        stand = Stand()
        connection, transport = stand.open()
        connection.data_received(REQUEST + BODY + sent)
        stand.loop.pass_time(2 * PATIENCE_S)
        assert not transport.closed
        stand.answer()
        await settle()
        stand.loop.pass_time(PATIENCE_S - 0.01)
        assert not transport.closed
        connection.data_received(b"O")
        stand.loop.pass_time(0.02)
        assert transport.aborted

    async def test_an_idle_connection_is_closed_in_the_end(self) -> None:
        stand = Stand()
        stand.answer()
        connection, transport = stand.open()
        connection.data_received(REQUEST + BODY)
        await settle()
        stand.loop.pass_time(KEEP_ALIVE_S)
        assert transport.closed
        assert not stand.hung_up

    async def test_the_rest_of_a_body_that_was_answered_early_has_a_deadline(self) -> None:
        """Or a byte now and then would keep the connection for ever."""
        stand = Stand()
        stand.early = True
        stand.answer()
        connection, transport = stand.open()
        connection.data_received(REQUEST)
        await settle()
        assert transport.written.endswith(b"ok")
        connection.data_received(BODY[:1])
        stand.loop.pass_time(PATIENCE_S)
        assert transport.aborted

    async def test_when_the_rest_has_come_the_connection_may_rest(self) -> None:
        """A client that was refused early goes on using its connection."""
        stand = Stand()
        stand.early = True
        stand.answer()
        connection, transport = stand.open()
        connection.data_received(REQUEST)
        await settle()
        connection.data_received(BODY)
        stand.loop.pass_time(KEEP_ALIVE_S - 1)
        assert not transport.closed
        stand.loop.pass_time(1)
        assert transport.closed

    async def test_a_client_that_does_not_read_is_hung_up_on(self) -> None:
        """One that reads slowly is not."""
        stand = Stand()
        connection, transport = stand.open()
        connection.data_received(REQUEST + BODY)
        for _ in range(3):
            connection.pause_writing()
            stand.loop.pass_time(PATIENCE_S - 0.01)
            connection.resume_writing()
        assert not transport.closed
        connection.pause_writing()
        stand.loop.pass_time(PATIENCE_S)
        assert transport.aborted

    async def test_another_request_gives_no_more_time_to_read(self) -> None:
        """Its answer would wait for ever behind one that nobody reads."""
        stand = Stand()
        connection, transport = stand.open()
        connection.data_received(REQUEST + BODY)
        stand.answer()
        await settle()
        connection.pause_writing()
        stand.loop.pass_time(PATIENCE_S / 2)
        connection.data_received(REQUEST + BODY)
        await settle()
        stand.loop.pass_time(PATIENCE_S / 2 + 0.01)
        aborted = transport.aborted
        transport.abort()  # or the app would go on waiting, if the test fails
        assert aborted

    async def test_who_reads_late_gets_no_more_time_for_the_next_headers(self) -> None:
        """A part of them has come, so the connection doesn't rest."""
        stand = Stand()
        connection, transport = stand.open()
        connection.data_received(REQUEST + BODY)
        stand.answer()
        await settle()
        connection.pause_writing()
        connection.data_received(HEAD)
        connection.resume_writing()
        stand.loop.pass_time(PATIENCE_S)
        assert transport.aborted

    @pytest.mark.parametrize("unread", [0, 1])
    @pytest.mark.parametrize("why", ["asked", "rested", "shut down", "shut down early"])
    async def test_a_closed_connection_s_last_bytes_have_a_deadline(
        self, why: str, unread: int
    ) -> None:
        """However it came to be closed; a transport by itself would keep it until they are read."""
        stand = Stand()
        connection, transport = stand.open()
        transport.unread = unread
        close = HEAD + b"connection: close\r\ncontent-length: 4\r\n\r\n"
        connection.data_received((close if why == "asked" else REQUEST) + BODY)
        await settle()
        if why == "shut down early":
            connection.shutdown()
        stand.answer()
        await settle()
        if why == "shut down":
            connection.shutdown()
        if why == "rested":
            stand.loop.pass_time(KEEP_ALIVE_S)
        assert transport.closed
        stand.loop.pass_time(PATIENCE_S - 0.01)
        assert not transport.aborted
        stand.loop.pass_time(0.02)
        assert transport.aborted is bool(unread)
        assert stand.hung_up == ({"slow": 1} if unread else {})

    async def test_who_reads_a_part_of_a_closed_connection_s_answer_has_time_for_the_rest(
        self,
    ) -> None:
        """And no longer than that."""
        stand = Stand()
        connection, transport = stand.open()
        connection.data_received(REQUEST + BODY)
        stand.answer()
        await settle()
        connection.pause_writing()
        transport.unread = 2
        connection.shutdown()
        stand.loop.pass_time(PATIENCE_S / 2)
        transport.unread = 1
        connection.resume_writing()
        stand.loop.pass_time(PATIENCE_S - 0.01)
        assert not transport.aborted
        stand.loop.pass_time(0.02)
        assert transport.aborted


class TestNumber:
    """One connection more than the limit costs the one that has been waited for longest."""

    async def test_as_many_as_the_limit_stay(self) -> None:
        """Who comes after that takes the place of the first."""
        stand = Stand(limit=3)
        transports = [stand.open()[1] for _ in range(3)]
        assert not any(transport.closed for transport in transports)
        transports.append(stand.open()[1])
        assert [transport.aborted for transport in transports] == [True, False, False, False]
        assert len(stand.crowd) == 3
        assert stand.hung_up == {"crowded": 1}

    async def test_who_is_owed_an_answer_stays(self) -> None:
        """Even if all are, and the new one has to go."""
        stand = Stand(limit=2)
        clients = [stand.open() for _ in range(2)]
        for connection, _ in clients:
            connection.data_received(REQUEST + BODY)
        assert stand.open()[1].aborted
        stand.answer()
        await settle()
        assert all(transport.written.endswith(b"ok") for _, transport in clients)

    async def test_waiting_counts_from_the_last_answer_or_the_request_s_begin(self) -> None:
        """Who rests has waited since then, and who sends since the first byte."""
        stand = Stand(limit=3)
        stand.answer()
        rests, begins, still = [stand.open() for _ in range(3)]
        rests[0].data_received(REQUEST + BODY)
        await settle()
        begins[0].data_received(HEAD)
        begins[0].data_received(b"content-length: 4\r\n\r\nc")
        order = []
        for _ in range(3):
            stand.open()
            order.append([client[1].aborted for client in (rests, begins, still)])
        assert order == [[False, False, True], [True, False, True], [True, True, True]]

    async def test_who_has_sent_two_requests_is_owed_the_second_answer(self) -> None:
        """After the first, too."""
        stand = Stand(limit=1)
        connection, transport = stand.open()
        connection.data_received(2 * (REQUEST + BODY))
        stand.answer(1)
        await settle()
        assert stand.open()[1].aborted
        stand.answer(1)
        await settle()
        assert transport.written.count(b"ok") == 2
        assert not stand.open()[1].closed

    @pytest.mark.parametrize("sent", [b"P", HEAD, REQUEST, REQUEST + BODY[:1]])
    async def test_who_has_begun_another_request_is_owed_the_answer_to_the_first(
        self, sent: bytes
    ) -> None:
        """Until it has it: from then on the server waits for the rest of the other."""
        stand = Stand(limit=1)
        connection, transport = stand.open()
        connection.data_received(REQUEST + BODY + sent)
        assert stand.open()[1].aborted
        stand.answer(1)
        await settle()
        assert transport.written.endswith(b"ok")
        assert not stand.open()[1].closed
        assert transport.aborted

    async def test_who_does_not_read_can_be_the_one(self) -> None:
        """An answer that nobody takes is no reason to stay."""
        stand = Stand(limit=1)
        connection, transport = stand.open()
        connection.data_received(REQUEST + BODY)
        connection.pause_writing()
        _, other = stand.open()
        assert transport.aborted
        assert not other.closed

    async def test_who_has_gone_makes_room(self) -> None:
        stand = Stand(limit=1)
        connection, _ = stand.open()
        connection.connection_lost(None)
        assert len(stand.crowd) == 0
        assert not stand.open()[1].closed


class TestSize:
    """What isn't a body is bounded."""

    async def test_headers_without_an_end_are_refused(self) -> None:
        """One byte more than the limit."""
        stand = Stand()
        connection, transport = stand.open()
        head = HEAD + b"x: "
        connection.data_received(head + b"a" * (MAX_HEAD_BYTES - len(head)))
        assert not transport.closed
        connection.data_received(b"a")
        assert transport.closed
        assert transport.written.startswith(b"HTTP/1.1 400 ")

    async def test_so_are_the_trailers_of_a_body(self) -> None:
        """They come where a body has its time limit, but none of its limits of size."""
        stand = Stand()
        connection, transport = stand.open()
        connection.data_received(HEAD + b"transfer-encoding: chunked\r\n\r\n4\r\nclip\r\n0\r\n")
        for number in range(MAX_HEAD_BYTES // 1000 + 1):
            connection.data_received(b"x%3d: %s\r\n" % (number, b"a" * 1000))
        assert transport.closed

    async def test_a_body_is_not(self) -> None:
        """It is bounded where it is read; here any number of bytes passes."""
        stand = Stand()
        connection, transport = stand.open()
        connection.data_received(HEAD + b"content-length: %d\r\n\r\n" % (4 * MAX_HEAD_BYTES))
        for _ in range(4):
            connection.data_received(bytes(MAX_HEAD_BYTES))
        stand.answer()
        await settle()
        assert transport.written.endswith(b"ok")


class TestRoom:
    """The limit of open files follows the limit of connections, as far as it may."""

    @pytest.fixture
    def limits(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
        """Have limits of the test's own, the last one being in force."""
        limits = [(256, 1024)]
        monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
        monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
        return limits

    async def test_what_is_enough_is_left_alone(self, limits: list[tuple[int, int]]) -> None:
        assert room_for(256 - OTHER_FILES) == 256 - OTHER_FILES
        assert limits == [(256, 1024)]

    async def test_what_is_too_little_is_raised(self, limits: list[tuple[int, int]]) -> None:
        assert room_for(1024 - OTHER_FILES) == 1024 - OTHER_FILES
        assert limits[-1] == (1024, 1024)

    async def test_more_than_there_may_be_is_cut(
        self, limits: list[tuple[int, int]], caplog: pytest.LogCaptureFixture
    ) -> None:
        """And said: accepting would fail, over and over."""
        caplog.set_level(logging.WARNING, "timbre")  # whatever libraries did to the root's
        assert room_for(1024 - OTHER_FILES + 1) == 1024 - OTHER_FILES
        assert limits[-1] == (1024, 1024)
        assert "960 connections" in caplog.text
