"""Run many cases and keep what went wrong, with what it takes to see it again."""

from __future__ import annotations

import http.client
import json
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import islice
from pathlib import Path
from random import Random

import httpx
import psutil

from benchmarks.server import Server
from service.decoding.pool import MODULE, DecoderPool
from service.decoding.process import REFUSALS
from service.domain import Undecodable
from service.problems import URN
from tests.fuzz.mutations import mutated
from tests.fuzz.requests import Sent, request
from tests.support.audio import encoded, speech_like

THREADS = 4
TOGETHER = 1000
"""Cases that are queued at a time, so that a million of them need no memory."""
PATIENCE_S = 60.0

Progress = Callable[[], object]
MakeFile = Callable[[Random], bytes]


@dataclass(slots=True)
class Report:
    """What came of the cases of one kind."""

    kind: str
    seed: int
    crashes: Path
    """Folder for the inputs of cases that broke something."""
    outcomes: Counter[str] = field(default_factory=Counter)
    kept: list[Path] = field(default_factory=list)
    """Inputs that broke a decoder; no failure, as only their own answer suffered."""
    failures: list[str] = field(default_factory=list)
    """What must not be."""

    def keep(self, number: int, why: str, data: bytes) -> None:
        """Write a case's input to the folder, named by what makes it again."""
        self.crashes.mkdir(parents=True, exist_ok=True)
        path = self.crashes / f"{self.kind}-seed{self.seed}-case{number}-{why}.bin"
        path.write_bytes(data)
        self.kept.append(path)

    def fail(self, number: int, why: str, data: bytes) -> None:
        """Keep a case that must not be, and say so."""
        self.keep(number, "failure", data)
        self.failures.append(f"case {number}: {why}")


def random_of(report: Report, number: int) -> Random:
    """Give the random state of a case: cases don't depend on those before them."""
    return Random(f"{report.kind}:{report.seed}:{number}")


def files(
    report: Report,
    pool: DecoderPool,
    cases: Iterable[int],
    *,
    progress: Progress = lambda: None,
    make: MakeFile = mutated,
) -> None:
    """Decode damaged files: each is a clip or a refusal, whatever it does to a decoder."""

    def one(number: int) -> None:
        data = make(random_of(report, number))
        try:
            pool.decode(data)
        except REFUSALS as refusal:
            report.outcomes[refusal.slug] += 1
        except Undecodable as error:
            report.outcomes[error.slug] += 1
            report.keep(number, "undecodable", data)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            report.outcomes["unforeseen"] += 1
            report.fail(number, repr(error), data)
        else:
            report.outcomes["decoded"] += 1
        progress()

    _each(one, cases, pool.size)


def requests(
    report: Report, port: int, cases: Iterable[int], *, progress: Progress = lambda: None
) -> None:
    """Send requests: each is answered with 2xx or a 4xx problem; broken ones maybe not at all."""

    def one(number: int) -> None:
        sent = request(random_of(report, number))
        try:
            outcome, wrong = _answer(port, sent)
        except (OSError, http.client.HTTPException) as error:
            # Whoever breaks the framing can be hung up on.
            outcome, wrong = "no answer", "" if sent.lies else f"no answer: {error!r}"
        report.outcomes[outcome] += 1
        if wrong:
            report.fail(number, wrong, sent.data)
        elif outcome == f"422 {Undecodable.slug}":
            report.keep(number, "undecodable", sent.data)
        progress()

    _each(one, cases, THREADS)


@contextmanager
def untouched(server: Server, report: Report) -> Iterator[None]:
    """Hold that a server is afterwards what it was: the same process, with the same answer."""
    clip = encoded(speech_like(1.0))
    url = f"http://127.0.0.1:{server.port}"

    def state() -> tuple[object, ...]:
        workers = [p for p in server.process.children() if not is_decoder(p)]
        answer = httpx.post(f"{url}/v1/classify", content=clip, timeout=PATIENCE_S)
        probes = [httpx.get(url + path).status_code for path in ("/livez", "/readyz")]
        return {p.pid for p in workers}, answer.json().get("probabilities"), probes

    before = state()
    yield
    if state() != before:
        report.failures.append(f"the server was {before} and is {state()}")


def is_decoder(process: psutil.Process) -> bool:
    """Whether a process of a server is one that decodes."""
    return MODULE in process.cmdline()


def _each(one: Callable[[int], None], cases: Iterable[int], threads: int) -> None:
    numbers = iter(cases)
    with ThreadPoolExecutor(threads) as executor:
        while some := list(islice(numbers, TOGETHER)):
            list(executor.map(one, some))


def _answer(port: int, sent: Sent) -> tuple[str, str]:
    """Send one request on a connection of its own; what came of it, and what is wrong with that."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as connection:
        with suppress(OSError):  # an early refusal closes; its answer may be there all the same
            connection.sendall(sent.data)
            if sent.lies:
                connection.shutdown(socket.SHUT_WR)  # or it would wait for what never comes
        response = http.client.HTTPResponse(connection, method=sent.method)
        response.begin()
        body = response.read()
    status = response.status
    if status < HTTPStatus.BAD_REQUEST:
        return str(status), ""
    if sent.lies and status == HTTPStatus.BAD_REQUEST and "x-request-id" not in response.headers:
        return "not HTTP", ""  # the parser's answer, which no route ever sees
    problem = response.headers.get("content-type") == "application/problem+json"
    if not problem or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return str(status), f"{status}: {response.headers.items()} {body[:200]!r}"
    slug = json.loads(body)["type"].removeprefix(URN) if body else "to HEAD"
    return f"{status} {slug}", ""
