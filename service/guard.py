"""The door of what needs a token: opened or not by a request's headers, before its body is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from starlette.datastructures import Headers
from starlette.websockets import WebSocketClose

from service.problems import CHALLENGE, Unauthorized

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from service.access import Tokens


class _Desk(Protocol):
    tokens: Tokens | None


class Guard:
    """Lets requests with a token through to `app`, or all where no tokens are configured."""

    def __init__(self, app: ASGIApp, desk: _Desk) -> None:
        """Guard `app`; raises inside the envelope, which answers."""
        self._app = app
        self._desk = desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let one request through.

        Raises:
            Unauthorized: it has no token, or none that is accepted.
        """
        if scope["type"] != "http":  # there are no web sockets, and none shall come unguarded
            await WebSocketClose()(scope, receive, send)
            return
        tokens = self._desk.tokens
        if tokens is not None:
            token = _bearer(Headers(scope=scope))
            if not tokens.accept(token):
                # Which tokens there are, or how this one differs, is nobody's business.
                raise Unauthorized(
                    "This token is not accepted.", challenge=f'{CHALLENGE}, error="invalid_token"'
                )
        await self._app(scope, receive, send)


def _bearer(headers: Headers) -> bytes:
    """Take the token out of a request's headers.

    Two headers are no token: what stands between may have looked at the other one.

    Raises:
        Unauthorized: it has none; another scheme's credentials are none.
    """
    scheme, _, token = ", ".join(headers.getlist("authorization")).partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized("Send a token in the header `Authorization: Bearer TOKEN`.")
    return token.strip(" ").encode("latin-1")
