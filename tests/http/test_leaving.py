"""Clients that go before they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from service.envelope import CLIENT_GONE
from tests.support.asking import CLASSIFY, SPEECH, WINDOWS, Standing, post
from tests.support.stand import PATIENCE_S, Stand

pytestmark = pytest.mark.asyncio


class Leaver:
    """A client that sends a whole clip, and then can go."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._messages: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": SPEECH, "more_body": False}
        ]
        self._gone = asyncio.Event()
        self.sent: list[MutableMapping[str, Any]] = []
        self.request = asyncio.ensure_future(self._ask())

    async def _ask(self) -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "path": CLASSIFY,
            "query_string": b"",
            "headers": [(b"content-type", b"audio/wav")],
        }
        await self._stand.app(scope, self._receive, self._send)

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._messages:
            return self._messages.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)

    async def leave(self) -> None:
        """Disconnect, and wait for the app to have noticed."""
        self._gone.set()
        async with asyncio.timeout(PATIENCE_S):
            await self.request


class TestLeaving:
    """Nobody works for a client that has gone."""

    async def test_queued_windows_are_dropped(self, stand: Stand) -> None:
        """Their place is free for others at once, and nothing of them is computed."""
        stand.runner.gate.shut()
        staying = post(stand)
        await stand.runner.gate.reached()
        await stand.serving.submitted()
        leaver = Leaver(stand)
        await stand.serving.submitted()
        assert stand.serving.admission.in_flight == 2 * WINDOWS
        await leaver.leave()
        await stand.metrics.drop.wait()
        assert stand.sample("timbre_dropped_windows_total", reason="cancelled") == WINDOWS
        assert stand.serving.admission.in_flight == WINDOWS
        assert stand.serving._batcher.queued == 0
        assert [message.get("status") for message in leaver.sent] == [CLIENT_GONE, None]
        stand.let_go()
        assert (await staying).status_code == 200
        assert sum(stand.runner.batches) == WINDOWS
        gone = {"route": CLASSIFY, "status": str(CLIENT_GONE), "traffic": "live"}
        assert stand.sample("timbre_requests_total", **gone) == 1

    async def test_leaving_while_the_clip_is_decoded(self, make: Standing) -> None:
        """The place in the backlog is free again; what is decoded goes nowhere."""
        async with make(decode_backlog=1) as stand:
            stand.classifier.decoding.shut()
            leaver = Leaver(stand)
            await stand.classifier.decoding.reached()
            await leaver.leave()
            stand.let_go()
            assert (await post(stand)).status_code == 200
            assert sum(stand.runner.batches) == WINDOWS

    async def test_leaving_while_sending(self, stand: Stand) -> None:
        """A body that breaks off is no error of the server's, and its bytes are given back."""
        messages: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": SPEECH[:100], "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> MutableMapping[str, Any]:
            return messages.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            assert message.get("status", CLIENT_GONE) == CLIENT_GONE

        scope = {
            "type": "http",
            "method": "POST",
            "path": CLASSIFY,
            "query_string": b"",
            "headers": [],
        }
        await stand.app(scope, receive, send)
        gone = {"route": CLASSIFY, "status": str(CLIENT_GONE), "traffic": "live"}
        assert stand.sample("timbre_requests_total", **gone) == 1
        assert stand.desk.buffers.held == 0
