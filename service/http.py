"""The routes: read a body within limits, call `Serving`, answer in the shapes of contract.py."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncGenerator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from service import contract
from service.audio import ACCEPTED, MAX_BODY_BYTES
from service.domain import (
    BadRequest,
    NotReady,
    Overloaded,
    SlowBody,
    TooLarge,
    UnsupportedFormat,
)
from service.envelope import Envelope, Exchange
from service.runtime import cpu_features
from service.serving import NOT_READY_RETRY_S, Served, Serving

WEB = Path(__file__).parent / "web"

ENVELOPE_BYTES = 64 * 1024
"""What a multipart or JSON body may have beside the audio."""
MAX_JSON_BYTES = 4 * (MAX_BODY_BYTES // 3 + 1) + ENVELOPE_BYTES
"""A clip of `MAX_BODY_BYTES` grows by a third in base64."""
MAX_BUFFERED_BYTES = 256 * 1024 * 1024
"""Of all bodies being read or decoded at a time: slow bodies cost memory, not permits."""

PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; media-src 'self' blob:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""Pages load nothing but their own files."""

# A form's type is what curl --data-binary says of anything, so it is taken for raw bytes too.
_RAW_TYPES = {
    "",
    "application/octet-stream",
    "application/ogg",
    "application/x-www-form-urlencoded",
}

_T = TypeVar("_T")


class Desk:
    """What the routes share: the serving side, once it is loaded, and the bytes they hold."""

    def __init__(self) -> None:
        """Start without a model: requests get 503 until `serving` is set."""
        self.serving: Serving | None = None
        self.render_metrics: Callable[[], bytes] = bytes
        self.buffered = 0

    def open(self) -> Serving:
        """Give the serving side, or raise NotReady."""
        if self.serving is None:
            raise NotReady("The model is being loaded.", NOT_READY_RETRY_S)
        return self.serving


def create_app(desk: Desk, *, reference_assets: Path | None = None) -> ASGIApp:
    """Make the ASGI app.

    Args:
        desk: filled by whoever loads the model.
        reference_assets: folder with Swagger UI's files, for /docs.
    """
    routes = _Routes(desk)
    table: list[Route | Mount] = [
        Route("/v1/classify", routes.classify, methods=["POST"]),
        Route("/v1/audio-classification", routes.audio_classification, methods=["POST"]),
        Route("/v1/model", routes.model, methods=["GET"]),
        Route("/openapi.json", routes.openapi, methods=["GET"]),
        Route("/docs", _file("docs.html"), methods=["GET"]),
        Route("/", _file("index.html"), methods=["GET"]),
        Route("/metrics", routes.metrics, methods=["GET"]),
        Mount("/web", StaticFiles(directory=WEB)),
    ]
    if reference_assets is not None:
        table.append(Mount("/reference", StaticFiles(directory=reference_assets)))
    paths = {route.path for route in table if isinstance(route, Route)}
    # A bare router: the envelope answers every error, and Starlette's layers would come before it.
    # A path with a slash too many is a wrong one: clients don't send a body again to follow.
    return Envelope(Router(table, redirect_slashes=False), desk, paths)


