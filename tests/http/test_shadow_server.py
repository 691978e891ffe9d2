"""Shadowing between real servers: what operators see, and candidates that misbehave."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.peers.processes import free_port
from service.bundle import Bundle
from service.shadow import TIMEOUT_S
from tests.support.audio import encoded, speech_like
from tests.support.models import tiny_model_bundle
from tests.support.server import PATIENCE_S, Server, eventually, serving

CLASSIFY = "/v1/classify"
SPEECH = encoded(speech_like(2.0))
REFUSAL = b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n"
GARBAGE = b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ngarbage"


@pytest.fixture(scope="module")
def new_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Another model."""
    folder = tmp_path_factory.mktemp("new") / "tiny"
    return tiny_model_bundle(folder, version="2.0.0", seed=1)


@contextmanager
def shadowing(bundle: Bundle, log: Path, port: int, **variables: object) -> Iterator[Server]:
    """Run a stable that sends all its clips to the port of a candidate on this machine."""
    settings = {
        "TIMBRE_SHADOW_URLS": f"canary=http://127.0.0.1:{port}",
        "TIMBRE_SHADOW_SAMPLE": 1,
        **variables,
    }
    with serving(bundle, log, **settings) as server:
        yield server


def samples(server: Server, name: str) -> dict[tuple[str, ...], float]:
    """Read all series of a metric by their labels' values, in the order of the labels' names."""
    text = httpx.get(f"{server.internal_url}/metrics", timeout=PATIENCE_S).text
    return {
        tuple(value for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def clips(server: Server, outcome: str) -> float:
    """Read what became of clips."""
    return samples(server, "timbre_shadow_clips_total").get(("canary", outcome), 0.0)


def classified(server: Server, **headers: str) -> dict[str, object]:
    """Have a clip answered."""
    answer = httpx.post(
        server.url + CLASSIFY, content=SPEECH, headers=headers, timeout=PATIENCE_S
    ).raise_for_status()
    said: dict[str, object] = answer.json()
    return said


class Odd:
    """A candidate that reads requests and does not score: it says the same, or nothing."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._connections: list[socket.socket] = []
        self.requests = 0
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._connections.append(connection)
            threading.Thread(target=self._serve, args=[connection], daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        received = 0
        try:
            while chunk := connection.recv(65_536):
                received += len(chunk)
                if received >= len(SPEECH):
                    received = 0
                    self.requests += 1
                    connection.sendall(self._answer)
        except OSError:
            return

    def close(self) -> None:
        """Listen no more, and hang up."""
        for opened in (self._listener, *self._connections):
            opened.close()


@contextmanager
def odd(answer: bytes) -> Iterator[Odd]:
    """Have an odd candidate."""
    candidate = Odd(answer)
    try:
        yield candidate
    finally:
        candidate.close()


def test_a_real_candidate_s_answers_are_in_stable_s_metrics(
    tiny: Bundle, new_bundle: Bundle, tmp_path: Path
) -> None:
    """Live clips as pairs, and forced ones not; the candidate counts them as shadows."""
    with (
        serving(new_bundle, tmp_path / "candidate", TIMBRE_TRACK="canary") as candidate,
        shadowing(tiny, tmp_path / "stable", candidate.internal_port) as stable,
    ):
        assert "shadowing 1 of the live clips to canary" in stable.messages()
        theirs = classified(candidate, **{"x-timbre-track": "canary"})
        mine = classified(stable, **{"x-request-id": "live-clip"})
        eventually(lambda: clips(stable, "paired") == 1, "a pair")
        classified(stable, **{"x-timbre-track": "stable", "x-request-id": "forced-clip"})
        classified(stable)
        eventually(lambda: clips(stable, "paired") == 2, "another pair")
        digest = new_bundle.digest.removeprefix("sha256:")[:12]
        assert samples(stable, "timbre_shadow_pairs_total") == {
            ("canary", theirs["label"], digest, mine["label"]): 2
        }
        assert samples(stable, "timbre_shadow_decisions_total") == {
            ("canary", theirs["decision"], digest, mine["decision"]): 2
        }
        assert sum(samples(stable, "timbre_shadow_clips_total").values()) == 2
        assert samples(candidate, "timbre_requests_total")["/shadow", "200", "shadow"] == 2
        scored = [line for line in candidate.lines() if line.get("route") == "/shadow"]
        assert "live-clip" in [line["id"] for line in scored]
        assert "forced-clip" not in [line["id"] for line in scored]
        # No line of a client's library for each clip.
        assert not [line for line in stable.lines() if str(line["logger"]).startswith("http")]


def test_a_candidate_that_hangs_delays_nobody_and_is_not_waited_for(
    tiny: Bundle, tmp_path: Path
) -> None:
    """Answers arrive while it still has the clips, and so does the end of the server."""
    with odd(b"") as candidate, shadowing(tiny, tmp_path / "log", candidate.port) as stable:
        classified(stable)
        eventually(lambda: candidate.requests == 1, "the candidate has a clip")
        for _ in range(3):
            classified(stable)
        assert sum(samples(stable, "timbre_shadow_clips_total").values()) == 0
        terminated = time.monotonic()
        stable.process.send_signal(signal.SIGTERM)
        assert stable.process.wait(PATIENCE_S) == 0
        assert time.monotonic() - terminated < TIMEOUT_S
        assert not [line for line in stable.lines() if line["level"] in {"error", "critical"}]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(REFUSAL, "refused"), (GARBAGE, "failed"), (b"no HTTP at all\r\n\r\n", "failed")],
)
def test_a_candidate_that_does_not_score_fails_nobody(
    tiny: Bundle, tmp_path: Path, answer: bytes, outcome: str
) -> None:
    """Refusing, or talking nonsense."""
    with odd(answer) as candidate, shadowing(tiny, tmp_path / "log", candidate.port) as stable:
        classified(stable)
        eventually(lambda: clips(stable, outcome) == 1, outcome)
        classified(stable)
        assert not [line for line in stable.lines() if line["level"] in {"error", "warning"}][1:]


def test_a_candidate_that_is_not_there_is_nothing_to_tell_of(tiny: Bundle, tmp_path: Path) -> None:
    """A name that doesn't resolve, a port that nobody listens on: counted once in a while."""
    urls = f"canary=http://127.0.0.1:{free_port()},baseline=http://baseline.invalid:3001"
    with shadowing(tiny, tmp_path / "log", 1, TIMBRE_SHADOW_URLS=urls) as stable:
        for _ in range(5):
            classified(stable)
        unreachable = {("baseline", "unreachable"): 1.0, ("canary", "unreachable"): 1.0}
        eventually(
            lambda: samples(stable, "timbre_shadow_clips_total") == unreachable, "both were tried"
        )
        told = [line["message"] for line in stable.lines() if line["level"] != "info"]
        assert told == ["no token is configured: whoever reaches this server may use it"]


def test_a_canary_sends_nothing(tiny: Bundle, tmp_path: Path) -> None:
    """It shares stable's variables where a chart gives them to both."""
    with (
        odd(GARBAGE) as candidate,
        shadowing(tiny, tmp_path / "log", candidate.port, TIMBRE_TRACK="canary") as canary,
    ):
        for _ in range(3):
            classified(canary)
        assert not [said for said in canary.messages() if "shadowing" in str(said)]
        assert samples(canary, "timbre_shadow_clips_total") == {}
        assert candidate.requests == 0
