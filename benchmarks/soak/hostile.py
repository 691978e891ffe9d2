"""A process of hostile clients: `python -m benchmarks.soak.hostile`, told by JSON on stdin.

Slow ones say a byte now and then, in the headers or in the body, and come again when they are hung
up on. Hoarders do the same, after as many bytes as a body may have. Leavers go at every stage.
Scribblers send what is no clip, or no HTTP. It says on stdout how often each came, and went how.
"""

from __future__ import annotations

import asyncio
import json
import random
import socket
import struct
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvloop

PAUSE_S = 2.0
"""Between two bytes of a slow client."""
AGAIN_S = 0.2
"""Until a client that was hung up on comes again."""
HOARD_BYTES = 9 * 2**20
STAGES = ("headers", "body", "queue", "engine")
"""Where a leaver leaves: the last two have sent everything."""
HEAD = b"POST /v1/classify HTTP/1.1\r\nhost: hostile\r\n"
SCRIBBLES = (
    HEAD + b"content-length: 20\r\n\r\n" + b"RIFF" + bytes(16),
    HEAD + b"content-length: 9999\r\ncontent-type: text/plain\r\n\r\n" + bytes(9999),
    HEAD + b"content-length: 99999999\r\n\r\n",
    HEAD + b"content-type: multipart/form-data\r\ncontent-length: 3\r\n\r\nabc",
    b"GET /v1/none HTTP/1.1\r\nhost: hostile\r\n\r\n",
    b"\0" * 100,
    b"POST /v1/classify HTTP/1.1\r\ncontent-length: x\r\n\r\n",
)


class Hostile:
    """The clients, and a count of what became of them."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._port: int = plan["port"]
        self._plan = plan
        self._until: float = plan["begin"] + plan["seconds"]
        self._random = random.Random(0)  # noqa: S311 - chance that can be repeated
        self._clip = Path(plan["requests"][0]).read_bytes()
        self.came: Counter[str] = Counter()

    async def run(self) -> None:
        """Do all of it until the time is up."""
        await asyncio.sleep(self._plan["begin"] - time.monotonic())
        head, _, body = self._clip.partition(b"\r\n\r\n")
        declared = HEAD + b"content-length: %d\r\n\r\n" % (HOARD_BYTES + 1000)
        kinds = {
            "slow headers": HEAD + b"x-slow: ",
            "slow body": head + b"\r\n\r\n" + body[:1000],
            "hoard": declared + bytes(HOARD_BYTES),
        }
        clients = [
            self._slow(kind, first)
            for kind, first in kinds.items()
            for _ in range(self._plan.get(kind, 0))
        ]
        clients += [
            self._often(visit, self._plan[name])
            for name, visit in (("leavers", self._leave), ("scribblers", self._scribble))
            if self._plan.get(name)
        ]
        with suppress(TimeoutError):
            async with asyncio.timeout(self._until - time.monotonic()):
                await asyncio.gather(*clients)

    async def _slow(self, kind: str, first: bytes) -> None:
        """Send the first bytes and then one at a time, until hung up on; then again."""
        await asyncio.sleep(self._random.random() * PAUSE_S)
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                self.came[kind] += 1
                hears = asyncio.ensure_future(self._hear(kind, reader))
                try:
                    writer.write(first)
                    while not hears.done():
                        writer.write(b"a")
                        await asyncio.wait([hears], timeout=PAUSE_S)
                finally:
                    hears.cancel()
                    writer.transport.abort()
            await asyncio.sleep(AGAIN_S)

    async def _hear(self, kind: str, reader: asyncio.StreamReader) -> None:
        """Count an answer, if any comes, and return when the server closes."""
        with suppress(OSError):
            while data := await reader.read(65_536):
                if data.startswith(b"HTTP/1.1 "):
                    self.came[f"{kind}: {data[9:12].decode()}"] += 1
        self.came[f"{kind}: hung up on"] += 1

    async def _often(self, visit: Any, rate: float) -> None:  # noqa: ANN401 - a method
        """Have visits at a rate, each in a task of its own."""
        async with asyncio.TaskGroup() as visits:
            while True:
                await asyncio.sleep(self._random.expovariate(rate))
                visits.create_task(visit())

    async def _leave(self) -> None:
        """Send some or all of a request and go, by FIN or by RST."""
        stage = self._random.choice(STAGES)
        part = {"headers": 40, "body": len(self._clip) // 2}.get(stage, len(self._clip))
        with suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            self.came[f"left in {stage}"] += 1
            writer.write(self._clip[:part])
            await writer.drain()
            if stage != "queue":
                await asyncio.sleep(self._random.random() * self._plan["answer_s"])
            if self._random.random() < 0.5:  # noqa: PLR2004 - one half so, one half so
                _reset(writer)
            else:
                writer.close()

    async def _scribble(self) -> None:
        """Send what can only be refused, and count how it is."""
        with suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            writer.write(self._random.choice(SCRIBBLES))
            async with asyncio.timeout(PAUSE_S):
                line = await reader.readline()
            self.came[f"scribble: {line[9:12].decode('latin-1') or 'hung up on'}"] += 1
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close by RST: the other side is told at once, whatever is still on its way."""
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


def main() -> None:
    """Read the plan, be hostile, and tell."""
    hostile = Hostile(json.load(sys.stdin))
    uvloop.run(hostile.run())
    json.dump(hostile.came, sys.stdout)


if __name__ == "__main__":
    main()
