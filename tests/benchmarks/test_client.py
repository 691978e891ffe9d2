"""The load, against a server of a few lines that takes as long as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.peers.client import REFUSED, Connection, closed_loop, open_loop
from benchmarks.peers.processes import free_port

SERVICE_S = 0.05
REQUEST = b"POST / HTTP/1.1\r\ncontent-length: 2\r\n\r\nhi"


@asynccontextmanager
async def a_server(*, keeps: bool = True) -> AsyncIterator[tuple[int, list[int]]]:
    """Answer one request at a time, each after `SERVICE_S`; tells how many connections it had."""
    turn, connections = asyncio.Lock(), [0]
    closing = "" if keeps else "Connection: close\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[0] += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await reader.readexactly(2)
                async with turn:
                    await asyncio.sleep(SERVICE_S)
                writer.write(f"HTTP/1.1 200 OK\r\n{closing}Content-Length: 2\r\n\r\n[]".encode())
                await writer.drain()
                if not keeps:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], connections


@pytest.mark.asyncio
async def test_a_late_answer_counts_from_when_its_request_was_due() -> None:
    """Ten requests due at once wait for each other: the k-th takes k times the service."""
    async with a_server() as (port, _):
        samples = await open_loop(port, [REQUEST], [0.0] * 10)
    latencies = sorted(sample.latency_s for sample in samples)
    assert len(latencies) == 10
    assert all(late >= 0.9 * (k + 1) * SERVICE_S for k, late in enumerate(latencies))


@pytest.mark.asyncio
async def test_a_client_that_stalls_charges_the_wait_to_the_requests() -> None:
    """Coordinated omission: what is sent late was due all the same."""

    async def stall() -> None:
        await asyncio.sleep(0.05)
        until = asyncio.get_running_loop().time() + 0.3
        while asyncio.get_running_loop().time() < until:
            pass

    async with a_server() as (port, _):
        stalled = asyncio.create_task(stall())
        samples = await open_loop(port, [REQUEST], [0.1])
        await stalled
    assert samples[0].sent - samples[0].due > 0.1
    assert samples[0].latency_s > 0.1 + SERVICE_S


@pytest.mark.asyncio
async def test_a_closed_loop_never_has_more_under_way_than_clients() -> None:
    """Each asks again when it has its answer, on the connection it has, about each clip in turn."""
    async with a_server() as (port, connections):
        samples = await closed_loop(port, [REQUEST, REQUEST], clients=3, count=9)
    assert connections == [3]
    assert all(sample.ok for sample in samples)
    assert sorted(sample.clip for sample in samples) == [0] * 5 + [1] * 4


@pytest.mark.asyncio
async def test_a_server_that_closes_connections_is_asked_on_new_ones() -> None:
    """As gunicorn's plain workers do."""
    async with a_server(keeps=False) as (port, connections):
        samples = await closed_loop(port, [REQUEST], clients=1, count=3)
    assert all(sample.ok for sample in samples)
    assert connections == [3]


@pytest.mark.asyncio
async def test_a_server_that_is_gone_is_a_failed_request_and_no_error() -> None:
    """The load goes on and the row says how many failed."""
    samples = await closed_loop(free_port(), [REQUEST], clients=1, count=2)
    assert [sample.status for sample in samples] == [REFUSED, REFUSED]


@pytest.mark.asyncio
async def test_a_connection_that_the_server_has_closed_at_rest_is_not_used_again() -> None:
    """HTTP lets a server do so, and clients look before they send."""
    closed = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"hi")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        writer.close()
        closed.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        connection = Connection(server.sockets[0].getsockname()[1])
        for _ in range(3):
            assert (await connection.ask(REQUEST))[0] == 200
            await closed.wait()
            await asyncio.sleep(0.01)  # the end is under way through the kernel
            closed.clear()
        connection.close()
