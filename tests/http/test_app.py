"""The HTTP interface, in this process: every answer it can give, held against its own document.

The engine and the decoder wait at gates that a test opens, so that what is queued, running or gone
at any moment is the test's choice and not the machine's.
"""
# ruff: noqa: D103 - the ways into each error are named after what they do

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from starlette.requests import Request
from starlette.routing import Route, Router

from service import contract, http, problems
from service.audio import MAX_BODY_BYTES, MAX_DURATION_S
from service.classifier import Classifier
from service.domain import BadRequest, BundleError
from service.envelope import CLIENT_GONE, JsonFormatter
from service.http import Desk, create_app
from tests.support.audio import encoded, silence, speech_like
from tests.support.models import HOP_S, LABELS, WINDOW_S
from tests.support.stand import PATIENCE_S, Gate, Stand, standing

pytestmark = pytest.mark.asyncio

CLASSIFY = "/v1/classify"
HUB = "/v1/audio-classification"
SPEECH = encoded(speech_like(2.0))
WINDOWS = 3
"""Of SPEECH: 2 s in windows of 1 s every 0.5 s."""
DOCUMENT: Any = json.loads(json.dumps(contract.openapi()))
RAW = {"content-type": "application/octet-stream"}

Answer = httpx.Response


def check(answer: Answer) -> None:
    """Hold an answer of a documented operation against the document."""
    assert answer.headers["x-request-id"]
    path = DOCUMENT["paths"].get(answer.request.url.path, {})
    operation = path.get(answer.request.method.lower())
    if operation is None:
        return
    assert str(answer.status_code) in operation["responses"], answer.text
    documented = operation["responses"][str(answer.status_code)]
    (media_type,) = documented["content"]
    assert answer.headers["content-type"] == media_type
    own = {name for name in answer.headers if name.startswith("x-") or name == "retry-after"}
    assert own <= set(documented["headers"])
    assert ("retry-after" in own) == ("retry-after" in documented["headers"])
    if "retry-after" in own:
        assert re.fullmatch("[1-9][0-9]*", answer.headers["retry-after"])
    schema = {**documented["content"][media_type]["schema"], "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer.json())


async def check_it(answer: Answer) -> None:
    """Read an answer, then check it."""
    await answer.aread()
    check(answer)


Standing = Callable[..., AbstractAsyncContextManager[Stand]]


@pytest.fixture
def make(classifier: Classifier) -> Standing:
    """Build stands with settings of one's own; all their answers are checked."""

    @asynccontextmanager
    async def checked(**options: Any) -> AsyncIterator[Stand]:  # noqa: ANN401
        async with standing(classifier, **options) as stand:
            stand.client.event_hooks = {"response": [check_it]}
            yield stand

    return checked


@pytest_asyncio.fixture
async def stand(make: Standing) -> AsyncIterator[Stand]:
    """A stand with the default settings."""
    async with make() as stand:
        yield stand


def problem(answer: Answer) -> str:
    """Name the slug of an answer that is a problem, after checking its shape."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert set(body) == {"type", "title", "status", "detail", "request_id"}
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["detail"]
    slug = str(body["type"].removeprefix(problems.URN))
    assert problems.STATUS[slug] == answer.status_code
    return slug


async def in_pieces(data: bytes, size: int = 4096) -> AsyncIterator[bytes]:
    """Send a body chunk by chunk, without a content-length."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def never_ending(first: bytes = b"RIFF") -> AsyncIterator[bytes]:
    """Send a little, then nothing more."""
    yield first
    await asyncio.get_running_loop().create_future()


async def untouchable() -> AsyncIterator[bytes]:
    """Fail the test if the body is read."""
    pytest.fail("the body was read")
    yield b""


def post(stand: Stand, body: bytes = SPEECH, path: str = CLASSIFY) -> asyncio.Task[Answer]:
    """Send a clip in the background."""
    return asyncio.ensure_future(stand.client.post(path, content=body, headers=RAW))


# One way at least to each row of the error table; their names say how.


async def bad_multipart(make: Standing) -> Answer:
    async with make() as stand:
        headers = {"content-type": "multipart/form-data"}
        return await stand.client.post(CLASSIFY, content=SPEECH, headers=headers)


async def random_bytes(make: Standing) -> Answer:
    async with make() as stand:
        return await stand.client.post(CLASSIFY, content=b"no audio at all")


async def no_such_path(make: Standing) -> Answer:
    async with make() as stand:
        return await stand.client.get("/v2/classify")


async def wrong_method(make: Standing) -> Answer:
    async with make() as stand:
        return await stand.client.get(CLASSIFY)


async def slow_body(make: Standing) -> Answer:
    async with make(body_timeout_s=0.01) as stand:
        return await stand.client.post(CLASSIFY, content=never_ending(), headers=RAW)


async def large_body(make: Standing) -> Answer:
    async with make() as stand:
        headers = {"content-length": str(MAX_BODY_BYTES + 1)}
        return await stand.client.post(CLASSIFY, content=untouchable(), headers=headers)


async def other_format(make: Standing) -> Answer:
    async with make() as stand:
        return await stand.client.post(CLASSIFY, content=b"\x1a\x45\xdf\xa3" + bytes(60))


async def long_clip(make: Standing) -> Answer:
    async with make() as stand:
        frames = int(MAX_DURATION_S * 8000) + 1
        body = encoded(np.zeros(frames, np.float32), 8000, subtype="PCM_U8")
        return await stand.client.post(CLASSIFY, content=body)


async def empty_clip(make: Standing) -> Answer:
    async with make() as stand:
        return await stand.client.post(CLASSIFY, content=encoded(np.zeros(0, np.float32)))


async def odd_rate(make: Standing) -> Answer:
    async with make() as stand:
        return await stand.client.post(CLASSIFY, content=encoded(speech_like(1.0), rate=1))


async def many_channels(make: Standing) -> Answer:
    async with make() as stand:
        body = encoded(np.zeros((16, 1024), np.float32))
        return await stand.client.post(CLASSIFY, content=body)


async def not_a_number(make: Standing) -> Answer:
    async with make() as stand:
        body = encoded(np.full(1600, np.nan, np.float32), subtype="FLOAT")
        return await stand.client.post(CLASSIFY, content=body)


async def full_at_the_gate(make: Standing) -> Answer:
    """The queue is full, so the body isn't even read."""
    async with make(queue_windows=1) as stand:
        stand.runner.gate.shut()
        first = post(stand)
        await stand.runner.gate.reached()
        answer = await stand.client.post(CLASSIFY, content=untouchable(), headers=RAW)
        stand.let_go()
        assert (await first).status_code == 200
        assert stand.sample("timbre_refused_windows_total") == WINDOWS
        return answer


async def full_at_admission(make: Standing) -> Answer:
    """There is room for a window, but not for this clip's."""
    async with make(queue_windows=2 * WINDOWS - 1) as stand:
        stand.runner.gate.shut()
        first = post(stand)
        await stand.runner.gate.reached()
        answer = await post(stand)
        stand.let_go()
        assert (await first).status_code == 200
        assert stand.sample("timbre_refused_windows_total") == WINDOWS
        assert stand.sample("timbre_admitted_windows_total") == WINDOWS
        return answer


async def full_of_decoding(make: Standing) -> Answer:
    async with make(decode_backlog=1) as stand:
        stand.classifier.decoding.shut()
        first = post(stand)
        await stand.classifier.decoding.reached()
        answer = await post(stand)
        stand.let_go()
        assert (await first).status_code == 200
        return answer


async def full_of_bytes(make: Standing) -> Answer:
    """All bodies together are bounded, also those that never end."""
    async with make() as stand:
        stand.desk.buffered += http.MAX_BUFFERED_BYTES
        answer = await stand.client.post(CLASSIFY, content=in_pieces(SPEECH), headers=RAW)
        stand.desk.buffered -= http.MAX_BUFFERED_BYTES
        return answer


async def unforeseen(make: Standing) -> Answer:
    async with make() as stand:

        async def broken(data: bytes, *, deadline: float) -> None:
            raise ZeroDivisionError(f"secret {len(data)} {deadline}")

        stand.serving.classify = broken  # type: ignore[method-assign, assignment]
        return await post(stand)


async def broken_engine(make: Standing) -> Answer:
    """One clip makes the engine fail; those that shared its batch are answered."""
    async with make() as stand:
        stand.runner.poison = stand.classifier.hear(POISON).batch[1]
        stand.runner.gate.shut()
        first = post(stand)
        await stand.runner.gate.reached()
        await stand.serving.submitted()
        neighbours = [post(stand), post(stand)]
        bad = post(stand, POISON)
        await stand.serving.submitted(3)
        stand.let_go()
        for neighbour in (first, *neighbours):
            assert (await neighbour).status_code == 200
        answer = await bad
        assert max(stand.runner.batches) > 1
        assert stand.sample("timbre_retried_windows_total") > 1
        return answer


async def not_loaded(make: Standing) -> Answer:
    async with make() as stand:
        stand.desk.serving = None
        return await stand.client.post(CLASSIFY, content=untouchable(), headers=RAW)


async def closing(make: Standing) -> Answer:
    async with make() as stand:
        await stand.serving.close()
        return await stand.client.post(CLASSIFY, content=untouchable(), headers=RAW)


async def late(make: Standing) -> Answer:
    async with make(deadline_s=0.2) as stand:
        stand.runner.gate.shut()
        blocking = post(stand)
        answer = await post(stand)
        stand.let_go()
        assert problem(await blocking) == "deadline"
        return answer


async def late_decoding(make: Standing) -> Answer:
    async with make(deadline_s=0.05) as stand:
        stand.classifier.decoding.shut()
        return await post(stand)


POISON = encoded(speech_like(2.0, seed=7))
WAYS: list[tuple[str, Callable[[Standing], Awaitable[Answer]]]] = [
    ("bad-request", bad_multipart),
    ("not-audio", random_bytes),
    ("not-found", no_such_path),
    ("method-not-allowed", wrong_method),
    ("slow-body", slow_body),
    ("too-large", large_body),
    ("unsupported-format", other_format),
    ("too-long", long_clip),
    ("no-samples", empty_clip),
    ("sample-rate", odd_rate),
    ("channels", many_channels),
    ("not-finite", not_a_number),
    ("overloaded", full_at_the_gate),
    ("overloaded", full_at_admission),
    ("overloaded", full_of_decoding),
    ("overloaded", full_of_bytes),
    ("internal", unforeseen),
    ("engine-failed", broken_engine),
    ("not-ready", not_loaded),
    ("not-ready", closing),
    ("deadline", late),
    ("deadline", late_decoding),
]


class TestErrors:
    """The error table, row by row."""

    @pytest.mark.parametrize(
        ("slug", "way"), WAYS, ids=[f"{slug}-{way.__name__}" for slug, way in WAYS]
    )
    async def test_a_row_of_the_error_table(
        self, slug: str, way: Callable[[Standing], Awaitable[Answer]], make: Standing
    ) -> None:
        """The answer is this problem, with its status and, where one can wait, for how long."""
        answer = await way(make)
        assert problem(answer) == slug
        assert ("retry-after" in answer.headers) == (answer.status_code in {429, 503})

    async def test_every_row_is_above(self) -> None:
        """A new problem gets its way here."""
        assert {slug for slug, _ in WAYS} == set(problems.STATUS)

    async def test_a_fault_is_logged_and_not_told(
        self, make: Standing, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The client gets the id under which the log has the reason."""
        answer = await unforeseen(make)
        assert "secret" not in answer.text
        (logged,) = [record for record in caplog.records if record.levelname == "ERROR"]
        line = json.loads(JsonFormatter().format(logged))
        assert "ZeroDivisionError: secret" in line["exception"]
        assert answer.json()["request_id"] in line["message"]

    async def test_an_error_without_a_status_is_answered_too(self, stand: Stand) -> None:
        """Should a bundle's error come this far, it is a fault like any other."""

        async def broken(data: bytes, *, deadline: float) -> None:
            raise BundleError(f"secret {len(data)} {deadline}")

        stand.serving.classify = broken  # type: ignore[method-assign, assignment]
        assert problem(await post(stand)) == "internal"

    @pytest.mark.parametrize(
        ("method", "path", "slug"),
        [
            ("GET", "/v1/classify/", "not-found"),
            ("POST", "/v1/classify/", "not-found"),
            ("GET", "/web/none.js", "not-found"),
            ("GET", "/web/%00", "not-found"),
            ("GET", "/web/..%2fhttp.py", "not-found"),
            ("GET", "/web/" + "x" * 5000, "not-found"),
            ("POST", "/web/page.js", "method-not-allowed"),
            ("POST", "/metrics", "method-not-allowed"),
            ("DELETE", "/v1/model", "method-not-allowed"),
            ("PUT", "/", "method-not-allowed"),
        ],
    )
    async def test_paths_and_methods_that_are_not_there(
        self, stand: Stand, method: str, path: str, slug: str
    ) -> None:
        """No redirect, no text, no way out of the folder: a problem."""
        assert problem(await stand.client.request(method, path)) == slug


class TestSize:
    """Bodies are accepted up to their limit and not a byte further, whoever counts."""

    @pytest.fixture(autouse=True)
    def _limit(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(http, "MAX_BODY_BYTES", len(SPEECH))

    @pytest.mark.parametrize("chunked", [True, False])
    async def test_raw(self, stand: Stand, *, chunked: bool) -> None:
        for more, status in ((0, 200), (1, 413)):
            body = SPEECH + bytes(more)
            content = in_pieces(body) if chunked else body
            answer = await stand.client.post(CLASSIFY, content=content)
            assert answer.status_code == status
        assert problem(answer) == "too-large"

    async def test_a_chunked_body_is_not_read_beyond_the_limit(self, stand: Stand) -> None:
        """What comes after the byte too many stays where it is."""

        async def endless() -> AsyncIterator[bytes]:
            yield SPEECH
            yield b"\0"
            pytest.fail("the body was read on")

        assert problem(await stand.client.post(CLASSIFY, content=endless())) == "too-large"

    async def test_multipart(self, stand: Stand) -> None:
        """The file counts; the form around it has its own allowance."""
        for more, status in ((0, 200), (1, 413)):
            answer = await stand.client.post(CLASSIFY, files={"file": SPEECH + bytes(more)})
            assert answer.status_code == status
        assert problem(answer) == "too-large"

    async def test_a_multipart_body_is_bounded_as_a_whole(self, stand: Stand) -> None:
        form = {"file": SPEECH, "note": bytes(http.ENVELOPE_BYTES)}
        assert problem(await stand.client.post(CLASSIFY, files=form)) == "too-large"

    async def test_json(self, stand: Stand) -> None:
        """The decoded clip counts."""
        for more, status in ((0, 200), (1, 413)):
            inputs = base64.b64encode(SPEECH + bytes(more)).decode()
            answer = await stand.client.post(HUB, json={"inputs": inputs})
            assert answer.status_code == status
        assert problem(answer) == "too-large"

    async def test_a_json_body_is_bounded_as_a_whole(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        body = json.dumps({"inputs": base64.b64encode(SPEECH).decode()}).encode()
        monkeypatch.setattr(http, "MAX_JSON_BYTES", len(body))
        headers = {"content-type": "application/json"}
        for more, status in ((0, 200), (1, 413)):
            padded = body + b" " * more
            answer = await stand.client.post(HUB, content=padded, headers=headers)
            assert answer.status_code == status

    async def test_the_limit_of_all_bodies_together(
        self, stand: Stand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Exactly filled is accepted, one byte more is not."""
        monkeypatch.setattr(http, "MAX_BUFFERED_BYTES", len(SPEECH))
        assert (await post(stand)).status_code == 200
        monkeypatch.setattr(http, "MAX_BUFFERED_BYTES", len(SPEECH) - 1)
        assert problem(await post(stand)) == "overloaded"

    async def test_a_length_that_is_no_length_is_counted(self, stand: Stand) -> None:
        """Servers refuse such headers; behind one that doesn't, the bytes count."""
        for length in ("", "-1", "many", "9" * 5000):
            headers = {"content-length": length}
            answer = await stand.client.post(CLASSIFY, content=in_pieces(SPEECH), headers=headers)
            assert answer.status_code in {200, 413}


class TestClassify:
    """POST /v1/classify."""

    async def test_the_answer(self, stand: Stand) -> None:
        """What the model heard and thinks, with the request's id and where the time went."""
        answer = (await post(stand)).json()
        assert answer["model"] == {"name": "tiny", "version": "1.0.0", "track": "stable"}
        assert answer["label"] in LABELS
        assert answer["score"] == max(answer["probabilities"].values())
        assert list(answer["probabilities"]) == list(LABELS)
        assert sum(answer["probabilities"].values()) == pytest.approx(1)
        assert answer["top"][0] == {"label": answer["label"], "score": answer["score"]}
        assert answer["audio"]["duration_s"] == 2.0
        assert 1.6 <= answer["audio"]["speech_s"] <= 2.0
        assert (answer["audio"]["sample_rate"], answer["audio"]["channels"]) == (16_000, 1)
        assert answer["segments"] is None
        times = answer["timing_ms"]
        assert times["decode"] + times["queue"] + times["inference"] <= times["total"]

    async def test_the_answer_is_the_classifier_s(self, stand: Stand) -> None:
        """HTTP adds nothing and takes nothing away."""
        answer = (await post(stand)).json()
        expected = stand.classifier.classify(stand.classifier.hear(SPEECH))
        assert answer["label"] == expected.label
        assert answer["probabilities"] == pytest.approx(dict(expected.probabilities))
        assert answer["decision"] == expected.decision

    async def test_a_clip_without_speech(self, stand: Stand) -> None:
        """Nothing is claimed of it, and no engine time is spent."""
        answer = (await post(stand, encoded(silence(2.0)))).json()
        assert answer["decision"] == "no_speech"
        assert answer["label"] is answer["score"] is None
        assert (answer["probabilities"], answer["top"]) == ({}, [])
        assert stand.runner.batches == []

    @pytest.mark.parametrize("flag", ["true", "1", "TRUE"])
    async def test_the_time_line(self, stand: Stand, flag: str) -> None:
        """Windows in order, with their own labels."""
        answer = await stand.client.post(CLASSIFY, params={"timeline": flag}, content=SPEECH)
        segments = answer.json()["segments"]
        assert len(segments) == WINDOWS
        assert segments[0]["start_s"] == 0
        assert segments[-1]["end_s"] <= 2
        for segment in segments:
            assert segment["end_s"] - segment["start_s"] == pytest.approx(WINDOW_S)
            assert segment["label"] in LABELS
        assert segments[1]["start_s"] - segments[0]["start_s"] == pytest.approx(HOP_S)

    @pytest.mark.parametrize("flag", ["false", "0"])
    async def test_no_time_line_unless_asked(self, stand: Stand, flag: str) -> None:
        answer = await stand.client.post(CLASSIFY, params={"timeline": flag}, content=SPEECH)
        assert answer.json()["segments"] is None

    @pytest.mark.parametrize("flag", ["", "yes", "2", "true;"])
    async def test_a_flag_that_is_none_is_refused(self, stand: Stand, flag: str) -> None:
        """Unread: the query is wrong whatever the clip."""
        answer = await stand.client.post(
            CLASSIFY, params={"timeline": flag}, content=untouchable(), headers=RAW
        )
        assert problem(answer) == "bad-request"

    @pytest.mark.parametrize(
        "content_type",
        [
            *contract.RAW_TYPES,
            "audio/x-wav",
            "audio/webm;codecs=opus",
            "Audio/WAV; charset=binary",
            "application/ogg",
            "application/x-www-form-urlencoded",
            "",
            None,
        ],
    )
    async def test_a_content_type_that_may_be_audio_is_taken(
        self, stand: Stand, content_type: str | None
    ) -> None:
        """Bytes tell the format; curl calls every --data-binary a form."""
        headers = {} if content_type is None else {"content-type": content_type}
        answer = await stand.client.post(CLASSIFY, content=SPEECH, headers=headers)
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        "content_type",
        [
            "text/plain",
            "application/json",
            "image/png",
            "video/mp4",
            "application/vnd.bentoml+pickle",
            "application/x-pickle",
            "multipart/mixed; boundary=x",
        ],
    )
    async def test_a_content_type_that_is_no_audio_is_refused(
        self, stand: Stand, content_type: str
    ) -> None:
        """Without reading the body."""
        headers = {"content-type": content_type}
        answer = await stand.client.post(CLASSIFY, content=untouchable(), headers=headers)
        assert problem(answer) == "unsupported-format"

    @pytest.mark.parametrize(
        ("container", "subtype", "rate"),
        [
            ("WAV", "PCM_16", 8000),
            ("WAV", "FLOAT", 44_100),
            ("FLAC", "PCM_16", 16_000),
            ("OGG", "VORBIS", 22_050),
            ("OGG", "OPUS", 48_000),
            ("MP3", "MPEG_LAYER_III", 44_100),
        ],
    )
    async def test_formats(self, stand: Stand, container: str, subtype: str, rate: int) -> None:
        """Each is told back as it was sent."""
        sound = np.stack([speech_like(2.0, rate=rate)] * 2, axis=1)
        body = encoded(sound, rate, container=container, subtype=subtype)
        audio = (await post(stand, body)).json()["audio"]
        assert (audio["sample_rate"], audio["channels"]) == (rate, 2)
        assert audio["duration_s"] == pytest.approx(2.0, abs=0.01)


class TestMultipart:
    """POST /v1/classify with a form."""

    async def test_the_field_called_file_is_the_clip(self, stand: Stand) -> None:
        """Whatever its name and type, and whatever else is in the form."""
        answer = await stand.client.post(
            CLASSIFY,
            files={"file": ("a b\"c'.exe", SPEECH, "text/plain")},
            data={"note": "x"},
        )
        assert answer.json()["label"] == (await post(stand)).json()["label"]

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("multipart/form-data", SPEECH),
            ("multipart/form-data; boundary=", SPEECH),
            ("multipart/form-data; boundary=x", b""),
            ("multipart/form-data; boundary=x", SPEECH),
            ("multipart/form-data; boundary=x", b"--x\r\n\r\n"),
            ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: nonsense\r\n\r\n"),
            ("multipart/form-data; boundary=x", b'--x\r\ncontent-disposition: form-data; name="a'),
            ("multipart/form-data; boundary=x; charset=undefined", b"--x\r\nA: b\r\n\r\n\r\n--x--"),
            ("multipart/form-data; boundary=" + "x" * 5000, SPEECH),
        ],
    )
    async def test_a_form_that_cannot_be_read_is_refused(
        self, stand: Stand, content_type: str, body: bytes
    ) -> None:
        headers = {"content-type": content_type}
        answer = await stand.client.post(CLASSIFY, content=body, headers=headers)
        assert problem(answer) == "bad-request"

    @pytest.mark.parametrize(
        "form",
        [
            {"files": {"clip": SPEECH}},
            {"files": {"file": SPEECH, "other": SPEECH}},
            {"files": [("file", SPEECH), ("file", SPEECH)]},
            {"files": {"other": b""}, "data": {"file": "text"}},
            {"files": {"file": SPEECH}, "data": dict.fromkeys("abcdefghi", "x")},
        ],
        ids=["other name", "two files", "file twice", "text", "many fields"],
    )
    async def test_a_form_that_is_another_is_refused(
        self, stand: Stand, form: dict[str, Any]
    ) -> None:
        """One file called `file`, and few fields beside it."""
        assert problem(await stand.client.post(CLASSIFY, **form)) == "bad-request"

    async def test_an_empty_file_is_no_audio(self, stand: Stand) -> None:
        answer = await stand.client.post(CLASSIFY, files={"file": b""})
        assert problem(answer) == "not-audio"

    @given(
        st.binary(max_size=300),
        st.sampled_from(["", "; boundary=x", "; boundary=x; charset=rot13"]),
    )
    @settings(deadline=None)
    async def test_any_bytes(self, body: bytes, parameters: str) -> None:
        """The parser is somebody else's: whatever it meets, nothing but BadRequest comes out."""
        scope = {
            "type": "http",
            "headers": [(b"content-type", b"multipart/form-data" + parameters.encode())],
        }
        for start in (b"", b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n'):
            with pytest.raises(BadRequest):
                await http._form_file(Request(scope), start + body)


class TestHub:
    """POST /v1/audio-classification, as Hugging Face's clients use it."""

    async def test_raw_bytes(self, stand: Stand) -> None:
        """All labels, likeliest first, with the scores of /v1/classify."""
        ranked = (await post(stand, path=HUB)).json()
        expected = (await post(stand)).json()["probabilities"]
        assert {item["label"]: item["score"] for item in ranked} == pytest.approx(expected)
        scores = [item["score"] for item in ranked]
        assert scores == sorted(scores, reverse=True)

    @pytest.mark.parametrize(
        ("parameters", "labels"),
        [
            (None, 6),
            ({}, 6),
            ({"top_k": None}, 6),
            ({"top_k": 1}, 1),
            ({"top_k": 2, "function_to_apply": "softmax"}, 2),
            ({"top_k": 100}, 6),
        ],
    )
    async def test_base64_in_json(
        self, stand: Stand, parameters: dict[str, Any] | None, labels: int
    ) -> None:
        """What the client sends when there are parameters."""
        body = {"inputs": base64.b64encode(SPEECH).decode(), "parameters": parameters}
        ranked = (await stand.client.post(HUB, json=body)).json()
        whole = (await post(stand, path=HUB)).json()
        assert [item["label"] for item in ranked] == [item["label"] for item in whole[:labels]]

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"", "Invalid JSON"),
            (b"{", "Invalid JSON"),
            (b"[]", "should be an object"),
            (b"{}", "inputs: Field required"),
            (b'{"inputs": 1}', "inputs: Input should be a valid string"),
            (b'{"inputs": "!"}', "not base64"),
            ('{"inputs": "é"}'.encode(), "not base64"),
            (b'{"inputs": "UklG", "other": 1}', "other: Extra inputs"),
            (b'{"inputs": "UklG", "parameters": {"top_k": 0}}', "parameters: top_k: "),
            (b'{"inputs": "UklG", "parameters": {"top_k": "x"}}', "parameters: top_k: "),
            (
                b'{"inputs": "UklG", "parameters": {"function_to_apply": "sigmoid"}}',
                "'softmax'",
            ),
            (b'{"inputs": "UklG", "parameters": {"other": 1}}', "other: "),
            (b"\xff\xfe", "Invalid JSON"),
            (b"[" * 10_000, "JSON"),
            (b'{"inputs": "\\ud800"}', "JSON"),
        ],
    )
    async def test_json_that_is_wrong_is_refused_with_the_reason(
        self, stand: Stand, body: bytes, reason: str
    ) -> None:
        headers = {"content-type": "application/json"}
        answer = await stand.client.post(HUB, content=body, headers=headers)
        assert problem(answer) == "bad-request"
        assert reason in answer.json()["detail"]

    async def test_json_around_no_audio(self, stand: Stand) -> None:
        """base64 of nothing, too."""
        for inputs in ("", "AAAA"):
            answer = await stand.client.post(HUB, json={"inputs": inputs})
            assert problem(answer) == "not-audio"

    async def test_a_clip_without_speech_has_no_labels(self, stand: Stand) -> None:
        assert (await post(stand, encoded(silence(2.0)), path=HUB)).json() == []

    async def test_a_form_is_not_taken(self, stand: Stand) -> None:
        """The contract knows none."""
        answer = await stand.client.post(HUB, files={"file": SPEECH})
        assert problem(answer) == "unsupported-format"


