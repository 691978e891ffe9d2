"""What every request has around its route: an id, a log line, metrics, and an answer to errors."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import Response

from service import problems
from service.contract import MODEL_VERSION, REQUEST_ID, TRACK
from service.domain import Overloaded, Track, Traffic

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.serving import Model, Served, Serving

logger = logging.getLogger("timbre.requests")

CLIENT_GONE = 499
"""The status that logs and metrics give a request whose client left: nobody was answered."""

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TRACKS = frozenset(Track)
_SCOPE_KEY = "timbre.exchange"


@dataclass(slots=True)
class Exchange:
    """A request and what came of it; `started` is a time of time.monotonic()."""

    id: str
    traceparent: str | None
    route: str
    method: str
    traffic: Traffic = Traffic.LIVE
    started: float = field(default_factory=time.monotonic)
    status: int = 0
    problem: str | None = None
    served: Served | None = None
    ended: Callable[[bool], None] | None = None
    """To be called when it is over, with whether its clip was answered."""

    @staticmethod
    def of(connection: HTTPConnection) -> Exchange:
        """Give the exchange of a request inside the envelope."""
        exchange: Exchange = connection.scope[_SCOPE_KEY]
        return exchange


class _Desk(Protocol):
    serving: Serving | None


class Envelope:
    """The outermost layer of an app, but for what browsers ask first (cors.py)."""

    def __init__(self, app: ASGIApp, desk: _Desk, paths: Collection[str]) -> None:
        """Wrap `app`; `paths` are the routes that metrics name, all others being "other"."""
        self._app = app
        self._desk = desk
        self._paths = frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = scope[_SCOPE_KEY] = self._open(scope)
        # Static files would answer a wrong range in plain text, and are too small to need ranges.
        scope["headers"] = [pair for pair in scope["headers"] if pair[0] != b"range"]
        scope.setdefault("app", self)  # with it, Starlette's routes raise their 404 and 405

        async def labelled_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                exchange.status = message["status"]
                self._label(MutableHeaders(scope=message), exchange)
            await send(message)

        try:
            await self._answer(exchange, scope, receive, labelled_send)
        finally:
            self._close(exchange)
            if exchange.ended is not None:
                exchange.ended(exchange.status == HTTPStatus.OK)

    async def _answer(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            # Nobody hears it, but BentoML keeps a request that nothing is sent for until its own
            # time-out, and with it a server that is to end.
            await Response(status_code=CLIENT_GONE)(scope, receive, send)
        except asyncio.CancelledError:
            exchange.status = exchange.status or CLIENT_GONE
            raise
        except Exception as error:
            if exchange.status:  # the answer has begun: all that is left is to break it off
                raise
            refusal = problems.refusal(error)
            if problems.STATUS[refusal.slug] == problems.SERVER_FAULT:
                logger.exception("request %s failed", exchange.id)
            exchange.problem = refusal.slug
            await problems.response(refusal, exchange.id)(scope, receive, send)

    def _open(self, scope: Scope) -> Exchange:
        headers = Headers(scope=scope)
        sent = headers.get(REQUEST_ID, "")
        traceparent = headers.get("traceparent", "")
        # A BentoML mount leaves the prefix in root_path and the whole path in path.
        path = scope["path"]
        return Exchange(
            id=sent if _ID.fullmatch(sent) else uuid.uuid4().hex,
            # Anything else in it would be a client's own words in the log.
            traceparent=traceparent if _TRACEPARENT.fullmatch(traceparent) else None,
            route=path if path in self._paths else "other",
            method=scope["method"],
            traffic=Traffic.FORCED if headers.get(TRACK) in _TRACKS else Traffic.LIVE,
        )

    def _label(self, headers: MutableHeaders, exchange: Exchange) -> None:
        headers[REQUEST_ID] = exchange.id
        serving = self._desk.serving
        if serving is not None:
            headers[MODEL_VERSION] = _model(exchange, serving).manifest.version
        if serving is None or not serving.ready:
            # Moves keep-alive clients and gateways to another pod before this one is gone.
            headers["connection"] = "close"

    def _close(self, exchange: Exchange) -> None:
        seconds = time.monotonic() - exchange.started
        serving = self._desk.serving
        if serving is not None:
            metrics = serving.metrics
            traffic = exchange.served.traffic if exchange.served else exchange.traffic
            metrics.requests.labels(exchange.route, str(exchange.status), traffic).inc()
            # Refusals are quick, and would hide under overload how slow answers have become.
            if exchange.served is not None:
                metrics.request_seconds.labels(exchange.route, traffic).observe(seconds)
            if exchange.problem:
                metrics.problems.labels(exchange.problem).inc()
            if exchange.problem == Overloaded.slug and traffic is not Traffic.SHADOW:
                metrics.refusal_seconds.observe(seconds)
        if logger.isEnabledFor(logging.INFO):
            logger.info("request", extra={"fields": _fields(exchange, seconds, serving)})


def _model(exchange: Exchange, serving: Serving) -> Model:
    """The model that has answered, or would."""
    return exchange.served.model if exchange.served else serving.model


def _fields(exchange: Exchange, seconds: float, serving: Serving | None) -> dict[str, object]:
    """What a request's log line says: never audio, file names or the emotion found."""
    line: dict[str, object] = {
        "id": exchange.id,
        "method": exchange.method,
        "route": exchange.route,
        "status": exchange.status,
        "total_ms": round(seconds * 1000, 3),
    }
    if exchange.traceparent:
        line["traceparent"] = exchange.traceparent
    if exchange.problem:
        line["problem"] = exchange.problem
    if serving is not None:
        manifest = _model(exchange, serving).manifest
        line |= {
            "model": manifest.name,
            "version": manifest.version,
            "track": serving.settings.track.value,
        }
    if served := exchange.served:
        line |= {
            "decision": served.result.decision.value,
            "duration_s": round(served.heard.clip.duration_s, 3),
            "windows": len(served.heard.batch),
            "decode_ms": round(served.decode_s * 1000, 3),
            "queue_ms": round(served.queue_s * 1000, 3),
            "inference_ms": round(served.inference_s * 1000, 3),
        }
    return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line; what a record carries as `fields` becomes its own keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Write a record."""
        line: dict[str, object] = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
