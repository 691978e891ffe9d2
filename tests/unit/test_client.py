"""The client of a server: what it sends, when it tries again, what it says went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service import audio, client
from service.access import TokenError
from service.client import Client, Refused, Unreachable
from service.domain import Decision
from service.problems import Problem
from tests.support.answers import FACTS, classification
from tests.support.audio import encoded, speech_like

Step = httpx.Response | Exception


def ok() -> httpx.Response:
    """Answer a clip."""
    return httpx.Response(200, text=classification().model_dump_json())


def refusal(status: int, slug: str, **headers: str) -> httpx.Response:
    """Refuse as the server does."""
    problem = Problem(
        type=f"urn:timbre:problem:{slug}",
        title="The title",
        status=status,
        detail="The detail.",
        request_id="1",
    )
    return httpx.Response(
        status,
        text=problem.model_dump_json(),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )


class Script:
    """A server that answers step by step, and remembers what it was asked and the waits between."""

    def __init__(self, *steps: Step) -> None:
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []
        self._steps: Iterator[Step] = iter(steps)

    def client(
        self, token: str | Path | None = None, headers: dict[str, str] | None = None
    ) -> Client:
        """Make a client that talks to it, and doesn't really wait."""
        return Client(
            "http://server:3000",
            token=token,
            headers=headers,
            transport=httpx.MockTransport(self._answer),
            sleep=self.waits.append,
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        step = next(self._steps)
        if isinstance(step, Exception):
            raise step
        return step


def test_all_that_the_server_says_can_be_had_without_a_time_line() -> None:
    """Its own times too; and headers of one's own go with every request."""
    script = Script(ok())
    with script.client(headers={"x-timbre-track": "canary"}) as server:
        said = server.classification(b"clip")
    assert said == classification()
    (request,) = script.requests
    assert request.url.query == b""
    assert request.headers["x-timbre-track"] == "canary"


def test_a_clip_goes_out_as_it_is_and_its_answer_comes_back(tmp_path: Path) -> None:
    """Within the limits a file's bytes are the body, and all the server says is in the answer."""
    path = tmp_path / "clip.ogg"
    path.write_bytes(encoded(speech_like(2), container="OGG"))
    script = Script(ok())
    with script.client() as server:
        answer = server.classify_recording(path, 0.75)
    (request,) = script.requests
    assert (request.method, str(request.url)) == (
        "POST",
        "http://server:3000/v1/classify?timeline=true",
    )
    assert request.content == path.read_bytes()
    assert (answer.result.label, answer.result.score) == ("sad", 0.6)
    assert answer.result.decision is Decision.REVIEW
    assert answer.result.probabilities == {"angry": 0.4, "sad": 0.6}
    assert answer.result.segments[0].end_s == 3.0
    assert (answer.duration_s, answer.speech_s) == (3.0, 3.0)


def test_a_long_recording_is_sent_in_pieces_and_merged(tmp_path: Path) -> None:
    """Each piece is 16-bit FLAC within the limits; the answer is on the recording's time line."""
    path = tmp_path / "long.wav"
    path.write_bytes(encoded(speech_like(130, rate=8000), 8000))
    durations: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        assert len(request.content) <= audio.MAX_BODY_BYTES
        assert request.content.startswith(b"fLaC")
        clip = audio.decode(request.content)
        durations.append(clip.duration_s)
        return httpx.Response(200, text=classification(clip.duration_s).model_dump_json())

    with Client("http://server", transport=httpx.MockTransport(answer)) as server:
        merged = server.classify_recording(path, 0.5)
    assert len(durations) == 3
    assert sum(durations) == pytest.approx(130)
    assert (merged.duration_s, merged.sample_rate) == (130.0, 8000)
    assert merged.speech_s == pytest.approx(130)
    assert merged.result.decision is Decision.ACCEPT
    starts = [segment.start_s for segment in merged.result.segments]
    assert starts == pytest.approx([0, durations[0], durations[0] + durations[1]])


def test_the_model_s_facts_are_asked_for() -> None:
    """GET /v1/model."""
    script = Script(httpx.Response(200, text=FACTS.model_dump_json()))
    with script.client() as server:
        assert server.model() == FACTS
    assert script.requests[0].url.path == "/v1/model"


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("said", "waited"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "86400"}, client.MAX_WAIT_S),
        ({"retry_after": "Wed, 21 Oct 2026 07:28:00 GMT"}, client.WAIT_S),
        ({}, client.WAIT_S),
    ],
)
def test_waits_as_long_as_it_is_told(status: int, said: dict[str, str], waited: float) -> None:
    """A busy server is asked again after Retry-After, within reason."""
    script = Script(refusal(status, "overloaded", **said), ok())
    with script.client() as server:
        assert server.classify(b"clip").result.label == "sad"
    assert script.waits == [waited]
    assert [request.content for request in script.requests] == [b"clip", b"clip"]


def test_gives_up_after_some_tries() -> None:
    """A server that stays busy is reported with its own words, not asked for ever."""
    script = Script(*[refusal(429, "overloaded", retry_after="1")] * client.MAX_TRIES)
    with script.client() as server, pytest.raises(Refused) as refused:
        server.classify(b"clip")
    assert len(script.requests) == client.MAX_TRIES
    assert len(script.waits) == client.MAX_TRIES - 1
    assert refused.value.slug == "overloaded"


