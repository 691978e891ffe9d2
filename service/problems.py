"""Errors → RFC 9457 problem details. The one table that gives an error its HTTP status."""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.responses import Response

from service.domain import TimbreError, Unavailable

URN = "urn:timbre:problem:"

STATUS: dict[str, int] = {
    "bad-request": 400,
    "not-audio": 400,
    "unauthorized": 401,
    "not-found": 404,
    "method-not-allowed": 405,
    "slow-body": 408,
    "too-large": 413,
    "unsupported-format": 415,
    "too-long": 422,
    "no-samples": 422,
    "sample-rate": 422,
    "channels": 422,
    "not-finite": 422,
    "undecodable": 422,
    "overloaded": 429,
    "internal": 500,
    "engine-failed": 500,
    "not-ready": 503,
    "deadline": 504,
}
"""HTTP status by slug; docs/errors.md is tested against it."""

SERVER_FAULT = 500
CHALLENGE = 'Bearer realm="timbre"'
"""What a client without a token is told to use, by RFC 6750."""


class NotFound(TimbreError):
    """No such path."""

    slug = "not-found"
    title = "There is nothing at this path"


class MethodNotAllowed(TimbreError):
    """The path exists, the method doesn't."""

    slug = "method-not-allowed"
    title = "The path does not take this method"

    def __init__(self, detail: str, allow: str) -> None:
        super().__init__(detail)
        self.allow = allow
        """The methods it takes, as the header says them that goes with every 405 (RFC 9110)."""


class Unauthorized(TimbreError):
    """The request has no token, or none that is accepted; `challenge` is for WWW-Authenticate."""

    slug = "unauthorized"
    title = "A token is needed"

    def __init__(self, detail: str, *, challenge: str = CHALLENGE) -> None:
        super().__init__(detail)
        self.challenge = challenge


class Problem(BaseModel):
    """An error, by RFC 9457."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    type: str
    """Stable; programs may branch on it."""
    title: str
    """The same for every problem of this type."""
    status: int
    detail: str
    """What is wrong with this request, and what to do."""
    request_id: str


def refusal(error: Exception) -> TimbreError:
    """Say any exception in this project's terms; what nobody foresaw becomes `internal`."""
    if isinstance(error, TimbreError) and error.slug in STATUS:
        return error
    if isinstance(error, HTTPException) and error.status_code == STATUS[NotFound.slug]:
        return NotFound("See /docs for the paths there are.")
    if isinstance(error, HTTPException) and error.status_code == STATUS[MethodNotAllowed.slug]:
        allow = (error.headers or {}).get("Allow", "")
        return MethodNotAllowed(f"This path takes {allow or 'no method'}.", allow)
    return TimbreError("The server has a fault; its log has more under this id.")


def response(error: TimbreError, request_id: str) -> Response:
    """Make the answer to a request that ended in `error`."""
    status = STATUS[error.slug]
    problem = Problem(
        type=URN + error.slug,
        title=error.title,
        status=status,
        detail=str(error),
        request_id=request_id,
    )
    headers = {}
    if isinstance(error, Unavailable):
        headers["retry-after"] = str(math.ceil(error.retry_after_s))
    if isinstance(error, Unauthorized):
        headers["www-authenticate"] = error.challenge
    if isinstance(error, MethodNotAllowed):
        headers["allow"] = error.allow
    return Response(
        problem.model_dump_json(), status, headers, media_type="application/problem+json"
    )
