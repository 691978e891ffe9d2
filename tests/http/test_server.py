"""A real server process over loopback: what only sockets, signals and a process can show."""

from __future__ import annotations

import asyncio
import io
import re
import signal
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile
from huggingface_hub import InferenceClient
from prometheus_client.parser import text_string_to_metric_families

from service.audio import MAX_BODY_BYTES
from service.bundle import Bundle
from service.runtime import cpus
from tests.support.audio import encoded, speech_like
from tests.support.models import LABELS
from tests.support.server import PATIENCE_S, Server, eventually, serving

DRAIN_S = 6.0
"""Long enough for some requests on a busy machine."""
IDLE_S = 6.0
"""Longer than the 5 s after which servers close idle connections when nobody tells them not to."""
BACKLOG = 8
SPEECH = encoded(speech_like(2.0))
CLASSIFY, HUB = "/v1/classify", "/v1/audio-classification"


@pytest.fixture(scope="module")
def server(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for all tests that leave it running; of all they send, nothing is a fault."""
    log = tmp_path_factory.mktemp("server") / "log"
    with serving(tiny, log, TIMBRE_DECODE_BACKLOG=BACKLOG) as server:
        yield server
        faults = [line for line in server.lines() if line["level"] in {"error", "critical"}]
        assert faults == []


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """A client with one connection, which it keeps."""
    limits = httpx.Limits(max_connections=1, keepalive_expiry=None)
    with httpx.Client(base_url=server.url, limits=limits, timeout=PATIENCE_S) as client:
        yield client


def connection_of(answer: httpx.Response) -> int:
    """Name the connection an answer came over by its local port."""
    port: int = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
    return port


def test_clips_are_answered_over_one_connection(client: httpx.Client) -> None:
    """It is ready, classifies, and keeps the connection open."""
    assert client.get("/readyz").status_code == client.get("/livez").status_code == 200
    connections = set()
    for _ in range(5):
        answer = client.post(CLASSIFY, content=SPEECH)
        assert answer.status_code == 200
        assert answer.json()["label"] in LABELS
        assert answer.headers["x-model-version"] == "1.0.0"
        connections.add(connection_of(answer))
    assert len(connections) == 1


def test_an_idle_connection_stays_open(client: httpx.Client) -> None:
    """Gateways keep theirs for a minute and more, and lose requests on those closed under them."""
    before = connection_of(client.post(CLASSIFY, content=SPEECH))
    time.sleep(IDLE_S)  # idleness itself is what is tested
    assert connection_of(client.post(CLASSIFY, content=SPEECH)) == before


def test_huggingface_s_own_client_works_unchanged(server: Server, tmp_path: Path) -> None:
    """A path goes in, labels with scores come out; with top_k, so many."""
    path = tmp_path / "clip.wav"
    path.write_bytes(SPEECH)
    client = InferenceClient(model=server.url + HUB)
    ranked = client.audio_classification(path)
    assert {element.label for element in ranked} == set(LABELS)
    assert sum(element.score for element in ranked) == pytest.approx(1)
    best = client.audio_classification(str(path), top_k=2)
    assert [element.label for element in best] == [element.label for element in ranked[:2]]


def test_metrics_are_prometheus_s(server: Server, client: httpx.Client) -> None:
    """They parse, say which model is served, and include the process's own."""
    client.post(CLASSIFY, content=SPEECH)
    metrics = f"{server.internal_url}/metrics"
    families = {
        family.name: family for family in text_string_to_metric_families(httpx.get(metrics).text)
    }
    (model,) = families["timbre_model_info"].samples
    assert model.labels["name"] == "tiny"
    assert model.labels["version"] == "1.0.0"
    assert model.labels["track"] == "stable"
    assert (model.labels["precision"], model.labels["precision_reason"]) == ("fp32", "only")
    assert (model.labels["streams"], model.labels["threads"]) == (str(cpus()),) * 2
    assert model.labels["cpu_features"] == ",".join(client.get("/v1/model").json()["cpu_features"])
    assert families["timbre_ready"].samples[0].value == 1
    assert families["process_resident_memory_bytes"].samples[0].value > 0
    for path in ("/none/1", "/none/2"):
        client.get(path)
    assert "/none" not in httpx.get(metrics).text


def test_pages_and_the_reference_s_files_are_served(client: httpx.Client) -> None:
    """What the pages ask for is there."""
    for page in ("/", "/docs"):
        text = client.get(page).text
        files = re.findall(r"""(?:src|href)="(/[^"]+)""", text)
        assert files
        for file in files:
            assert client.get(file).status_code == 200, file


def flac_bomb() -> bytes:
    """Write an hour of silence in a few kilobytes."""
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 16_000, 1, "PCM_16", format="FLAC") as flac:
        for _ in range(60):
            flac.write(np.zeros(60 * 16_000, np.int16))
    return file.getvalue()


def wav_header(channels: int = 1, rate: int = 16_000, size: int = 2**31) -> bytes:
    """Write the header of a 16-bit WAV that has no data."""
    width = 2 * channels
    fields = struct.pack(
        "<IHHIIHH", 16, 1, channels, rate, rate * width & 0xFFFFFFFF, width & 0xFFFF, 16
    )
    return (
        b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + fields + b"data" + struct.pack("<I", size)
    )


