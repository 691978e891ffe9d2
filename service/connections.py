"""Connections, bounded in number and in how long each may keep the server waiting.

uvicorn waits for a request's headers for ever, takes as many of them as come, and as many
connections. A client that says little, slowly, on many of them would in the end hold every file
descriptor there is. Here a client that keeps the server waiting is hung up on, after a while, or as
soon as somebody else needs the place. Bodies have a time limit of their own (bodies.py).
"""

from __future__ import annotations

import logging
import resource
from asyncio import TimerHandle, Transport
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

logger = logging.getLogger("timbre")

MAX_HEAD_BYTES = 64 * 1024
"""Of a request line and headers, or of the trailers of a body, without their end."""
OTHER_FILES = 64
"""File descriptors that a server needs beside its connections; about 40 are usual."""

HangUp: TypeAlias = Literal["slow", "crowded"]
"""Why a client was hung up on: its time was up, or a new one needed the place."""


class Crowd:
    """The connections of a process, up to `limit`; those that wait for their clients in order.

    One more than `limit` costs the connection that has kept the server waiting for longest. Whoever
    is owed an answer is never hung up on, and as only so much is admitted there is always another.
    """

    def __init__(self, limit: int, *, hung_up: Callable[[HangUp], object] = lambda _: None) -> None:
        """Start empty.

        Args:
            limit: connections open at a time.
            hung_up: told why each time that a client is hung up on.
        """
        self.limit = limit
        self.hung_up = hung_up
        self._open: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}  # in the order of their waiting, like a set

    def __len__(self) -> int:
        """Count the connections that are open."""
        return len(self._open)

    def join(self, connection: Connection) -> None:
        """Take a new connection in; it waits for its client."""
        self._open.add(connection)
        self.wait(connection)
        if len(self._open) > self.limit:
            next(iter(self._waiting)).hang_up("crowded")

    def wait(self, connection: Connection) -> None:
        """Note that from now on it is the client's turn."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = None

    def work(self, connection: Connection) -> None:
        """Note that from now on it is the server's turn."""
        self._waiting.pop(connection, None)

    def leave(self, connection: Connection) -> None:
        """Forget a connection."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)


class Connection(HttpToolsProtocol):
    """uvicorn's connection, one of a crowd, with `patience_s` seconds for what it never limits.

    They are for the headers of a request, from the first byte on (of the first request: from the
    connection on), for what is left of a body that was answered early, and for reading an answer,
    the last of a connection too: a transport that is closed waits for ever for it to be read.
    """

    def __init__(self, *args: Any, crowd: Crowd, patience_s: float, **options: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **options)
        self._crowd = crowd
        self._patience_s = patience_s
        self._timer: TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Join the crowd and wait for a request."""
        super().connection_made(transport)
        self._be_patient()
        self._crowd.join(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave the crowd."""
        self._crowd.leave(self)
        self._relax()
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read, as long as it is not too much at a time."""
        if self.timeout_keep_alive_task is not None and not self.flow.write_paused:
            # The rest between two requests ends, and uvicorn's time-out with it, whether or not a
            # request begins. The time of a client that doesn't read is running already.
            self._be_patient()
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response("The headers are too long.")

    def on_message_begin(self) -> None:
        """Note the first byte of a request."""
        super().on_message_begin()
        self._in_head = True
        # Else an earlier answer is owed. uvicorn's types don't tell that there may be no cycle.
        if self.cycle is None or self.cycle.response_complete:  # type: ignore[redundant-expr]
            self._crowd.wait(self)

    def on_headers_complete(self) -> None:
        """Begin to answer; a body has its own time limit."""
        self._head_bytes = 0
        self._in_head = False
        if not self.flow.write_paused:  # else the time to read earlier answers goes on
            self._relax()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that an answer is owed, unless it was given before the body's end."""
        self._head_bytes = 0
        super().on_message_complete()
        if self.cycle.response_complete:
            self._relax()
            self._rest()
        elif not self.flow.write_paused:
            self._crowd.work(self)

    def on_response_complete(self) -> None:
        """Rest, or go on with the next request."""
        following = self.pipeline[-1][0] if self.pipeline else None
        super().on_response_complete()
        if following is None or following.more_body:
            self._crowd.wait(self)
        if following is None and self._in_head:
            # The next request has begun, so this is no rest between two.
            self._unset_keepalive_if_required()
            self._be_patient()
        self._see_off()

    def shutdown(self) -> None:
        """Close once no answer is owed, because the server ends."""
        super().shutdown()
        self._see_off()

    def timeout_keep_alive_handler(self) -> None:
        """Close after a long rest."""
        super().timeout_keep_alive_handler()
        self._see_off()

    def pause_writing(self) -> None:
        """Wait for a client that doesn't read."""
        super().pause_writing()
        self._be_patient()
        self._crowd.wait(self)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        self._relax()
        self._see_off()
        if self.cycle.response_complete:
            if self.timeout_keep_alive_task is None:  # no rest: a part of a request has come
                self._be_patient()
        elif not self.cycle.more_body:
            self._crowd.work(self)

    def hang_up(self, why: HangUp) -> None:
        """End the connection at once, whatever is still to be sent."""
        self._crowd.leave(self)
        self._crowd.hung_up(why)
        self._relax()
        self.transport.abort()

    def _see_off(self) -> None:
        """Be patient with what a client has still to read of a connection that is closed."""
        if self.transport.is_closing() and self.transport.get_write_buffer_size():
            self._be_patient()

    def _be_patient(self) -> None:
        self._relax()
        self._timer = self.loop.call_later(self._patience_s, self.hang_up, "slow")

    def _relax(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rest(self) -> None:
        """Begin uvicorn's time-out of idle connections again; any byte ends it."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )


def room_for(connections: int) -> int:
    """Raise this process's limit of open files for so many connections, as far as it may.

    Returns:
        How many connections there is room for.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < files:
        soft = files if hard == resource.RLIM_INFINITY else min(files, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft != resource.RLIM_INFINITY and soft < files:
        connections = max(1, soft - OTHER_FILES)
        logger.warning("room for %d connections only: %d files may be open", connections, soft)
    return connections
