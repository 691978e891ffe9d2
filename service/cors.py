"""What browsers ask before pages of other origins may call the server; without it none may.

It stands around the envelope, so that its refusals and faults can be read by those pages too. Not
Starlette's, which answers a preflight that it refuses in plain text; here that goes on to the app,
where it is a problem like any other. No cookies are involved: a token travels in a header that the
page sets itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from service.contract import BATCH, FALLBACK, MODEL_VERSION, REQUEST_ID, SERVER_TIMING

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

ANY_ORIGIN = "*"
METHODS = "GET, POST"
EXPOSED = f"{REQUEST_ID}, {MODEL_VERSION}, {SERVER_TIMING}, {BATCH}, {FALLBACK}, retry-after"
MAX_AGE_S = 600
"""Seconds for which a browser need not ask again."""


class Cors:
    """Tells browsers that pages of some origins, or of any, may call `app` and read its answers."""

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        """Wrap `app`; `origins` are as browsers send them, or one `*`."""
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, or pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        allowed = self._allowed(headers.get("origin"))

        async def labelled_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._label(MutableHeaders(scope=message), allowed)
            await send(message)

        asked = "access-control-request-method" in headers
        if allowed and asked and scope["method"] == "OPTIONS":
            preflight = Response(
                status_code=204,
                headers={
                    "access-control-allow-methods": METHODS,
                    # Any, but by name: a wildcard would leave out authorization.
                    "access-control-allow-headers": headers.get(
                        "access-control-request-headers", ""
                    ),
                    "access-control-max-age": str(MAX_AGE_S),
                },
            )
            await preflight(scope, receive, labelled_send)
            return
        await self._app(scope, receive, labelled_send)

    def _allowed(self, origin: str | None) -> str | None:
        """Give what an answer to this origin allows."""
        if ANY_ORIGIN in self._origins:
            return ANY_ORIGIN if origin is not None else None
        return origin if origin in self._origins else None

    def _label(self, headers: MutableHeaders, allowed: str | None) -> None:
        if ANY_ORIGIN not in self._origins:
            # Caches must not give one origin the answer to another.
            headers.add_vary_header("origin")
        if allowed:
            headers["access-control-allow-origin"] = allowed
            headers["access-control-expose-headers"] = EXPOSED