def test_a_refusal_is_told_in_the_server_s_words() -> None:
    """Title and detail of the problem, at once: asking again would not help."""
    script = Script(refusal(422, "no-samples"))
    with script.client() as server, pytest.raises(Refused) as refused:
        server.classify(b"clip")
    assert str(refused.value) == "The title: The detail."
    assert refused.value.slug == "no-samples"
    assert script.waits == []


def test_a_gateway_s_page_is_told_by_its_status() -> None:
    """What stands between has its own errors."""
    with (
        Script(httpx.Response(502, text="<html>")).client() as server,
        pytest.raises(Refused, match=r"The server refused: HTTP status 502 Bad Gateway\."),
    ):
        server.classify(b"clip")


def test_a_token_goes_out_with_every_request() -> None:
    """Also with those sent again; without one there is no such header."""
    facts = httpx.Response(200, text=FACTS.model_dump_json())
    script = Script(facts, refusal(503, "not-ready"), ok())
    with script.client("a+token/of=") as server:
        server.model()
        server.classify(b"clip")
    sent = [request.headers["authorization"] for request in script.requests]
    assert sent == ["Bearer a+token/of="] * 3
    script = Script(facts)
    with script.client() as server:
        server.model()
    assert "authorization" not in script.requests[0].headers


def test_a_token_of_a_file_is_the_one_that_is_there_by_then(tmp_path: Path) -> None:
    """So that who runs for long isn't shut out by a token that was taken out."""
    file = tmp_path / "tokens"
    file.write_text(f"# clients\n{'a' * 32} # ours\n{'b' * 32}\n", encoding="utf-8")
    facts = httpx.Response(200, text=FACTS.model_dump_json())
    script = Script(facts, facts, refusal(401, "unauthorized"))
    with script.client(file) as server:
        server.model()
        file.write_text(f"{'c' * 32}\n", encoding="utf-8")
        server.model()
        with pytest.raises(Refused, match=r"does not accept the one in .*/tokens"):
            server.model()
        file.unlink()
        with pytest.raises(TokenError, match="cannot be used"):
            server.model()
    sent = [request.headers["authorization"] for request in script.requests]
    assert sent == [f"Bearer {letter * 32}" for letter in "acc"]
    with pytest.raises(TokenError, match="cannot be used"):
        script.client(file)


@pytest.mark.parametrize("token", ["", "a b", "é", "a\nb", '"a"', "a=b"])
def test_a_token_that_no_header_can_carry_is_told(token: str) -> None:
    """Before anything is sent, and without telling it to who looks on."""
    with pytest.raises(TokenError, match=r"^TIMBRE_TOKEN has characters that no token has\.$"):
        Script().client(token)


@pytest.mark.parametrize(
    ("token", "said"),
    [
        (None, "lets nobody in without one; put it into the variable TIMBRE_TOKEN."),
        ("token", "does not accept the one in TIMBRE_TOKEN."),
    ],
)
def test_who_is_not_let_in_is_told_what_to_do(token: str | None, said: str) -> None:
    """Whether the server refuses or a gateway before it, and at once."""
    for step in (refusal(401, "unauthorized"), httpx.Response(401, text="<html>")):
        script = Script(step)
        with script.client(token) as server, pytest.raises(Refused) as refused:
            server.model()
        assert str(refused.value) == f"A token is needed: http://server:3000 {said}"
        assert refused.value.slug == "unauthorized"
        assert script.waits == []


@pytest.mark.parametrize("error", [httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError])
def test_a_connection_that_breaks_is_tried_again(error: type[httpx.TransportError]) -> None:
    """A server that goes away in a rollout has neighbours."""
    script = Script(error("broken"), ok())
    with script.client() as server:
        assert server.classify(b"clip").result.label == "sad"


def test_a_connection_that_always_breaks_is_an_error() -> None:
    """With the address, after as many tries."""
    script = Script(*[httpx.ReadError("broken")] * client.MAX_TRIES)
    with (
        script.client() as server,
        pytest.raises(Unreachable, match=r"^http://server:3000: broken\.$"),
    ):
        server.classify(b"clip")


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("")])
def test_a_server_that_is_not_there_is_told_at_once(error: httpx.TransportError) -> None:
    """Nobody waits for a typing error in a port; the address is in the message."""
    script = Script(error)
    with script.client() as server, pytest.raises(Unreachable, match=r"^http://server:3000: "):
        server.model()
    assert len(script.requests) == 1


def test_another_service_is_told_from_timbre() -> None:
    """JSON of another shape, or a page, is not an answer."""
    for page in ("<html>", "{}"):
        script = Script(httpx.Response(200, text=page), httpx.Response(200, text=page))
        with script.client() as server:
            with pytest.raises(Unreachable, match="is not Timbre"):
                server.model()
            with pytest.raises(Unreachable, match="is not Timbre"):
                server.classify(b"clip")


@pytest.mark.parametrize("url", ["", "localhost:3000", "ftp://host", "http://", "http://a:b:c"])
def test_an_address_that_is_none_is_told(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(Unreachable, match="no server's URL"):
        Client(url)
