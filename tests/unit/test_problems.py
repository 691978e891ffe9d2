"""Problems: every error a client can meet has one status, and the answer has RFC 9457's shape."""

from __future__ import annotations

import inspect
import json

import pytest
from starlette.exceptions import HTTPException

from service import domain, problems
from service.domain import (
    BadRequest,
    BadSampleRate,
    BundleError,
    DeadlineExceeded,
    EngineFailed,
    NoSamples,
    NotAudio,
    NotFinite,
    NotReady,
    Overloaded,
    SlowBody,
    TimbreError,
    TooLarge,
    TooLong,
    TooManyChannels,
    Unavailable,
    Undecodable,
    UnsupportedFormat,
    UnusableClip,
)
from service.problems import MethodNotAllowed, NotFound, Unauthorized, refusal, response

STATUSES: dict[type[TimbreError], int] = {
    BadRequest: 400,
    NotAudio: 400,
    Unauthorized: 401,
    NotFound: 404,
    MethodNotAllowed: 405,
    SlowBody: 408,
    TooLarge: 413,
    UnsupportedFormat: 415,
    TooLong: 422,
    NoSamples: 422,
    BadSampleRate: 422,
    TooManyChannels: 422,
    NotFinite: 422,
    Undecodable: 422,
    Overloaded: 429,
    TimbreError: 500,
    EngineFailed: 500,
    NotReady: 503,
    DeadlineExceeded: 504,
}


def test_the_table_is_this_one() -> None:
    """Statuses are part of the contract: a change is meant, and shows here."""
    assert {error.slug: status for error, status in STATUSES.items()} == problems.STATUS


def test_every_error_that_http_can_meet_is_in_it() -> None:
    """All there are, but BundleError and two that are only ever one of their kinds."""
    errors = {
        error
        for module in (domain, problems)
        for _, error in inspect.getmembers(module, inspect.isclass)
        if issubclass(error, TimbreError)
    }
    assert errors - set(STATUSES) == {BundleError, Unavailable, UnusableClip}


def test_slugs_and_titles_tell_errors_apart() -> None:
    """No two kinds share one."""
    assert len({error.slug for error in STATUSES}) == len(STATUSES)
    assert len({error.title for error in STATUSES}) == len(STATUSES)


@pytest.mark.parametrize("kind", STATUSES, ids=lambda kind: kind.slug)
def test_an_answer_has_the_shape_of_rfc_9457(kind: type[TimbreError]) -> None:
    """type, title, status and detail; the request's id beside them; and the media type."""
    more = {Unavailable: (1.5,), MethodNotAllowed: ("GET",)}
    arguments = next((more[base] for base in kind.__mro__ if base in more), ())
    answer = response(kind("Why.", *arguments), "some-id")
    assert answer.status_code == STATUSES[kind]
    assert answer.headers["content-type"] == "application/problem+json"
    assert json.loads(bytes(answer.body)) == {
        "type": f"urn:timbre:problem:{kind.slug}",
        "title": kind.title,
        "status": STATUSES[kind],
        "detail": "Why.",
        "request_id": "some-id",
    }
    assert ("retry-after" in answer.headers) == issubclass(kind, Unavailable)
    assert ("www-authenticate" in answer.headers) == issubclass(kind, Unauthorized)
    assert answer.headers.get("allow") == ("GET" if kind is MethodNotAllowed else None)


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.001, "1"), (1.0, "1"), (1.01, "2"), (30.0, "30")]
)
def test_retry_after_is_whole_seconds_rounded_up(seconds: float, header: str) -> None:
    """Never 0, which would be an invitation to come back at once."""
    assert response(Overloaded("Full.", seconds), "id").headers["retry-after"] == header


def test_what_nobody_foresaw_is_internal_and_says_nothing_of_itself() -> None:
    """A client learns that it can be found in the log, not what it was."""
    error = refusal(ZeroDivisionError("secret"))
    assert error.slug == "internal"
    assert "secret" not in str(error)


def test_an_error_without_a_status_is_internal_too() -> None:
    """A bundle's error has no place in HTTP; if one gets here, it is still answered."""
    error = refusal(BundleError("/secret/folder"))
    assert error.slug == "internal"
    assert "secret" not in str(error)


@pytest.mark.parametrize(
    ("status", "slug"), [(404, "not-found"), (405, "method-not-allowed"), (401, "internal")]
)
def test_the_router_s_own_errors_are_said_in_these_terms(status: int, slug: str) -> None:
    """Starlette raises 404 and 405 by itself."""
    assert refusal(HTTPException(status)).slug == slug


def test_an_error_of_the_vocabulary_stays_what_it_is() -> None:
    """Its detail reaches the client."""
    error = TooLong("61 s.")
    assert refusal(error) is error