HOSTILE = {
    "nothing": b"",
    "random bytes": np.random.default_rng(0).bytes(100_000),
    "a header without data": wav_header(),
    "a header with 1024 channels": wav_header(channels=1024) + bytes(4096),
    "a header with 65535 channels": wav_header(channels=65_535) + bytes(4096),
    "a header with 1 Hz": wav_header(rate=1) + bytes(4096),
    "a header with 4 GHz": wav_header(rate=2**32 - 1) + bytes(4096),
    "an hour in a small FLAC": flac_bomb(),
    "NaN": encoded(np.full(160_000, np.nan, np.float32), subtype="FLOAT"),
    "infinity": encoded(np.full(160_000, np.inf, np.float32), subtype="FLOAT"),
    "another format": encoded(speech_like(1.0), container="AIFF", subtype="PCM_16"),
    "a pickle": b"\x80\x05\x95\x1f\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "too many bytes": bytes(MAX_BODY_BYTES + 1),
}
CONTENT_TYPES = ("application/octet-stream", "audio/wav", "application/vnd.bentoml+pickle")


def test_hostile_bodies_are_refused_and_memory_comes_back(
    server: Server, client: httpx.Client
) -> None:
    """4xx, never 5xx, on each route with each type; then it serves as before, no larger."""

    def send_all() -> None:
        for name, body in HOSTILE.items():
            for path in (CLASSIFY, HUB):
                for content_type in CONTENT_TYPES:
                    headers = {"content-type": content_type}
                    answer = client.post(path, content=body, headers=headers)
                    assert 400 <= answer.status_code < 500, (name, path, content_type)
                    assert answer.headers["content-type"] == "application/problem+json"
                    foreign = "pickle" in content_type or name == "another format"
                    assert (answer.status_code == 415) == foreign
            form = client.post(CLASSIFY, files={"file": body})
            assert 400 <= form.status_code < 500, name

    for _ in range(20):
        client.post(CLASSIFY, content=SPEECH)
    before = server.resident_bytes
    for _ in range(3):
        send_all()
    assert server.resident_bytes - before < 64 * 2**20
    assert client.post(CLASSIFY, content=SPEECH).status_code == 200


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(server: Server) -> None:
    """Its length is enough; the client need not send 10 MiB to hear no."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
        head = (
            f"POST {CLASSIFY} HTTP/1.1\r\nHost: a\r\nContent-Length: {MAX_BODY_BYTES + 1}\r\n\r\n"
        )
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_garbage_instead_of_http_harms_nobody(server: Server, client: httpx.Client) -> None:
    """A connection that breaks the protocol, or off, is only that client's problem."""
    for garbage in (
        b"\0" * 1000,
        b"GET",
        b"POST /v1/classify HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
            connection.sendall(garbage)
    assert client.post(CLASSIFY, content=SPEECH).status_code == 200


def test_probes_stay_green_under_overload(server: Server) -> None:
    """More clips than it takes get 429 at once; liveness and readiness don't notice."""
    clip = encoded(speech_like(12.0))

    async def overload() -> tuple[set[int], set[int]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(
            base_url=server.url, limits=limits, timeout=PATIENCE_S
        ) as client:
            clips = [
                asyncio.ensure_future(client.post(CLASSIFY, content=clip))
                for _ in range(20 * BACKLOG)
            ]
            probes: set[int] = set()
            while not all(task.done() for task in clips):
                for path in ("/livez", "/readyz"):
                    probes.add((await client.get(path)).status_code)
            answers = [await task for task in clips]
            for answer in answers:
                if answer.status_code == 429:
                    assert int(answer.headers["retry-after"]) >= 1
            return {answer.status_code for answer in answers}, probes

    answers, probes = asyncio.run(overload())
    assert answers == {200, 429}
    assert probes == {200}


def test_each_request_is_one_line_of_json(server: Server, client: httpx.Client) -> None:
    """The log of the process has nothing else about a request."""
    client.post(CLASSIFY, files={"file": ("private.wav", SPEECH)}, headers={"x-request-id": "one"})
    eventually(lambda: any(line.get("id") == "one" for line in server.lines()), "logged")
    lines = [line for line in server.lines() if line.get("id") == "one"]
    assert len(lines) == 1
    assert lines[0]["status"] == 200
    log = server.log.read_text(encoding="utf-8")
    assert "private" not in log
    assert "Traceback" not in log


def test_draining(tiny: Bundle, tmp_path: Path) -> None:
    """SIGTERM: unready at once, alive and answering to the end of the drain, then exit code 0."""
    with (
        serving(tiny, tmp_path / "log", TIMBRE_DRAIN_S=DRAIN_S) as server,
        httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client,
    ):
        assert client.post(CLASSIFY, content=SPEECH).status_code == 200
        terminated = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: client.get("/readyz").status_code == 503, "unready")
        assert time.monotonic() - terminated < DRAIN_S
        answer = client.post(CLASSIFY, content=SPEECH)
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        assert client.get("/livez").status_code == 200
        assert server.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - terminated >= DRAIN_S


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_a_request_in_flight_is_answered(tiny: Bundle, tmp_path: Path, end: signal.Signals) -> None:
    """One whose body is still being sent when the server is told to end; then exit code 0."""
    with serving(tiny, tmp_path / "log") as server:
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
            head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(SPEECH)}\r\n\r\n"
            connection.sendall(head.encode() + SPEECH[:1000])
            # Another request's answer shows that the server has read what came before it.
            assert httpx.get(f"{server.url}/v1/model").status_code == 200
            server.process.send_signal(end)
            eventually(lambda: not server.listens, "no longer listening")
            connection.sendall(SPEECH[1000:])
            assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
        assert server.process.wait(PATIENCE_S) == 0
        assert not [line for line in server.lines() if line["level"] == "error"]
