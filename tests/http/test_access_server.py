"""A real server with tokens: its clients, a rotation under load, a Secret that is wrong."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

from service.access import CHECK_S
from service.bundle import Bundle
from service.client import Client, Refused
from tests.support.audio import encoded, speech_like
from tests.support.models import LABELS
from tests.support.server import PATIENCE_S, Server, bentoml_serve, eventually, serving
from tests.support.tokens import FIRST, SECOND, UNKNOWN, Secret, bearer

SPEECH = encoded(speech_like(2.0))
CLASSIFY, HUB, MODEL = "/v1/classify", "/v1/audio-classification", "/v1/model"
APP = "https://app.example"


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Secret:
    """The Secret of the server that all tests here share; each leaves the first token in it."""
    return Secret(tmp_path_factory.mktemp("secret"), FIRST)


@pytest.fixture(scope="module")
def server(
    tiny: Bundle, secret: Secret, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server that asks for a token and lets one origin's pages call it."""
    log = tmp_path_factory.mktemp("server") / "log"
    variables = {"TIMBRE_TOKEN_FILE": secret.file, "TIMBRE_CORS_ORIGINS": APP}
    with serving(tiny, log, **variables) as server:
        yield server
    text = log.read_text(encoding="utf-8")
    assert not [token for token in (FIRST, SECOND, UNKNOWN) if token in text]
    assert "Traceback" not in text


def test_it_says_who_may_use_it(server: Server, secret: Secret) -> None:
    """How many tokens there are, and from where."""
    assert f"tokens configured: 1, from {secret.file}" in server.messages()


def test_the_public_port_asks_and_has_no_metrics(server: Server) -> None:
    """Clips and facts need a token; probes, pages and what is nowhere don't."""
    with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        for method, path in (("POST", CLASSIFY), ("POST", HUB), ("GET", MODEL)):
            refused = client.request(method, path, content=SPEECH)
            assert refused.status_code == 401
            assert refused.headers["www-authenticate"] == 'Bearer realm="timbre"'
        assert client.post(CLASSIFY, content=SPEECH, headers=bearer(FIRST)).status_code == 200
        for path in ("/livez", "/readyz", "/", "/docs", "/openapi.json"):
            assert client.get(path).status_code == 200
        assert client.get("/metrics").status_code == 404
        assert client.get("/metrics", headers=bearer(FIRST)).status_code == 404


def test_who_has_no_token_need_not_send_the_body(server: Server) -> None:
    """The answer comes after the headers."""
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
        head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n"
        connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


def test_huggingface_s_own_client_sends_its_token(server: Server, tmp_path: Path) -> None:
    """As its `token`; without it, or with another one, it raises what it raises for 401."""
    path = tmp_path / "clip.wav"
    path.write_bytes(SPEECH)
    ranked = InferenceClient(model=server.url + HUB, token=FIRST).audio_classification(path)
    assert {element.label for element in ranked} == set(LABELS)
    for token in (UNKNOWN, None):
        with pytest.raises(HfHubHTTPError) as refused:
            InferenceClient(model=server.url + HUB, token=token).audio_classification(path)
        assert refused.value.response.status_code == 401


def test_timbre_s_own_client_sends_its_token(server: Server) -> None:
    """And is told when it isn't accepted."""
    with Client(server.url, token=FIRST) as client:
        assert client.classify(SPEECH).result.label in LABELS
    with Client(server.url, token=UNKNOWN) as client, pytest.raises(Refused, match="not accept"):
        client.model()


def test_a_page_of_a_listed_origin_may_call(server: Server) -> None:
    """Its preflight needs no token, and it can read what refuses it."""
    asked = httpx.options(
        server.url + CLASSIFY,
        headers={
            "origin": APP,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization",
        },
    )
    assert asked.status_code == 204
    assert asked.headers["access-control-allow-origin"] == APP
    refused = httpx.post(server.url + CLASSIFY, content=SPEECH, headers={"origin": APP})
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == APP


def test_tokens_are_rotated_under_load_without_a_failed_request(
    server: Server, secret: Secret
) -> None:
    """Old, then both, then new: a client that changes over while both hold is never refused."""
    held = [FIRST]
    each: list[list[int]] = [[], [], [], []]
    over = threading.Event()

    def send(statuses: list[int]) -> None:
        with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
            while not over.is_set():
                answer = client.post(CLASSIFY, content=SPEECH, headers=bearer(held[0]))
                statuses.append(answer.status_code)

    def opens(token: str) -> bool:
        return httpx.get(server.url + MODEL, headers=bearer(token)).status_code == 200

    def sent_on() -> Callable[[], bool]:
        """Give what tells when each client has begun and ended another request."""
        before = [len(statuses) for statuses in each]
        return lambda: all(len(now) > was + 1 for now, was in zip(each, before, strict=True))

    clients = [threading.Thread(target=send, args=(statuses,)) for statuses in each]
    for client in clients:
        client.start()
    try:
        for before, after in ((FIRST, SECOND), (SECOND, FIRST)):
            assert not opens(after)
            secret.change(before, after)
            eventually(partial(opens, after), "the new token")
            assert opens(before)
            held[0] = after
            eventually(sent_on(), "the new token sent")
            secret.change(after)
            while opens(before):
                time.sleep(CHECK_S / 10)
            eventually(sent_on(), "only the new token sent")
    finally:
        over.set()
        for client in clients:
            client.join()
    assert {status for statuses in each for status in statuses} == {200}


def test_a_secret_that_cannot_be_used_is_reported(server: Server, secret: Secret) -> None:
    """The token from before still opens; the metric and one line of the log tell."""

    def opens() -> bool:
        return httpx.get(server.url + MODEL, headers=bearer(FIRST)).status_code == 200

    secret.change("too short")
    eventually(lambda: opens() and server.sample("timbre_tokens_stale") == 1, "stale")
    time.sleep(CHECK_S)  # the next look
    assert opens()
    errors = [line for line in server.lines() if line["level"] == "error"]
    assert len(errors) == 1
    assert str(errors[0]["message"]).startswith(f"The token file {secret.file} cannot be used: ")
    secret.change(FIRST)
    eventually(lambda: opens() and server.sample("timbre_tokens_stale") == 0, "good again")


def test_without_tokens_it_says_so(tiny: Bundle, tmp_path: Path) -> None:
    """A line of the log, at a level that is hardly ever left out; and anybody is let in."""
    with serving(tiny, tmp_path / "log", TIMBRE_LOG_LEVEL="warning") as server:
        assert server.messages() == [
            "no token is configured: whoever reaches this server may use it"
        ]
        assert httpx.get(server.url + MODEL, timeout=PATIENCE_S).status_code == 200


def test_bentoml_s_own_start_asks_for_the_file_too(tiny: Bundle, tmp_path: Path) -> None:
    """`bentoml serve` has no checks of ours before it: its supervisor ends, and not with 0."""
    ended = bentoml_serve(tiny, TIMBRE_TOKEN_FILE=tmp_path)
    said = f"The token file {tmp_path} cannot be used: it is no regular file"
    assert said in ended.stdout + ended.stderr
    assert ended.returncode != 0
