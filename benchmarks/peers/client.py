"""The load: clients in a closed loop, or arrivals on a schedule, over plain HTTP/1.1.

A few lines of asyncio, since it shares the machine with the servers; requests are made before the
measurement and answers read after it. A latency counts from when a request was *due*: a schedule
that falls behind, because the server or this client stalls, is waiting time of the requests that it
delays, not time in which nothing was asked (coordinated omission).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus

REFUSED = 0
"""The status of a request whose connection was refused."""
BROKEN = 1
"""The status of a request that was sent, and whose connection was closed or timed out."""
TIMEOUT_S = 120.0
BACK_OFF_S = 0.05
"""A client in a closed loop that was refused waits this long before it goes on."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request and its answer; times are of one monotonic clock, in seconds."""

    clip: int
    due: float
    sent: float
    done: float
    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether it was answered with 200."""
        return self.status == HTTPStatus.OK

    @property
    def latency_s(self) -> float:
        """From when it should have been sent."""
        return self.done - self.due


class Connection:
    """A connection that is kept while the server keeps it, and opened again otherwise."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request and read its answer: status (`REFUSED`, `BROKEN` for none) and body."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._exchange(request)
        except ConnectionRefusedError:
            return REFUSED, b""
        except (OSError, ValueError, IndexError, asyncio.IncompleteReadError):
            self.close()
            return BROKEN, b""

    async def _exchange(self, request: bytes) -> tuple[int, bytes]:
        if self._left():
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        writer.write(request)
        await writer.drain()
        status = int((await reader.readline()).split()[1])
        length, keep = 0, True
        while (line := await reader.readline()) not in {b"\r\n", b""}:
            name, _, value = line.decode("latin-1").partition(":")
            if name.lower() == "content-length":
                length = int(value)
            elif name.lower() == "connection":
                keep = value.strip().lower() != "close"
        body = await reader.readexactly(length)
        if not keep:
            self.close()
        return status, body

    def _left(self) -> bool:
        """Whether the server has closed it since the last answer, as it may at any time."""
        if self._streams is None:
            return False
        reader, writer = self._streams
        return reader.at_eof() or writer.is_closing()

    def close(self) -> None:
        """Let the connection go."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


async def closed_loop(
    port: int,
    requests: Sequence[bytes],
    *,
    clients: int,
    count: int,
    progress: Callable[[int], object] = lambda _: None,
) -> list[Sample]:
    """Ask `count` times with `clients` clients, each asking again when it has its answer."""
    numbers = iter(range(count))
    samples: list[Sample] = []

    async def client() -> None:
        connection = Connection(port)
        for number in numbers:
            due = time.monotonic()
            status, body = await connection.ask(requests[number % len(requests)])
            clip = number % len(requests)
            samples.append(Sample(clip, due, due, time.monotonic(), status, body))
            progress(1)
            if status != HTTPStatus.OK:
                await asyncio.sleep(BACK_OFF_S)
        connection.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return samples


async def open_loop(
    port: int,
    requests: Sequence[bytes],
    schedule: Sequence[float],
    progress: Callable[[int], object] = lambda _: None,
) -> list[Sample]:
    """Ask at each time of `schedule` (seconds from now), whether or not answers are due.

    Returns when the last is answered.
    """
    idle: list[Connection] = []
    samples: list[Sample] = []
    started = time.monotonic()

    async def ask(number: int, due: float) -> None:
        connection = idle.pop() if idle else Connection(port)
        sent = time.monotonic()
        status, body = await connection.ask(requests[number % len(requests)])
        done = time.monotonic()
        samples.append(Sample(number % len(requests), due, sent, done, status, body))
        idle.append(connection)
        progress(1)

    async with asyncio.TaskGroup() as asking:
        for number, after in enumerate(schedule):
            await asyncio.sleep(started + after - time.monotonic())
            asking.create_task(ask(number, started + after))
    for connection in idle:
        connection.close()
    return samples
