"""A client of a Timbre server: waits when told to, cuts what is too long, says what went wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from pydantic import ValidationError

from service import __version__
from service.access import TokenError, first, well_formed
from service.contract import Classification, ModelFacts
from service.domain import SAMPLE_RATE, Decision, LabelScore, Result, Segment, TimbreError
from service.problems import URN, Problem, Unauthorized
from service.recordings import Answer, as_flac, clip_bytes, merge, pieces, read

MAX_TRIES = 8
"""Of one request, before its refusal is final."""
MAX_WAIT_S = 30.0
"""Between two tries, whatever Retry-After says."""
WAIT_S = 1.0
"""Between two tries when the server doesn't say how long."""
TIMEOUT = httpx.Timeout(120.0, connect=10.0)
"""Seconds; an answer may take the server's deadline, and whoever is before it a little more."""

VARIABLE = "TIMBRE_TOKEN"
"""Has the token, because a program's arguments can be read by everybody on its machine."""

_BUSY = frozenset({httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE})


class Refused(TimbreError):
    """The server's own error: `slug` and `title` are those of its problem details."""

    slug = "refused"
    title = "The server refused"

    def __init__(self, detail: str, *, slug: str = slug, title: str = title) -> None:
        super().__init__(f"{title}: {detail}")
        self.slug = slug
        self.title = title


class Unreachable(TimbreError):
    """No Timbre server answers at this address."""

    slug = "unreachable"
    title = "The server cannot be reached"


class Client:
    """One server. Calls are safe from any thread; each blocks until it is answered."""

    def __init__(
        self,
        url: str,
        *,
        token: str | Path | None = None,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take a server's URL, such as http://localhost:3000; nothing is sent yet.

        Args:
            url: of the server.
            token: sent with each request, to a server that asks for one; of a file the first that
                is in it by then.
            headers: sent with each request too.
            transport: what carries requests; the network if not given.
            sleep: waits that many seconds.

        Raises:
            Unreachable: it is no http or https URL.
            TokenError: no header can carry the token, or the file cannot be used.
        """
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            parsed = httpx.URL()
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise Unreachable(f"{url!r} is no server's URL, such as http://localhost:3000.")
        sent = {"user-agent": f"timbre/{__version__}", **(headers or {})}
        if isinstance(token, Path):
            first(token)  # one that cannot be used is told now, and not at the first request
        elif token is not None:
            if not well_formed(token):
                raise TokenError(f"{VARIABLE} has characters that no token has.")
            sent["authorization"] = f"Bearer {token}"
        self.url = url
        self._token = token
        self._sleep = sleep
        self._http = httpx.Client(
            base_url=parsed,
            headers=sent,
            timeout=TIMEOUT,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def model(self) -> ModelFacts:
        """Ask which model is served.

        Raises:
            Unreachable, Refused.
        """
        response = self._send("GET", "/v1/model")
        try:
            return ModelFacts.model_validate_json(response.content)
        except ValidationError as error:
            raise Unreachable(f"What answers at {self.url} is not Timbre.") from error

    def classify(self, data: bytes) -> Answer:
        """Classify one clip within the server's limits, with its time line.

        Raises:
            Unreachable, Refused.
        """
        return _answer(self.classification(data, timeline=True))

    def classification(self, data: bytes, *, timeline: bool = False) -> Classification:
        """Classify one clip within the server's limits; all that the server says of it.

        Raises:
            Unreachable, Refused.
        """
        path = "/v1/classify?timeline=true" if timeline else "/v1/classify"
        response = self._send("POST", path, data)
        try:
            return Classification.model_validate_json(response.content)
        except ValidationError as error:
            raise Unreachable(f"What answers at {self.url} is not Timbre.") from error

    def classify_recording(self, path: Path, review_threshold: float) -> Answer:
        """Classify a file of any length.

        Its bytes go out as they are if the server takes them; otherwise as pieces of 16 kHz mono,
        cut where it is quiet, whose answers are merged.

        Args:
            path: of the recording.
            review_threshold: of the served model, for a merged answer's decision.

        Raises:
            Unreachable, Refused: by the server, for any of the pieces.
            TimbreError: the recording cannot be read, as `recordings.read`.
        """
        data = clip_bytes(path)
        if data is not None:
            return self.classify(data)
        recording = read(path)
        parts = [
            (start / SAMPLE_RATE, self.classify(as_flac(recording.samples[start:stop])))
            for start, stop in pieces(recording.samples)
        ]
        return merge(parts, recording, review_threshold)

    def _send(self, method: str, path: str, content: bytes | None = None) -> httpx.Response:
        """Send until it is neither too early nor cut off; a clip may be sent twice."""
        for tries in range(1, MAX_TRIES + 1):
            try:
                response = self._http.request(
                    method, path, content=content, headers=self._authorization()
                )
            except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError) as error:
                if tries == MAX_TRIES:
                    raise self._unreachable(error) from error
                self._sleep(WAIT_S)
                continue
            except httpx.TransportError as error:
                raise self._unreachable(error) from error
            if response.is_success:
                return response
            if response.status_code == httpx.codes.UNAUTHORIZED:
                raise self._unauthorized()
            if response.status_code not in _BUSY or tries == MAX_TRIES:
                raise _refusal(response)
            self._sleep(_retry_after(response))
        raise AssertionError  # the last try returns or raises

    def _authorization(self) -> dict[str, str]:
        """Read the file anew, since tokens are changed while a client runs."""
        if isinstance(self._token, Path):
            return {"authorization": f"Bearer {first(self._token)}"}
        return {}

    def _unauthorized(self) -> Refused:
        """Say what helps the caller, whoever refused: the server, or a gateway in its own words."""
        if self._token is not None:
            where = self._token if isinstance(self._token, Path) else VARIABLE
            why = f"{self.url} does not accept the one in {where}."
        else:
            why = f"{self.url} lets nobody in without one; put it into the variable {VARIABLE}."
        return Refused(why, slug=Unauthorized.slug, title=Unauthorized.title)

    def _unreachable(self, error: httpx.TransportError) -> Unreachable:
        return Unreachable(f"{self.url}: {str(error) or type(error).__name__}.")


def _retry_after(response: httpx.Response) -> float:
    """How many seconds to wait; as a date, which gateways may send, it counts as not given."""
    said = response.headers.get("retry-after", "")
    return min(float(said), MAX_WAIT_S) if said.isdecimal() else WAIT_S


def _refusal(response: httpx.Response) -> Refused:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:  # a gateway's own page
        return Refused(f"HTTP status {response.status_code} {response.reason_phrase}.")
    return Refused(problem.detail, slug=problem.type.removeprefix(URN), title=problem.title)


def _answer(said: Classification) -> Answer:
    return Answer(
        result=Result(
            label=said.label,
            score=said.score,
            decision=Decision(said.decision),
            probabilities=said.probabilities,
            top=tuple(LabelScore(top.label, top.score) for top in said.top),
            segments=tuple(
                Segment(part.start_s, part.end_s, part.label, part.score, part.speech)
                for part in said.segments or ()
            ),
        ),
        duration_s=said.audio.duration_s,
        speech_s=said.audio.speech_s,
        sample_rate=said.audio.sample_rate,
        channels=said.audio.channels,
    )