class TestHeaders:
    """What every answer says beside its body."""

    @pytest.mark.parametrize("sent", ["a", "A.b_c:d-9", "x" * 128])
    async def test_an_id_is_taken_over(self, stand: Stand, sent: str) -> None:
        """So that a caller finds its request in the log."""
        answer = await stand.client.post(CLASSIFY, content=SPEECH, headers={"x-request-id": sent})
        assert answer.headers["x-request-id"] == answer.json()["id"] == sent

    @pytest.mark.parametrize("sent", ["", "a b", "x" * 129, "a\tb", '{"a"}', "é", "<script>"])
    async def test_an_id_that_is_malformed_is_replaced(self, stand: Stand, sent: str) -> None:
        """It goes into logs and answers as it is."""
        headers = {b"x-request-id": sent.encode()}
        answer = await stand.client.post(CLASSIFY, content=SPEECH, headers=headers)
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])

    async def test_an_id_is_made(self, stand: Stand) -> None:
        """Each request has its own."""
        ids = {(await stand.client.get("/v1/model")).headers["x-request-id"] for _ in range(5)}
        assert len(ids) == 5

    @pytest.mark.parametrize(
        "path", ["/v1/model", "/", "/docs", "/metrics", "/none", "/web/page.js"]
    )
    async def test_the_model_s_version_is_in_every_answer(self, stand: Stand, path: str) -> None:
        """Errors included, so that a rollout can be followed by headers alone."""
        assert (await stand.client.get(path)).headers["x-model-version"] == "1.0.0"

    async def test_connections_are_closed_while_draining(self, stand: Stand) -> None:
        """Clips are answered as before, but clients are told to connect to another pod."""
        assert "connection" not in (await post(stand)).headers
        stand.serving.draining = True
        answer = await post(stand)
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        assert stand.sample("timbre_ready") == 0

    async def test_connections_are_closed_while_loading(self) -> None:
        """There is no version to tell then."""
        desk = Desk()
        transport = httpx.ASGITransport(create_app(desk))
        async with httpx.AsyncClient(transport=transport, base_url="http://timbre") as client:
            for method, path in (("GET", "/v1/model"), ("POST", CLASSIFY), ("POST", HUB)):
                answer = await client.request(method, path)
                check(answer)
                assert problem(answer) == "not-ready"
                assert answer.headers["connection"] == "close"
                assert "x-model-version" not in answer.headers

    @pytest.mark.parametrize("path", ["/", "/docs"])
    async def test_pages_load_nothing_from_elsewhere(self, stand: Stand, path: str) -> None:
        """The policy says so, and nothing on them asks for it."""
        page = await stand.client.get(path)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", page.text)

    async def test_pages_find_their_files(self, stand: Stand) -> None:
        for path in ("/", "/docs"):
            page = (await stand.client.get(path)).text
            for file in re.findall(r"""(?:src|href)="(/web/[^"]+)""", page):
                assert (await stand.client.get(file)).status_code == 200, file


