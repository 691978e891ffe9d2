"""Connections of a real server: slow ones, too many of them, and those that outlive it."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from service.bundle import Bundle
from service.connections import MAX_HEAD_BYTES
from tests.support.audio import encoded, speech_like
from tests.support.server import PATIENCE_S, Server, eventually, serving

SPEECH = encoded(speech_like(2.0))
CLASSIFY = "/v1/classify"
HEADER_TIMEOUT_S = 1.0
CONNECTIONS = 20
HALF_A_HEAD = f"POST {CLASSIFY} HTTP/1.1\r\nHost: a\r\n".encode()


@pytest.fixture(scope="module")
def server(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with little room and patience; nothing that is sent to it is its fault."""
    limits = {
        "TIMBRE_HEADER_TIMEOUT_S": HEADER_TIMEOUT_S,
        "TIMBRE_MAX_CONNECTIONS": CONNECTIONS,
    }
    with serving(tiny, tmp_path_factory.mktemp("server") / "log", **limits) as server:
        yield server
        assert [line for line in server.lines() if line["level"] in {"error", "critical"}] == []


def connect(server: Server) -> socket.socket:
    """Connect, and say nothing yet."""
    return socket.create_connection(("127.0.0.1", server.port), PATIENCE_S)


def hung_up(server: Server, why: str) -> float:
    """Count the connections that were hung up on for a reason."""
    text = httpx.get(f"{server.internal_url}/metrics", timeout=PATIENCE_S).text
    name = f'timbre_hung_up_connections_total{{reason="{why}"}}'
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def refused(server: Server) -> list[str]:
    """Read the counts of requests that were answered 400."""
    text = httpx.get(f"{server.internal_url}/metrics", timeout=PATIENCE_S).text
    lines = [line for line in text.splitlines() if line.startswith("timbre_requests_total{")]
    return [line for line in lines if 'status="400"' in line]


@pytest.mark.parametrize("sent", [b"", HALF_A_HEAD])
def test_slow_headers_are_hung_up_on(server: Server, sent: bytes) -> None:
    """After their time, and not before; whoever has said nothing, too."""
    before = hung_up(server, "slow")
    with connect(server) as connection:
        connected = time.monotonic()
        connection.sendall(sent)
        assert connection.recv(1) == b""
        assert time.monotonic() - connected >= 0.9 * HEADER_TIMEOUT_S
    assert hung_up(server, "slow") == before + 1


@pytest.mark.parametrize(
    "sent", [b"no HTTP\r\n", (HALF_A_HEAD + b"x: ").ljust(MAX_HEAD_BYTES + 1, b"a")]
)
def test_what_is_no_request_is_refused_in_plain_text(server: Server, sent: bytes) -> None:
    """Without an id and uncounted: it never was a request."""
    before = refused(server)
    with connect(server) as connection:
        connection.sendall(sent)
        head, _, _ = connection.makefile("rb").read().partition(b"\r\n\r\n")
    status, *headers = head.decode().lower().split("\r\n")
    assert status == "http/1.1 400 bad request"
    assert "content-type: text/plain; charset=utf-8" in headers
    assert "connection: close" in headers
    assert not [header for header in headers if header.startswith("x-request-id")]
    assert refused(server) == before


def test_honest_clips_are_answered_however_many_hang_on(server: Server) -> None:
    """Ten times as many slow clients as there is room for, in the headers and in the body."""
    body = HALF_A_HEAD + b"Content-Length: 9999\r\n\r\nRIFF"
    before = hung_up(server, "crowded")
    with ExitStack() as slow:
        for number in range(10 * CONNECTIONS):
            connection = slow.enter_context(connect(server))
            connection.sendall(body if number % 2 else HALF_A_HEAD)
            if number % CONNECTIONS == 0:
                answer = httpx.post(server.url + CLASSIFY, content=SPEECH, timeout=PATIENCE_S)
                assert answer.status_code == 200
        assert server.sample("timbre_connections") <= CONNECTIONS
        assert hung_up(server, "crowded") > before
    # What asks is a connection itself.
    eventually(lambda: server.sample("timbre_connections") <= 1, "all gone")


def test_the_port_is_closed_while_the_last_clips_are_answered(tiny: Bundle, tmp_path: Path) -> None:
    """BentoML's supervisor keeps it open, and who connects then would wait to be broken off."""
    with serving(tiny, tmp_path / "log") as server, connect(server) as connection:
        head = HALF_A_HEAD + b"Content-Length: %d\r\n\r\n" % len(SPEECH)
        connection.sendall(head + SPEECH[:1000])
        # Another request's answer shows that the server has read what came before it.
        assert httpx.get(f"{server.url}/v1/model").status_code == 200
        server.process.terminate()
        eventually(lambda: not server.listens, "no longer listening")
        with pytest.raises(ConnectionRefusedError):
            connect(server)
        connection.sendall(SPEECH[1000:])
        assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
