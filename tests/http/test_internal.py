"""The internal port: a server beside the public one, in the same event loop."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio

from service.http import Desk, create_internal_app
from service.internal import CLOSE_S, CannotListen, InternalServer, listen
from tests.support.stand import PATIENCE_S

pytestmark = pytest.mark.asyncio

HOST = "127.0.0.1"


@pytest.fixture
def opened() -> socket.socket:
    """A port that is open; its server closes it."""
    return listen(HOST, 0)


@pytest_asyncio.fixture
async def internal(opened: socket.socket) -> AsyncIterator[InternalServer]:
    """A server on it that answers."""
    server = InternalServer(create_internal_app(Desk()), opened)
    server.start()
    async with httpx.AsyncClient(base_url=url(opened), timeout=PATIENCE_S) as client:
        assert (await client.get("/metrics")).status_code == 200
    yield server
    await server.close()


def url(opened: socket.socket) -> str:
    """Name the address of a port."""
    return f"http://{HOST}:{opened.getsockname()[1]}"


class TestListening:
    """The port is open before anything is loaded, or the start ends there."""

    async def test_a_port_that_is_taken_is_one_sentence(self, opened: socket.socket) -> None:
        """With what to do."""
        port = opened.getsockname()[1]
        with opened, pytest.raises(CannotListen) as refusal:
            listen(HOST, port)
        assert str(refusal.value) == (
            f"Cannot listen on {HOST} port {port} for /metrics: Address already in use; "
            "TIMBRE_INTERNAL_PORT chooses another port, 0 none."
        )

    async def test_an_address_of_another_machine_is_one_sentence(self) -> None:
        """As what is taken."""
        with pytest.raises(CannotListen, match=r"^Cannot listen on 192\.0\.2\.1 port 3001 for "):
            listen("192.0.2.1", 3001)

    async def test_who_comes_before_it_is_served_waits(self, opened: socket.socket) -> None:
        """A scrape during the load is late, not refused."""
        async with httpx.AsyncClient(base_url=url(opened), timeout=PATIENCE_S) as client:
            scrape = asyncio.ensure_future(client.get("/metrics"))
            await asyncio.sleep(0.05)  # long enough to be refused
            assert not scrape.done()
            server = InternalServer(create_internal_app(Desk()), opened)
            server.start()
            assert (await scrape).status_code == 200
            await server.close()


class TestServing:
    """It answers what create_internal_app has, and nothing of the process is its own."""

    async def test_signals_stay_with_the_public_server(self, opened: socket.socket) -> None:
        """It would take SIGTERM for itself, and nobody would drain."""
        before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        server = InternalServer(create_internal_app(Desk()), opened)
        server.start()
        async with httpx.AsyncClient(base_url=url(opened), timeout=PATIENCE_S) as client:
            assert (await client.get("/metrics")).status_code == 200
        after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        await server.close()
        assert after == before

    async def test_closing_refuses_the_next_one(
        self, internal: InternalServer, opened: socket.socket
    ) -> None:
        """Idle connections are closed, and it returns at once."""
        where = url(opened)
        async with httpx.AsyncClient(base_url=where) as client:
            assert (await client.get("/metrics")).status_code == 200
            async with asyncio.timeout(CLOSE_S):
                await internal.close()
            with pytest.raises(httpx.TransportError):
                await client.get("/metrics")

    async def test_a_slow_answer_is_not_waited_for(self, opened: socket.socket) -> None:
        """A scraper that hangs doesn't hold up the end of the pod."""
        asked = asyncio.Event()

        async def never(_: object, __: object, ___: object) -> None:
            asked.set()
            await asyncio.get_running_loop().create_future()

        server = InternalServer(never, opened)
        server.start()
        async with httpx.AsyncClient(base_url=url(opened), timeout=PATIENCE_S) as client:
            scrape = asyncio.ensure_future(client.get("/metrics"))
            await asked.wait()
            async with asyncio.timeout(PATIENCE_S):
                await server.close()
            assert (await scrape).status_code == 500

    async def test_one_that_never_started_closes(self, opened: socket.socket) -> None:
        """A start that failed elsewhere ends as well."""
        with opened:
            await InternalServer(create_internal_app(Desk()), opened).close()