class _Routes:
    """The handlers, around one desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._openapi = contract.openapi()

    async def classify(self, request: Request) -> Response:
        """POST /v1/classify."""
        timeline = _flag(request, "timeline")
        kind = _content_type(request)
        if kind == "multipart/form-data":
            served = await self._classify(request, MAX_BODY_BYTES + ENVELOPE_BYTES, _form_file)
        else:
            _require_raw(kind)
            served = await self._classify(request, MAX_BODY_BYTES, _as_is)
        return _json(self._answer(Exchange.of(request), served, timeline=timeline))

    async def audio_classification(self, request: Request) -> Response:
        """POST /v1/audio-classification, the Hugging Face contract."""
        kind = _content_type(request)
        top_k: int | None = None
        if kind == "application/json":
            parameters = contract.HubParameters()

            async def unpack(_: Request, body: bytes) -> bytes:
                nonlocal parameters
                data, parameters = await asyncio.to_thread(_hub_request, body)
                return data

            served = await self._classify(request, MAX_JSON_BYTES, unpack)
            top_k = parameters.top_k
        else:
            _require_raw(kind)
            served = await self._classify(request, MAX_BODY_BYTES, _as_is)
        ranked = sorted(served.result.probabilities.items(), key=lambda item: -item[1])
        return JSONResponse([{"label": label, "score": score} for label, score in ranked[:top_k]])

    async def model(self, _: Request) -> Response:
        """GET /v1/model."""
        return _json(model_facts(self._desk.open()))

    async def openapi(self, _: Request) -> Response:
        """GET /openapi.json."""
        return JSONResponse(self._openapi)

    async def metrics(self, _: Request) -> Response:
        """GET /metrics."""
        text = await asyncio.to_thread(self._desk.render_metrics)
        return Response(text, media_type="text/plain; version=1.0.0; charset=utf-8")

    async def _classify(
        self,
        request: Request,
        limit: int,
        unpack: Callable[[Request, bytes], Coroutine[Any, Any, bytes]],
    ) -> Served:
        """Read, unpack and classify a body, or stop as soon as the client is gone."""
        serving = self._desk.open()
        deadline = Exchange.of(request).started + serving.settings.deadline_s
        serving.check()
        body = await self._read(request, limit, serving.settings.body_timeout_s)
        try:
            data = await unpack(request, body)
            if len(data) > MAX_BODY_BYTES:
                raise TooLarge(_too_large(MAX_BODY_BYTES))
            served = await _while_connected(request, serving.classify(data, deadline=deadline))
        finally:
            self._desk.buffered -= len(body)
        Exchange.of(request).served = served
        return served

    async def _read(self, request: Request, limit: int, timeout_s: float) -> bytes:
        """Read a body, counted; its bytes stay counted as buffered when this returns."""
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > limit:  # int() refuses thousands of digits
            raise TooLarge(_too_large(limit))
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(timeout_s):
                async for chunk in request.stream():
                    size += len(chunk)
                    self._desk.buffered += len(chunk)
                    chunks.append(chunk)
                    if size > limit:
                        raise TooLarge(_too_large(limit))
                    if self._desk.buffered > MAX_BUFFERED_BYTES:
                        raise Overloaded("Too many bodies are being read.", NOT_READY_RETRY_S)
        except BaseException as error:
            self._desk.buffered -= size
            if isinstance(error, TimeoutError):
                raise SlowBody(f"The body did not come within {timeout_s:g} s.") from None
            raise
        return b"".join(chunks)

    def _answer(
        self, exchange: Exchange, served: Served, *, timeline: bool
    ) -> contract.Classification:
        serving = self._desk.open()
        manifest = serving.classifier.runner.bundle.manifest
        result, clip = served.result, served.heard.clip
        segments = [
            contract.SegmentAnswer(
                start_s=round(segment.start_s, 3),
                end_s=round(segment.end_s, 3),
                label=segment.label,
                score=segment.score,
                speech=round(segment.speech, 3),
            )
            for segment in result.segments
        ]
        return contract.Classification(
            id=exchange.id,
            model=contract.ModelName(
                name=manifest.name, version=manifest.version, track=serving.settings.track
            ),
            label=result.label,
            score=result.score,
            decision=result.decision,
            probabilities=result.probabilities,
            top=[contract.ScoredLabel(label=top.label, score=top.score) for top in result.top],
            audio=contract.AudioReport(
                duration_s=round(clip.duration_s, 3),
                speech_s=round(served.heard.speech_s, 3),
                sample_rate=clip.sample_rate,
                channels=clip.channels,
            ),
            segments=segments if timeline else None,
            timing_ms=contract.Timing(
                decode=_ms(served.decode_s),
                queue=_ms(served.queue_s),
                inference=_ms(served.inference_s),
                total=_ms(serving.clock() - exchange.started),
            ),
        )


def model_facts(serving: Serving) -> contract.ModelFacts:
    """Tell what is served, for /v1/model."""
    runner = serving.classifier.runner
    bundle = runner.bundle
    manifest = bundle.manifest
    precision = manifest.precisions[runner.precision]
    return contract.ModelFacts(
        name=manifest.name,
        version=manifest.version,
        track=serving.settings.track,
        kind=manifest.kind,
        digest=bundle.digest,
        licence=manifest.licence,
        labels=list(manifest.labels),
        window_s=manifest.audio.window_s,
        hop_s=manifest.audio.hop_s,
        runtime=runner.runtime.name,
        precision=runner.precision,
        cpu_features=cpu_features(),
        temperature=precision.temperature,
        review_threshold=precision.review_threshold,
        metrics=precision.metrics,
        data=[facts.model_dump(mode="json") for facts in manifest.data],
    )


async def _while_connected(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Do `work`, unless the client goes first: then cancel it, so that others get its turn."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        gone.cancel()
        task.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


class _InMemoryParser(MultiPartParser):
    """Starlette's parser, without its temporary files: a body is in memory and bounded anyway."""

    spool_max_size = MAX_BODY_BYTES + ENVELOPE_BYTES


async def _form_file(request: Request, body: bytes) -> bytes:
    """Take the form's `file` out of a multipart body."""

    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        form = await _InMemoryParser(request.headers, stream(), max_files=1, max_fields=8).parse()
    except (MultiPartException, KeyError, ValueError) as error:
        reason = getattr(error, "message", None) or "no boundary"
        raise BadRequest(f"The multipart form cannot be read: {reason}") from error
    try:
        file = form.get("file")
        if file is None or isinstance(file, str):
            raise BadRequest("The form has no file in a field called `file`.")
        return file.file.read()  # in memory, so this doesn't block
    finally:
        await form.close()


def _hub_request(body: bytes) -> tuple[bytes, contract.HubParameters]:
    """Take the clip and the parameters out of the Hugging Face contract's JSON."""
    try:
        request = contract.HubRequest.model_validate_json(body)
        data = base64.b64decode(request.inputs, validate=True)
    except ValidationError as error:
        problem = error.errors(include_input=False, include_url=False)[0]
        where = "".join(f"{part}: " for part in problem["loc"])
        raise BadRequest(f"The JSON body is wrong: {where}{problem['msg']}.") from error
    except (binascii.Error, ValueError) as error:
        raise BadRequest("`inputs` is not base64.") from error
    return data, request.parameters or contract.HubParameters()


async def _as_is(_: Request, body: bytes) -> bytes:
    """The body is the clip."""
    return body


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _require_raw(kind: str) -> None:
    """Refuse what can't be a recording; which recording it is, its first bytes tell."""
    if kind not in _RAW_TYPES and not kind.startswith("audio/"):
        raise UnsupportedFormat(f"Content-Type {kind!r} is no audio; send {ACCEPTED}.")


def _flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "false").lower()
    if value not in {"true", "false", "1", "0"}:
        raise BadRequest(f"{name} must be true or false.")
    return value in {"true", "1"}


def _too_large(limit: int) -> str:
    return (
        f"The body has more than {limit} bytes. Send FLAC, Ogg or MP3, split the clip, or use "
        "`timbre classify`, which splits and merges for you."
    )


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)


def _json(answer: BaseModel) -> Response:
    return Response(answer.model_dump_json(exclude_none=False), media_type="application/json")


def _file(name: str) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    async def endpoint(_: Request) -> Response:
        return FileResponse(WEB / name, headers=PAGE_HEADERS)

    return endpoint
