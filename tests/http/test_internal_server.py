"""The internal port of a real server: what is on it, when it closes, and starts that it ends."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

import httpx
import psutil

from service.bundle import Bundle
from tests.support.audio import encoded, speech_like
from tests.support.server import PATIENCE_S, bentoml_serve, eventually, serving

SPEECH = encoded(speech_like(2.0))
CLASSIFY, MODEL = "/v1/classify", "/v1/model"
DRAIN_S = 6.0
"""Long enough for some requests on a busy machine."""


def test_each_port_has_its_own_routes(tiny: Bundle, tmp_path: Path) -> None:
    """Metrics are on the internal one alone, and clips, pages and probes on the public one."""
    with serving(tiny, tmp_path / "log") as server:
        assert server.sample("timbre_ready") == 1
        assert httpx.get(f"{server.url}/metrics", timeout=PATIENCE_S).status_code == 404
        for path in (CLASSIFY, MODEL, "/", "/docs", "/readyz", "/livez"):
            answer = httpx.get(server.internal_url + path, timeout=PATIENCE_S)
            assert answer.status_code == 404


def test_the_internal_port_answers_to_the_end_of_the_drain(tiny: Bundle, tmp_path: Path) -> None:
    """SIGTERM: metrics say unready while clips are answered; then both close, with exit code 0."""
    with (
        serving(tiny, tmp_path / "log", TIMBRE_DRAIN_S=DRAIN_S) as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client,
        httpx.Client(base_url=server.internal_url, timeout=PATIENCE_S) as scraper,
    ):
        assert f"internal routes on 127.0.0.1 port {server.internal_port}" in server.messages()
        assert client.post(CLASSIFY, content=SPEECH).status_code == 200
        assert scraper.get("/metrics").status_code == 200
        terminated = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: client.get("/readyz").status_code == 503, "unready")
        assert server.sample("timbre_ready") == 0
        assert client.post(CLASSIFY, content=SPEECH).status_code == 200
        assert scraper.get("/metrics").status_code == 200
        assert time.monotonic() - terminated < DRAIN_S
        assert server.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - terminated >= DRAIN_S
        assert not [line for line in server.lines() if line["level"] in {"error", "critical"}]


def test_the_internal_port_outlives_the_last_clip(tiny: Bundle, tmp_path: Path) -> None:
    """A clip whose body is still being sent after SIGTERM is answered, and measured meanwhile."""
    with serving(tiny, tmp_path / "log") as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
            head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(SPEECH)}\r\n\r\n"
            connection.sendall(head.encode() + SPEECH[:1000])
            # Another request's answer shows that the server has read what came before it.
            assert httpx.get(f"{server.url}{MODEL}").status_code == 200
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: not server.listens, "no longer listening")
            assert server.sample("timbre_ready") == 1
            connection.sendall(SPEECH[1000:])
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert server.process.wait(PATIENCE_S) == 0
        assert not [line for line in server.lines() if line["level"] == "error"]


def test_without_an_internal_port_there_are_no_metrics(tiny: Bundle, tmp_path: Path) -> None:
    """It is off unless asked for, and then /metrics is nowhere; no port beside --port is open."""
    with serving(tiny, tmp_path / "log", TIMBRE_INTERNAL_PORT="") as server:
        assert httpx.get(f"{server.url}/metrics").status_code == 404
        ports = {
            connection.laddr.port
            for process in psutil.Process(server.process.pid).children(recursive=True)
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert ports == {server.port}


def test_bentoml_s_own_start_ends_at_a_port_that_is_taken(tiny: Bundle) -> None:
    """`bentoml serve` has no checks of ours before it: its supervisor ends, and not with 0."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        ended = bentoml_serve(tiny, TIMBRE_INTERNAL_PORT=taken)
    said = f"Cannot listen on 127.0.0.1 port {taken} for /metrics"
    assert said in ended.stdout + ended.stderr
    assert ended.returncode != 0
