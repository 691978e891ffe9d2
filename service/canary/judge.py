"""The verdict over HTTP, for what moves traffic and for people."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from service.canary import report
from service.canary.bench import Bench
from service.canary.compare import Finding
from service.canary.findings import findings
from service.canary.verdict import Check, Outcome
from service.domain import TimbreError

HOOKS = {
    "confirm-traffic-increase": Outcome.PASS,
    "confirm-promotion": Outcome.PASS,
    "rollback": Outcome.FAIL,
}
"""Flagger's web hooks → the verdict at which they are answered 200."""
MAX_WEIGHT = 100
_PERCENTAGE = re.compile("[0-9]{1,3}")
CLOSE_S = 2
"""Seconds that answers under way have when it ends."""
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
"""The report is one file: it loads nothing."""


class CannotListen(TimbreError):
    """The port cannot be opened."""

    slug = "cannot-listen"
    title = "The port cannot be opened"


def create_app(bench: Bench, alive: Callable[[], bool] = lambda: True) -> Starlette:
    """Make the ASGI app; `alive` tells whether somebody still looks."""
    routes = _Routes(bench, alive)
    return Starlette(
        routes=[
            Route("/verdict", routes.verdict),
            Route("/report", routes.report),
            Route("/metrics", routes.metrics),
            Route("/readyz", routes.readyz),
            Route("/livez", routes.livez),
            *(
                Route(f"/flagger/{name}", routes.hook(wanted), methods=["GET", "POST"])
                for name, wanted in HOOKS.items()
            ),
        ],
        exception_handlers={_WrongWeight: _wrong_weight, _NothingYet: _nothing_yet},
    )


class _Routes:
    """The handlers; not async, so that Starlette gives those threads that have to judge."""

    def __init__(self, bench: Bench, alive: Callable[[], bool]) -> None:
        self._bench = bench
        self._alive = alive
        self._registry = CollectorRegistry()
        self._registry.register(_Metrics(bench))

    def verdict(self, request: Request) -> Response:
        """GET /verdict."""
        return JSONResponse(findings(self._finding(request)).model_dump(mode="json"))

    def report(self, request: Request) -> Response:
        """GET /report."""
        told = findings(self._finding(request))
        return HTMLResponse(report.html(told), headers=PAGE_HEADERS)

    def hook(self, wanted: Outcome) -> Callable[[Request], Response]:
        """GET or POST /flagger/…: whether the verdict is this one, as a status."""

        def answer(request: Request) -> Response:
            told = self._finding(request).verdict
            content = {"outcome": told.outcome, "weight": told.weight, "reason": told.reason}
            return JSONResponse(content, 200 if told.outcome is wanted else 409)

        return answer

    def metrics(self, _: Request) -> Response:
        """GET /metrics."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    def readyz(self, _: Request) -> Response:
        """GET /readyz: whether there is a verdict."""
        if self._bench.age_s is None:
            raise _NothingYet
        return PlainTextResponse("ready")

    def livez(self, _: Request) -> Response:
        """GET /livez: whether somebody looks."""
        alive = self._alive()
        return PlainTextResponse("alive" if alive else "nobody looks", 200 if alive else 500)

    def _finding(self, request: Request) -> Finding:
        found = self._bench.finding(_weight(request))
        if found is None:
            raise _NothingYet
        return found


def run(bench: Bench, host: str, port: int) -> None:
    """Serve until SIGTERM or Ctrl-C, looking in a thread.

    Raises:
        CannotListen: the port is taken, or not for us to take.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        opened = socket.create_server((host, port), family=family)
    except OSError as error:
        raise CannotListen(f"Cannot listen on {host} port {port}: {error.strerror}.") from error
    ended = threading.Event()
    # A daemon: what it waits for, a slow Prometheus or a golden set, holds nobody's end up.
    looking = threading.Thread(target=bench.keep_looking, args=(ended,), daemon=True)
    config = uvicorn.Config(
        create_app(bench, looking.is_alive),
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=CLOSE_S,
    )
    looking.start()
    with closing(opened):
        uvicorn.Server(config).run(sockets=[opened])
    ended.set()


class _NothingYet(Exception):
    """The first look is not over."""


class _WrongWeight(Exception):
    """?weight= is no percentage."""


def _weight(request: Request) -> int | None:
    said = request.query_params.get("weight")
    if said is None:
        return None
    if not _PERCENTAGE.fullmatch(said) or int(said) > MAX_WEIGHT:
        raise _WrongWeight(said)
    return int(said)


def _wrong_weight(_: Request, error: Exception) -> Response:
    return JSONResponse({"reason": f"weight={error} is no percentage from 0 to {MAX_WEIGHT}."}, 400)


def _nothing_yet(_: Request, _error: Exception) -> Response:
    return JSONResponse({"reason": "Nothing has been looked at yet."}, 503)


class _Metrics(Collector):
    """The verdict at the bench's own weight."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def collect(self) -> Iterator[Metric]:
        finding, age_s = self._bench.finding(), self._bench.age_s
        if finding is None or age_s is None:
            return
        verdict = finding.verdict
        told = GaugeMetricFamily(
            "timbre_canary_verdict", "1 for what the verdict is", labels=["outcome"]
        )
        for outcome in Outcome:
            told.add_metric([outcome], float(outcome is verdict.outcome))
        yield told
        checks = GaugeMetricFamily(
            "timbre_canary_check", "1 for what a check says", labels=["check", "outcome"]
        )
        for check in verdict.checks:
            for outcome in Outcome:
                checks.add_metric([check.name, outcome], float(outcome is check.outcome))
        yield checks
        yield from _figures(verdict.checks)
        yield GaugeMetricFamily(
            "timbre_canary_verdict_age_seconds", "Seconds since the last look", value=age_s
        )


def _figures(checks: tuple[Check, ...]) -> Iterator[Metric]:
    help_of = {
        "effect": "By how much the candidate differs from stable",
        "low": "Lower bound of the difference",
        "high": "Upper bound of the difference",
        "margin": "By how much it may be worse",
    }
    for name, text in help_of.items():
        family = GaugeMetricFamily(f"timbre_canary_{name}", text, labels=["check", "unit"])
        for check in checks:
            value = getattr(check, name)
            if value is not None:
                family.add_metric([check.name, check.unit], value)
        yield family
