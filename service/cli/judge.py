"""`timbre judge`: the verdict on a canary over HTTP, for whatever moves the traffic."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from service.cli import canary


@click.command(cls=canary.Command)
@canary.sources
@canary.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@canary.option(
    "--port", type=click.IntRange(1, 65_535), default=3002, show_default=True, help="Port."
)
@canary.option(
    "--every",
    type=click.FloatRange(1, 3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks at the sources.",
)
def judge(*, host: str, port: int, every: float, **given: Any) -> None:  # noqa: ANN401
    """Judge the candidate again and again, and tell the verdict over HTTP.

    It takes the options of `timbre compare`, and looks anew every so many seconds, one look at a
    time. What it can't look at, or has not looked at for long, is inconclusive.

    \b
      timbre judge --prometheus http://prometheus:9090 --namespace audio --name timbre
      curl http://localhost:3002/verdict?weight=10
    \b
      GET /verdict    the verdict and its checks as JSON; 503 before the first
      GET /report     the same as a page
      GET /metrics    timbre_canary_verdict, timbre_canary_check and more, for Prometheus
      GET /livez, /readyz
      POST /flagger/confirm-traffic-increase, /flagger/confirm-promotion   200 on pass, else 409
      POST /flagger/rollback                                               200 on fail, else 409

    A verdict at another weight than --weight is had by ?weight=N.

    Exit code: 3 wrong usage or another error; otherwise it runs until it is ended.
    """  # noqa: D301 (\b is click's mark for lines to leave as they are)
    sources = canary.checked(canary.Sources(**given))
    judging = canary.judging(sources)
    with canary.needing("compare"):
        from service.canary.bench import Bench  # noqa: PLC0415 - `--help` needs none
        from service.canary.judge import run  # noqa: PLC0415
    with ExitStack() as stack:
        comparison = canary.comparison(sources, stack)
        bench = Bench(comparison.observations, judging, sources.weight, every_s=every)
        run(bench, host, port)
