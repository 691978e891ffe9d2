"""The internal port: a second, small server in the worker, for what no gateway may reach.

In the event loop of the first one, because what it serves belongs to that loop; so it also answers
for as long as anything is answered, and a loop that is stuck is stuck on both.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import uvicorn

from service.domain import TimbreError

if TYPE_CHECKING:
    from starlette.types import ASGIApp

CLOSE_S = 2
"""Seconds that answers under way have when it closes: nobody waits longer for a slow scraper."""


class CannotListen(TimbreError):
    """The internal port cannot be opened."""

    slug = "cannot-listen"
    title = "The internal port cannot be opened"


def listen(host: str, port: int) -> socket.socket:
    """Open the port; connections wait until a server takes them.

    Raises:
        CannotListen: it is taken, or not for us to take.
    """
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.listen()
    except OSError as error:
        opened.close()
        raise CannotListen(
            f"Cannot listen on {host} port {port} for /metrics: {error.strerror}; "
            "TIMBRE_INTERNAL_PORT chooses another port, 0 none."
        ) from error
    return opened


class InternalServer:
    """Serves an app on an open port, from `start` to `close`, in the loop that calls them."""

    def __init__(self, app: ASGIApp, opened: socket.socket) -> None:
        """Take what `listen` gave."""
        self._socket = opened
        self._server = _Server(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=CLOSE_S,
            )
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take connections from now on."""
        self._task = asyncio.ensure_future(self._server.serve(sockets=[self._socket]))

    async def close(self) -> None:
        """Take no more, and return when those there are have their answers, or `CLOSE_S` later."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves the signals to the one it is beside."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield
