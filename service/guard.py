"""The door of what needs a token: opened or not by a request's headers, before its body is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from starlette.datastructures import Headers
from starlette.websockets import WebSocketClose

from service.access import digest
from service.problems import CHALLENGE, Unauthorized

if TYPE_CHECKING:
    from collections.abc import Hashable

    from starlette.types import ASGIApp, Receive, Scope, Send

    from service.access import Tokens

_CLIENT = "timbre.client"


def client_of(scope: Scope) -> Hashable:
    """Tell whose a request is: its token's, or where none is asked for its address's.

    Never to be logged or told. The address is the peer's, or the one that a proxy names which the
    server is told to trust.
    """
    peer = scope.get("client")
    who: Hashable = scope.get(_CLIENT) or (peer[0] if peer else None)
    return who


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
            scope[_CLIENT] = digest(token)
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