class TestDocument:
    """/openapi.json is true; that answers agree with it is checked for every test here."""

    async def test_it_is_served_and_valid(self, stand: Stand) -> None:
        document = (await stand.client.get("/openapi.json")).json()
        assert document == DOCUMENT
        validate(document)

    async def test_it_lists_the_routes_there_are(self, stand: Stand) -> None:
        """The public interface is what is under /v1: no route without its entry, and no more."""
        router = stand.app._app  # type: ignore[attr-defined]
        assert isinstance(router, Router)
        routes = {
            (route.path, method.lower())
            for route in router.routes
            if isinstance(route, Route) and route.path.startswith("/v1/")
            for method in route.methods or ()
            if method != "HEAD"
        }
        documented = {
            (path, method) for path, methods in DOCUMENT["paths"].items() for method in methods
        }
        assert routes == documented

    async def test_its_statuses_are_those_of_the_error_table(self) -> None:
        """A clip can meet all of them but 404 and 405, which no operation has."""
        for path in (CLASSIFY, HUB):
            statuses = {int(status) for status in DOCUMENT["paths"][path]["post"]["responses"]}
            assert statuses == {200, *problems.STATUS.values()} - {404, 405}

    async def test_its_media_types_are_accepted(self, stand: Stand) -> None:
        """Each content type that is listed for a body is one the route takes."""
        for path in (CLASSIFY, HUB):
            content = DOCUMENT["paths"][path]["post"]["requestBody"]["content"]
            for media_type in content:
                if media_type == "multipart/form-data":
                    answer = await stand.client.post(path, files={"file": SPEECH})
                elif media_type == "application/json":
                    inputs = base64.b64encode(SPEECH).decode()
                    answer = await stand.client.post(path, json={"inputs": inputs})
                else:
                    headers = {"content-type": media_type}
                    answer = await stand.client.post(path, content=SPEECH, headers=headers)
                assert answer.status_code == 200, media_type

    async def test_the_facts_of_the_model(self, stand: Stand) -> None:
        """What /v1/model says is what bundle.json says."""
        facts = (await stand.client.get("/v1/model")).json()
        bundle = stand.runner.bundle
        assert facts["digest"] == bundle.digest
        assert facts["labels"] == list(bundle.manifest.labels) == list(LABELS)
        assert (facts["window_s"], facts["hop_s"]) == (WINDOW_S, HOP_S)
        assert (facts["runtime"], facts["precision"]) == ("openvino", "fp32")


