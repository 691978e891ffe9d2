"""Asking the app: what tests send, and how every answer is held against its own document."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx
import jsonschema
import pytest
from starlette.types import ASGIApp

from service import contract, problems
from tests.support.audio import encoded, speech_like
from tests.support.stand import Stand

CLASSIFY = "/v1/classify"
HUB = "/v1/audio-classification"
SPEECH = encoded(speech_like(2.0))
WINDOWS = 3
"""Of SPEECH: 2 s in windows of 1 s every 0.5 s."""
DOCUMENT: Any = json.loads(json.dumps(contract.openapi(tokens=False)))
GUARDED: Any = json.loads(json.dumps(contract.openapi(tokens=True)))
"""The document of a server with tokens, and DOCUMENT that of one without."""
RAW = {"content-type": "application/octet-stream"}

Answer = httpx.Response


def check(answer: Answer, document: Any) -> None:  # noqa: ANN401
    """Hold an answer of a documented operation against the document."""
    assert answer.headers["x-request-id"]
    path = document["paths"].get(answer.request.url.path, {})
    operation = path.get(answer.request.method.lower())
    if operation is None:
        return
    assert str(answer.status_code) in operation["responses"], answer.text
    documented = operation["responses"][str(answer.status_code)]
    (media_type,) = documented["content"]
    assert answer.headers["content-type"] == media_type
    special = {"retry-after", "www-authenticate", "server-timing"}
    own = {name for name in answer.headers if name.startswith("x-") or name in special}
    assert own <= set(documented["headers"])
    assert own & special == set(documented["headers"]) & special
    if "retry-after" in own:
        assert re.fullmatch("[1-9][0-9]*", answer.headers["retry-after"])
    schema = {**documented["content"][media_type]["schema"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(answer.json())


def checking(document: Any) -> Callable[[Answer], Awaitable[None]]:  # noqa: ANN401
    """Give what reads an answer, then holds it against this document."""

    async def check_it(answer: Answer) -> None:
        await answer.aread()
        check(answer, document)

    return check_it


Standing = Callable[..., AbstractAsyncContextManager[Stand]]


def checked_client(app: ASGIApp) -> httpx.AsyncClient:
    """Give a client of an app without a stand; its answers are checked too."""
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app),
        base_url="http://timbre",
        event_hooks={"response": [checking(DOCUMENT)]},
    )


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


def post(
    stand: Stand, body: bytes | AsyncIterator[bytes] = SPEECH, path: str = CLASSIFY
) -> asyncio.Task[Answer]:
    """Send a clip in the background."""
    return asyncio.ensure_future(stand.client.post(path, content=body, headers=RAW))
