"""The error table: at least one way to each of its rows, and no row without one."""
# ruff: noqa: D103 - the ways into each error are named after what they do

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from service import bodies, problems
from service.audio import MAX_BODY_BYTES, MAX_DURATION_S
from service.domain import BundleError
from service.envelope import JsonFormatter
from tests.support.asking import (
    CLASSIFY,
    RAW,
    SPEECH,
    WINDOWS,
    Answer,
    Standing,
    in_pieces,
    never_ending,
    post,
    problem,
    untouchable,
)
from tests.support.audio import encoded, speech_like
from tests.support.misbehaving import misbehaving_pool
from tests.support.stand import Stand
from tests.support.tokens import FIRST, token_file

pytestmark = pytest.mark.asyncio

# One way at least to each row of the error table; their names say how.


async def bad_multipart(make: Standing) -> Answer:
    async with make() as stand:
        headers = {"content-type": "multipart/form-data"}
        return await stand.client.post(CLASSIFY, content=SPEECH, headers=headers)


async def random_bytes(make: Standing) -> Answer:
    async with make() as stand:
        return await stand.client.post(CLASSIFY, content=b"no audio at all")


async def no_token(make: Standing) -> Answer:
    """Without one the body isn't even read."""
    with TemporaryDirectory() as folder:
        async with make(token_file=token_file(Path(folder), FIRST)) as stand:
            return await stand.client.post(CLASSIFY, content=untouchable(), headers=RAW)


async def no_such_path(make: Standing) -> Answer:
    async with make() as stand:
        return await stand.client.get("/v2/classify")


async def wrong_method(make: Standing) -> Answer:
    async with make() as stand:
        answer = await stand.client.get(CLASSIFY)
        assert answer.headers["allow"] == "POST"
        return answer


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


async def breaks_the_decoder(make: Standing) -> Answer:
    with misbehaving_pool(1) as decoder:
        async with make(decoder=decoder) as stand:
            return await stand.client.post(CLASSIFY, content=b"segfault")


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
    """There is no room for one more clip to decode, so the body isn't even read."""
    async with make(decode_backlog=1) as stand:
        stand.classifier.decoding.shut()
        first = post(stand)
        await stand.classifier.decoding.reached()
        answer = await stand.client.post(CLASSIFY, content=untouchable(), headers=RAW)
        stand.let_go()
        assert (await first).status_code == 200
        assert stand.sample("timbre_refused_windows_total") == 1
        return answer


async def full_of_bytes(make: Standing) -> Answer:
    """All bodies together are bounded, also those that never end."""
    async with make() as stand:
        stand.desk.buffers.held += bodies.MAX_BUFFERED_BYTES
        answer = await stand.client.post(CLASSIFY, content=in_pieces(SPEECH), headers=RAW)
        stand.desk.buffers.held -= bodies.MAX_BUFFERED_BYTES
        assert stand.sample("timbre_refused_windows_total") == 1
        return answer


async def unforeseen(make: Standing) -> Answer:
    async with make() as stand:

        async def broken(data: bytes, **how: object) -> None:
            raise ZeroDivisionError(f"secret {len(data)} {how}")

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
    ("unauthorized", no_token),
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
    ("undecodable", breaks_the_decoder),
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

        async def broken(data: bytes, **how: object) -> None:
            raise BundleError(f"secret {len(data)} {how}")

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
            ("GET", "/metrics", "not-found"),
            ("POST", "/metrics", "not-found"),
            ("DELETE", "/v1/model", "method-not-allowed"),
            ("PUT", "/", "method-not-allowed"),
        ],
    )
    async def test_paths_and_methods_that_are_not_there(
        self, stand: Stand, method: str, path: str, slug: str
    ) -> None:
        """No redirect, no text, no way out of the folder: a problem."""
        assert problem(await stand.client.request(method, path)) == slug
