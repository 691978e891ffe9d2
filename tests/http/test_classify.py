"""What /v1/classify takes, and what it answers."""

from __future__ import annotations

import codecs
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from service import bodies, contract
from service.domain import BadRequest
from tests.support.asking import CLASSIFY, RAW, SPEECH, WINDOWS, post, problem, untouchable
from tests.support.audio import encoded, silence, speech_like
from tests.support.models import HOP_S, LABELS, WINDOW_S
from tests.support.stand import Stand

pytestmark = pytest.mark.asyncio
FORM = "multipart/form-data; boundary=x"


def form_of(*parts: bytes, boundary: str = "x") -> bytes:
    """Write a form; each part is what follows `form-data; `."""
    delimiter = b"--" + boundary.encode("latin-1")
    start = delimiter + b"\r\nContent-Disposition: form-data; "
    return b"".join(start + part + b"\r\n" for part in parts) + delimiter + b"--\r\n"


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

    async def test_nothing_a_form_says_of_its_encoding_is_looked_up(self, stand: Stand) -> None:
        """Python's codecs are slow, and names it doesn't know stay in memory."""
        asked: list[str] = []
        spy = asked.append
        codecs.register(spy)  # asked for the names that nobody else knows
        try:
            answer = await stand.client.post(
                CLASSIFY,
                content=form_of(
                    b'name="_charset_"\r\n\r\nspied-field',
                    b"name=\"note\"; name*=spied-name''x\r\n"
                    b"Content-Type: text/plain; charset=spied-text\r\n\r\n\xff",
                    b'name="file"; filename="\xff"; filename*=spied-filename\'\'x\r\n'
                    b"Content-Type: audio/wav; charset=spied-file\r\n\r\n" + SPEECH,
                ),
                headers={"content-type": f"{FORM}; charset=spied-form"},
            )
        finally:
            codecs.unregister(spy)
        assert answer.status_code == 200
        assert asked == []

    async def test_a_text_field_is_short(self, stand: Stand) -> None:
        """At its limit it is let in; a byte more, and the refusal says what a form is for."""
        for more, status in ((0, 200), (1, 400)):
            note = "x" * (bodies.MAX_FIELD_BYTES + more)
            answer = await stand.client.post(CLASSIFY, files={"file": SPEECH}, data={"note": note})
            assert answer.status_code == status
        assert problem(answer) == "bad-request"
        assert answer.json()["detail"] == (
            "The multipart form cannot be read: Part exceeded maximum size of 8KB. "
            "Send the clip as a file in a field called `file`."
        )

    @pytest.mark.parametrize(
        "boundary", ['a"b', "a\\", 'a\\"', "a;b", " a", "'()+_,-./:=?", "\xe9"]
    )
    async def test_a_boundary_may_have_any_characters(self, stand: Stand, boundary: str) -> None:
        """Beyond those of RFC 2046, too."""
        quoted = boundary.replace("\\", "\\\\").replace('"', '\\"')
        answer = await stand.client.post(
            CLASSIFY,
            content=form_of(b'name="file"; filename="a"\r\n\r\n' + SPEECH, boundary=boundary),
            headers=[
                (b"content-type", f'multipart/form-data; boundary="{quoted}"'.encode("latin-1"))
            ],
        )
        assert answer.status_code == 200

    @pytest.mark.parametrize("parameters", ["", "; boundary=", '; boundary=""', "; charset=idna"])
    async def test_only_a_missing_boundary_is_called_so(
        self, stand: Stand, parameters: str
    ) -> None:
        """What is wrong with the form itself has other words."""
        said = []
        for content_type in (f"multipart/form-data{parameters}", f"{FORM}; charset=idna"):
            answer = await stand.client.post(
                CLASSIFY, content=b"no form", headers={"content-type": content_type}
            )
            assert problem(answer) == "bad-request"
            said.append(answer.json()["detail"])
        assert ["no boundary" in detail for detail in said] == [True, False]

    async def test_an_empty_file_is_no_audio(self, stand: Stand) -> None:
        answer = await stand.client.post(CLASSIFY, files={"file": b""})
        assert problem(answer) == "not-audio"

    @given(
        st.binary(max_size=300),
        st.sampled_from(["", "; boundary=x", "; boundary=x; charset=rot13"]),
    )
    async def test_any_bytes(self, body: bytes, parameters: str) -> None:
        """The parser is somebody else's: whatever it meets, nothing but BadRequest comes out."""
        scope = {
            "type": "http",
            "headers": [(b"content-type", b"multipart/form-data" + parameters.encode())],
        }
        for start in (b"", b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n'):
            with pytest.raises(BadRequest):
                await bodies.form_file(Request(scope), start + body)
