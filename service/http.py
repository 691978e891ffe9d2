"""The routes: read a body within limits, call `Serving`, answer in the shapes of contract.py."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from pydantic import BaseModel, RootModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from service import answers, bodies, contract
from service.access import Tokens
from service.batching import NOT_READY_RETRY_S
from service.cors import Cors
from service.domain import BadRequest, NotReady, Traffic
from service.envelope import Envelope, Exchange
from service.guard import Guard, client_of
from service.guests import Guests
from service.serving import Served, Serving
from service.shadow import ROUTE as SHADOW
from service.shadow import Sender

V1 = "/v1"
WEB = Path(__file__).parent / "web"
CACHE = "no-cache"
"""Browsers keep pages and their files, and ask whether they have changed: a page of one version
with a module of another would break."""
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; media-src 'self' blob:; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "permissions-policy": "microphone=(self)",
    "cache-control": CACHE,
}
"""Pages load nothing but their own files, and only they may ask for the microphone."""

Unwrap: TypeAlias = Callable[[Request, bytes], Awaitable[bytes]]
"""Takes the clip out of a body."""
_T = TypeVar("_T")
_Ranking = RootModel[list[contract.ScoredLabel]]


class Desk:
    """What the routes share: who is let in, the serving side once loaded, and the bytes held.

    And where clips go when they are answered, if they go anywhere.
    """

    def __init__(self, tokens: Tokens | None = None) -> None:
        """Start without a model: requests get 503 until `serving` is set.

        Args:
            tokens: one of which a request under /v1/ needs; where they are None it needs none.
        """
        self.tokens = tokens
        self.serving: Serving | None = None
        self.shadow: Sender | None = None
        self.render_metrics: Callable[[], bytes] = bytes
        self.buffers = bodies.Buffers()

    def open(self) -> Serving:
        """Give the serving side, or raise NotReady."""
        if self.serving is None:
            raise NotReady("The model is being loaded.", NOT_READY_RETRY_S)
        return self.serving


def create_app(
    desk: Desk, *, cors_origins: Collection[str] = (), reference_assets: Path | None = None
) -> ASGIApp:
    """Make the ASGI app that clients reach.

    Args:
        desk: filled by whoever loads the model.
        cors_origins: whose pages may call it from a browser, as `Cors` takes them; none's if empty.
        reference_assets: folder with Swagger UI's files, for /docs.
    """
    routes = _Routes(desk)
    # What classifies or tells about the model needs a token, and so does what is not there.
    guarded = [
        Route("/classify", routes.classify, methods=["POST"]),
        Route("/audio-classification", routes.audio_classification, methods=["POST"]),
        Route("/model", routes.model, methods=["GET"]),
    ]
    table = [
        Mount(V1, Guard(_router(guarded), desk)),
        Route("/openapi.json", routes.openapi, methods=["GET"]),
        Route("/docs", _page("docs.html"), methods=["GET"]),
        Route("/", _page("index.html"), methods=["GET"]),
        Mount("/web", _Files(directory=WEB)),
    ]
    if reference_assets is not None:
        table.append(Mount("/reference", StaticFiles(directory=reference_assets)))
    paths = {V1 + route.path for route in guarded}
    paths |= {route.path for route in table if isinstance(route, Route)}
    app = Envelope(_router(table), desk, paths)
    return Cors(app, cors_origins) if cors_origins else app


def create_internal_app(desk: Desk) -> ASGIApp:
    """Make the ASGI app of the internal port: what no gateway may reach, and needs no token."""
    routes = _Routes(desk)
    table = [
        Route("/metrics", routes.metrics, methods=["GET"]),
        Route(SHADOW, routes.shadow, methods=["POST"]),
    ]
    return Envelope(_router(table), desk, {route.path for route in table})


def _router(table: Sequence[BaseRoute]) -> Router:
    """Make a bare router: the envelope answers every error, where Starlette's layers come first.

    A path with a slash too many is a wrong one: clients don't send a body again to follow.
    """
    return Router(table, redirect_slashes=False)


class _Routes:
    """The handlers, around one desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._guests = Guests()
        self._openapi = contract.openapi(tokens=desk.tokens is not None)

    async def classify(self, request: Request) -> Response:
        """POST /v1/classify."""
        timeline = _flag(request, "timeline")
        kind = bodies.content_type(request)
        if kind == "multipart/form-data":
            served = await self._serve(request, bodies.MAX_FORM_BYTES, bodies.form_file)
        else:
            bodies.require_raw(kind)
            served = await self._serve(request, bodies.MAX_RAW_BYTES, _as_is)
        serving, exchange = self._desk.open(), Exchange.of(request)
        total_s = serving.clock() - exchange.started
        return _json(
            answers.classification(
                serving, served, request_id=exchange.id, total_s=total_s, timeline=timeline
            ),
            answers.clip_headers(serving, served, total_s=total_s),
        )

    async def audio_classification(self, request: Request) -> Response:
        """POST /v1/audio-classification, the Hugging Face contract."""
        kind = bodies.content_type(request)
        parameters = contract.HubParameters()

        async def unwrap(_: Request, body: bytes) -> bytes:
            nonlocal parameters
            data, parameters = await asyncio.to_thread(bodies.hub_request, body)
            return data

        if kind == "application/json":
            served = await self._serve(request, bodies.MAX_JSON_BYTES, unwrap)
        else:
            bodies.require_raw(kind)
            served = await self._serve(request, bodies.MAX_RAW_BYTES, _as_is)
        serving = self._desk.open()
        total_s = serving.clock() - Exchange.of(request).started
        return _json(
            _Ranking(answers.ranking(served.result, parameters.top_k)),
            answers.clip_headers(serving, served, total_s=total_s),
        )

    async def model(self, _: Request) -> Response:
        """GET /v1/model."""
        return _json(answers.model_facts(self._desk.open()))

    async def openapi(self, _: Request) -> Response:
        """GET /openapi.json."""
        return JSONResponse(self._openapi)

    async def metrics(self, _: Request) -> Response:
        """GET /metrics."""
        text = await asyncio.to_thread(self._desk.render_metrics)
        return Response(text, media_type="text/plain; version=1.0.0; charset=utf-8")

    async def shadow(self, request: Request) -> Response:
        """POST /shadow: score a clip that another pod has answered."""
        Exchange.of(request).traffic = Traffic.SHADOW
        serving = self._desk.open()
        with self._guests.admitting(serving):
            served = await self._serve(request, bodies.MAX_RAW_BYTES, _as_is)
        return _json(answers.shadow(serving, served))

    async def _serve(self, request: Request, limit: int, unwrap: Unwrap) -> Served:
        """Read, unwrap and classify a body, or stop as soon as the client is gone."""
        serving, exchange = self._desk.open(), Exchange.of(request)
        settings = serving.settings
        deadline = exchange.started + settings.deadline_s
        # A body that comes after the deadline was sent too slowly: the client's fault, not ours.
        patience_s = min(settings.body_timeout_s, deadline - serving.clock())
        client = client_of(request.scope)
        serving.check(client)
        with self._desk.buffers.hold() as buffered:
            body = await buffered.read(request, limit=limit, timeout_s=patience_s)
            if body is None:
                serving.refuse("Too many bodies are being read.")
            data = await unwrap(request, body)
            if len(data) > bodies.MAX_RAW_BYTES:
                raise bodies.too_large(bodies.MAX_RAW_BYTES)
            exchange.served = await _while_connected(
                request,
                serving.classify(data, deadline=deadline, client=client, traffic=exchange.traffic),
            )
        if self._desk.shadow is not None and exchange.served.traffic is Traffic.LIVE:
            exchange.ended = self._desk.shadow.take(data, exchange.served.result, exchange.id)
        return exchange.served


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


async def _as_is(_: Request, body: bytes) -> bytes:
    """The body is the clip."""
    return body


def _flag(request: Request, name: str) -> bool:
    value = request.query_params.get(name, "false").lower()
    if value not in {"true", "false", "1", "0"}:
        raise BadRequest(f"{name} must be true or false.")
    return value in {"true", "1"}


def _json(answer: BaseModel, headers: Mapping[str, str] | None = None) -> Response:
    return Response(answer.model_dump_json(), headers=headers, media_type="application/json")


class _Files(StaticFiles):
    """What a page loads."""

    def file_response(self, *args: Any, **options: Any) -> Response:  # noqa: ANN401
        """Answer with a file, or that it has not changed."""
        response = super().file_response(*args, **options)
        response.headers["cache-control"] = CACHE
        return response


def _page(name: str) -> Callable[[Request], Awaitable[Response]]:
    content = (WEB / name).read_bytes()

    async def endpoint(_: Request) -> Response:
        return Response(content, headers=PAGE_HEADERS, media_type="text/html")

    return endpoint