class Leaver:
    """A client that sends a whole clip, and then can go."""

    def __init__(self, stand: Stand) -> None:
        self._stand = stand
        self._messages: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": SPEECH, "more_body": False}
        ]
        self._gone = asyncio.Event()
        self.sent: list[MutableMapping[str, Any]] = []
        self.request = asyncio.ensure_future(self._ask())

    async def _ask(self) -> None:
        scope = {
            "type": "http",
            "method": "POST",
            "path": CLASSIFY,
            "query_string": b"",
            "headers": [(b"content-type", b"audio/wav")],
        }
        await self._stand.app(scope, self._receive, self._send)

    async def _receive(self) -> MutableMapping[str, Any]:
        if self._messages:
            return self._messages.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        self.sent.append(message)

    async def leave(self) -> None:
        """Disconnect, and wait for the app to have noticed."""
        self._gone.set()
        async with asyncio.timeout(PATIENCE_S):
            await self.request


class TestLeaving:
    """Nobody works for a client that has gone."""

    async def test_queued_windows_are_dropped(self, stand: Stand) -> None:
        """Their place is free for others at once, and nothing of them is computed."""
        stand.runner.gate.shut()
        staying = post(stand)
        await stand.runner.gate.reached()
        await stand.serving.submitted()
        leaver = Leaver(stand)
        await stand.serving.submitted()
        assert stand.serving.admission.in_flight == 2 * WINDOWS
        await leaver.leave()
        await stand.metrics.drop.wait()
        assert stand.sample("timbre_dropped_windows_total", reason="cancelled") == WINDOWS
        assert stand.serving.admission.in_flight == WINDOWS
        assert stand.serving._batcher.queued == 0
        assert leaver.sent == []
        stand.let_go()
        assert (await staying).status_code == 200
        assert sum(stand.runner.batches) == WINDOWS
        gone = {"route": CLASSIFY, "status": str(CLIENT_GONE)}
        assert stand.sample("timbre_requests_total", **gone) == 1

    async def test_leaving_while_the_clip_is_decoded(self, make: Standing) -> None:
        """The place in the backlog is free again; what is decoded goes nowhere."""
        async with make(decode_backlog=1) as stand:
            stand.classifier.decoding.shut()
            leaver = Leaver(stand)
            await stand.classifier.decoding.reached()
            await leaver.leave()
            stand.let_go()
            assert (await post(stand)).status_code == 200
            assert sum(stand.runner.batches) == WINDOWS

    async def test_leaving_while_sending(self, stand: Stand) -> None:
        """A body that breaks off is no error of the server's, and its bytes are given back."""
        messages: list[MutableMapping[str, Any]] = [
            {"type": "http.request", "body": SPEECH[:100], "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> MutableMapping[str, Any]:
            return messages.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            pytest.fail(f"nobody is there to hear {message}")

        scope = {
            "type": "http",
            "method": "POST",
            "path": CLASSIFY,
            "query_string": b"",
            "headers": [],
        }
        await stand.app(scope, receive, send)
        gone = {"route": CLASSIFY, "status": str(CLIENT_GONE)}
        assert stand.sample("timbre_requests_total", **gone) == 1
        assert stand.desk.buffered == 0


class TestClosing:
    """Shutdown answers what is inside."""

    @pytest.mark.parametrize("where", ["decoding", "engine"])
    async def test_a_clip_inside_is_answered(self, stand: Stand, where: str) -> None:
        """Wherever it is when the server closes, and new ones are refused meanwhile."""
        gate: Gate = stand.classifier.decoding if where == "decoding" else stand.runner.gate
        gate.shut()
        inside = post(stand)
        await gate.reached()
        closed = asyncio.ensure_future(stand.serving.close())
        await asyncio.sleep(0)  # it begins
        assert problem(await post(stand)) == "not-ready"
        assert not closed.done()
        stand.let_go()
        assert (await inside).status_code == 200
        await closed

    async def test_a_clip_still_being_sent_is_refused(self, stand: Stand) -> None:
        """It was let in before, but there is nobody left to do the work."""
        sending = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield SPEECH[:100]
            sending.set()
            await stand.serving.close()
            yield SPEECH[100:]

        answer = await stand.client.post(CLASSIFY, content=body(), headers=RAW)
        assert sending.is_set()
        assert problem(answer) == "not-ready"


class TestHealth:
    """Liveness is about a stuck engine, readiness about whether new clips are taken."""

    async def test_only_a_stuck_engine_is_not_alive(self, make: Standing) -> None:
        """An engine call counts as stuck at the limit, not before, and no more once it ends."""
        async with make(stuck_s=60) as stand:
            assert stand.serving.alive
            stand.runner.gate.shut()
            clip = post(stand)
            await stand.runner.gate.reached()
            stand.serving.skipped_s = 55
            assert stand.serving.alive
            stand.serving.skipped_s = 60
            assert not stand.serving.alive
            assert stand.serving.ready
            stand.let_go()
            await clip
            assert stand.serving.alive

    async def test_overload_makes_neither_unready_nor_dead(self, make: Standing) -> None:
        """Other pods are no less busy: taking this one away would only make it worse."""
        async with make(queue_windows=1) as stand:
            stand.runner.gate.shut()
            clips = [post(stand) for _ in range(20)]
            await stand.runner.gate.reached()
            assert (stand.serving.ready, stand.serving.alive) == (True, True)
            assert stand.sample("timbre_ready") == 1
            stand.let_go()
            statuses = {(await clip).status_code for clip in clips}
            assert statuses == {200, 429}

    async def test_closing_is_not_ready(self, stand: Stand) -> None:
        await stand.serving.close()
        assert not stand.serving.ready
        assert stand.serving.alive


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """Read the log's lines of requests, as they are written."""
    caplog.set_level(logging.INFO, "timbre.requests")

    def read() -> list[dict[str, Any]]:
        records = [record for record in caplog.records if record.name == "timbre.requests"]
        texts = [JsonFormatter().format(record) for record in records]
        assert not any("\n" in text for text in texts)
        return [json.loads(text) for text in texts]

    return read


Lines = Callable[[], list[dict[str, Any]]]
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class TestLog:
    """One line of JSON a request: enough to find and time it, nothing of what was said."""

    async def test_a_request_is_one_line(self, make: Standing, lines: Lines) -> None:
        async with make(track="canary") as stand:
            headers = {"x-request-id": "some-id", "traceparent": TRACEPARENT}
            await stand.client.post(CLASSIFY, content=SPEECH, headers=headers)
        (line,) = lines()
        assert line["id"] == "some-id"
        assert line["traceparent"] == TRACEPARENT
        assert (line["method"], line["route"], line["status"]) == ("POST", CLASSIFY, 200)
        assert (line["model"], line["version"], line["track"]) == ("tiny", "1.0.0", "canary")
        assert (line["windows"], line["duration_s"]) == (WINDOWS, 2.0)
        for time in ("total_ms", "decode_ms", "queue_ms", "inference_ms"):
            assert line[time] >= 0
        assert line["level"] == "info"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", line["time"])

    async def test_it_says_nothing_of_the_clip_or_the_caller(
        self, stand: Stand, lines: Lines
    ) -> None:
        """No file name, no label, no score, no query, no header but the two that find it."""
        await stand.client.post(
            CLASSIFY + "?timeline=true&name=private",
            files={"file": ("private.wav", SPEECH, "audio/private")},
            headers={"user-agent": "private", "traceparent": "private", "authorization": "private"},
        )
        await stand.client.get("/private/private.wav")
        for line in lines():
            text = json.dumps(line)
            assert "private" not in text
            assert "traceparent" not in line
            assert not {"label", "score", "probabilities", "top"} & set(line)
            assert not [label for label in LABELS if label in text]
        assert lines()[1]["route"] == "other"

    async def test_a_refusal_is_one_line_with_its_problem(self, stand: Stand, lines: Lines) -> None:
        await stand.client.post(CLASSIFY, content=b"no audio")
        (line,) = lines()
        assert (line["status"], line["problem"], line["level"]) == (400, "not-audio", "info")

    async def test_a_log_that_leaves_requests_out_has_none(
        self, stand: Stand, caplog: pytest.LogCaptureFixture
    ) -> None:
        """TIMBRE_LOG_LEVEL=warning is for who logs at the gateway."""
        caplog.set_level(logging.WARNING, "timbre.requests")
        await post(stand)
        assert not [record for record in caplog.records if record.name == "timbre.requests"]


class TestMetrics:
    """What Prometheus sees."""

    async def test_requests_are_counted_by_route_and_status(self, stand: Stand) -> None:
        await post(stand)
        await post(stand, b"no audio")
        for status, count in (("200", 1), ("400", 1)):
            counted = stand.sample("timbre_requests_total", route=CLASSIFY, status=status)
            assert counted == count
        assert stand.sample("timbre_problems_total", type="not-audio") == 1
        assert stand.sample("timbre_request_seconds_count", route=CLASSIFY) == 2

    async def test_a_client_cannot_make_series(self, stand: Stand) -> None:
        """Paths, methods, ids and content types that nobody knows leave no label behind."""
        await post(stand)
        await stand.client.get("/none")
        before = self._series(await stand.client.get("/metrics"))
        for number in range(20):
            await stand.client.get(f"/none/{number}")
            await stand.client.request(f"METHOD{number}", "/none", content=b"")
            await stand.client.get("/web/" + "x" * number + ".js")
            await stand.client.get(f"/v1/model/{number}?a={number}")
        after = self._series(await stand.client.get("/metrics"))
        assert {series for series in after - before if 'route="/metrics"' not in series} == set()

    @staticmethod
    def _series(answer: Answer) -> set[str]:
        return {
            line.rpartition(" ")[0] for line in answer.text.splitlines() if not line.startswith("#")
        }

    async def test_a_clip_is_measured_on_its_way(self, stand: Stand) -> None:
        label = (await post(stand)).json()
        decided = {"decision": label["decision"], "label": label["label"]}
        assert stand.sample("timbre_decisions_total", **decided) == 1
        for name in ("confidence", "clip_seconds", "decode_seconds", "queue_seconds"):
            assert stand.sample(f"timbre_{name}_count") == 1, name
        assert stand.sample("timbre_batch_windows_sum") == WINDOWS
        assert stand.sample("timbre_admitted_windows_total") == WINDOWS
        assert stand.sample("timbre_in_flight_windows") == 0


class TestLoading:
    """Where nothing is served yet."""

    async def test_metrics_and_pages_are_there(self) -> None:
        """A start that takes long can be watched."""
        transport = httpx.ASGITransport(create_app(Desk()))
        async with httpx.AsyncClient(transport=transport, base_url="http://timbre") as client:
            for path in ("/", "/docs", "/openapi.json", "/metrics"):
                assert (await client.get(path)).status_code == 200

    async def test_the_reference_s_own_files_are_served_where_there_are_any(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "swagger-ui.css").write_text("body {}")
        transport = httpx.ASGITransport(create_app(Desk(), reference_assets=tmp_path))
        async with httpx.AsyncClient(transport=transport, base_url="http://timbre") as client:
            assert (await client.get("/reference/swagger-ui.css")).text == "body {}"
            assert problem(await client.get("/reference/none")) == "not-found"
