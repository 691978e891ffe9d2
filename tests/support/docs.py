"""The reference pages of docs/, written from the code: `python -m tests.support.docs --write`.

Without --write it prints them. A test holds the committed pages against the code.
"""

from __future__ import annotations

import argparse
import types
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

from prometheus_client.gc_collector import GCCollector
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from pydantic import IPvAnyAddress
from pydantic.fields import FieldInfo

from service import problems
from service.bundle import DEFAULT_BUNDLE
from service.domain import TimbreError, Unavailable
from service.metrics import Metrics
from service.settings import Settings, variable

DOCS = Path(__file__).parents[2] / "docs"

SETTINGS = """\
# Settings

Timbre reads its settings once, when it starts, from environment variables; an empty variable counts
as not set. A value that cannot be used stops the start with one sentence that names the variable.

"""

FORWARDED = """\

One variable is uvicorn's and has no prefix: `FORWARDED_ALLOW_IPS`, `127.0.0.1,::1` by default, has
the addresses between commas of proxies whose `X-Forwarded-For` is believed. Behind a gateway it
decides who a client is for `TIMBRE_CLIENT_SHARE` ([access](access.md#shares)).
"""

METRICS = """\
# Metrics

`GET /metrics` on [the internal port](access.md) has these in Prometheus' text format, beside the
process's own CPU, memory and file descriptors (`process_*`, `python_*`). A histogram `x` is the
series `x_bucket`, `x_sum` and `x_count`, without the sum where there are values below 0; a label's
values are a closed set, never anything that a client sends. [What to scale on](#demand),
[whose clips are counted](#traffic) and [how fine the histograms are](#histograms) is below.

"""

NOTES = """\

## Demand

`timbre_demand` is the rate of windows asked for, refused ones too, by the rate at which the engine
makes windows while all its streams are busy: 1 is all that one pod can do, and the sum over pods is
how many pods there should be. Work in flight stops rising at its limit; demand doesn't: at ten
times what a pod can do it reads about 10.

- The rate is smoothed over 30 s. A load that changes is known to 63% after 30 s and to 95% after
  90 s, and a burst counts as if it had been spread over 30 s. Five clips a second that come at
  random make it waver by 6%, within the 10% that a HorizontalPodAutoscaler ignores; a shorter time
  would have it scale on chance.
- What the engine makes is measured as it works, over the last 30 s of a stream's work, in batches
  as they came. Where fuller batches are cheaper a window, demand is a little too high at rest, and
  right when it matters. It is 0 until the engine has made a window.
- A clip that is refused and sent again counts each time. Clients that keep to Retry-After (1 to
  30 s) send each clip a few times; those that retry at once let demand say more than there is, so
  give an autoscaler a maximum.
- A clip refused before it was read counts as many windows as clips had of late.
- It knows of the engine only. Where decoding takes more of the CPU than the model does, scale on
  CPU too.

## Traffic

The label `traffic` keeps apart clips that say different things of a model:

- `live`: sent by a client. Errors, latencies and decisions of users are these.
- `forced`: sent with the header `x-timbre-track`, which asks the gateway for one side of a rollout.
- `fallback`: answered by [the fallback](fallback.md), hence by another model.
- `shadow`: [answered by another pod already](shadowing.md) and scored here, on the internal port's
  `/shadow`; nobody waits for it.

A request that ended before it was known what would answer it, such as one refused, is `live` or
`forced` by its headers. A copy is `shadow` also when it is refused.

## Histograms

`timbre_request_seconds`, `timbre_queue_seconds` and `timbre_engine_seconds` have 48 buckets per
decade from 5 ms to 30 s, each 4.9% above the last, so that `histogram_quantile` sees a 95th
percentile move by a tenth. The other histograms are coarser. Clips refused with 429 are in
`timbre_refusal_seconds` and not in `timbre_request_seconds`: they are quick, and the more of them
there are, the faster a server would seem. The share of refusals that took at most 50 ms, which is
what one may take, is

    sum(rate(timbre_refusal_seconds_bucket{le="0.05"}[5m]))
      / sum(rate(timbre_refusal_seconds_count[5m]))
"""

ERRORS = """\
# Errors

Every error of a request is an RFC 9457 problem (`application/problem+json`) with `type`, `title`,
`status`, `detail` and `request_id`. The type is stable, so programs may branch on it; `detail`
says what is wrong with this one request and what to do. Answers of the types with Retry-After say
in that header how many seconds to wait. A 401 has `WWW-Authenticate`, as RFC 6750 describes it;
only servers with [tokens](access.md) answer so. No file, however damaged or hostile, makes a 5xx.
What is no HTTP, or has headers of more than 64 KiB, never becomes a request: it gets 400 in plain
text, without an id and uncounted, and its connection is closed.

"""


KINDS: dict[Any, str] = {
    Path: "a folder",
    Path | None: "a path",
    bool: "`true`, `false`",
    tuple[str, ...]: "origins between commas, or `*`",
    Mapping[str, str]: "`canary=URL`, `baseline=URL`, or both with a comma between",
    IPvAnyAddress: "an IP address",
}
"""Types of settings whose values are not listed, in words."""


def pages() -> dict[str, str]:
    """Write every page: its name in docs/ and its text."""
    return {
        "settings.md": SETTINGS + _settings() + FORWARDED,
        "metrics.md": METRICS + _metrics() + NOTES,
        "errors.md": ERRORS + _errors(),
    }


def errors() -> list[type[TimbreError]]:
    """Every error there is, TimbreError itself first."""
    found: list[type[TimbreError]] = [TimbreError]
    for error in found:
        found += error.__subclasses__()
    return found


def metrics(registered: Metrics) -> list[MetricWrapperBase]:
    """Timbre's own metrics of a registry, in the order in which they were registered."""
    foreign = (ProcessCollector, PlatformCollector, GCCollector)
    collectors = [
        collector
        for collector in registered.registry._collector_to_names
        if not isinstance(collector, foreign)
    ]
    assert all(isinstance(collector, MetricWrapperBase) for collector in collectors)
    return typing.cast("list[MetricWrapperBase]", collectors)


def _settings() -> str:
    rows = [
        (
            f"`{variable(name)}`",
            _default(field),
            _values(field),
            " ".join((field.description or "").split()),
        )
        for name, field in Settings.model_fields.items()
    ]
    return _table(("variable", "default", "values", "meaning"), rows)


def _default(field: FieldInfo) -> str:
    default = field.default
    if default == DEFAULT_BUNDLE:
        return "the embedded model"
    if default is None or default in ((), {}):
        return "none"
    if isinstance(default, bool):
        return f"`{default}`".lower()
    return f"`{default.value if isinstance(default, StrEnum) else default}`"


def _values(field: FieldInfo) -> str:
    kind: Any = field.annotation
    if kind in KINDS:
        return KINDS[kind]
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        kind = typing.get_args(kind)[0]
    if typing.get_origin(kind) is typing.Literal:
        return ", ".join(f"`{value}`" for value in typing.get_args(kind))
    if issubclass(kind, StrEnum):
        return ", ".join(f"`{value.value}`" for value in kind)
    bounds: dict[str, float] = {}
    for constraint in field.metadata:
        for bound in ("ge", "gt", "le"):
            if hasattr(constraint, bound):
                bounds[bound] = getattr(constraint, bound)
    noun = "a whole number" if kind is int else "a number"
    low = f"above {bounds['gt']}" if "gt" in bounds else f"from {bounds['ge']}"
    return f"{noun} {low} to {bounds['le']}"


def _metrics() -> str:
    rows = []
    for metric in metrics(Metrics()):
        kind = metric._type or "untyped"
        suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        name = f"{metric._name or ''}{suffix}"
        rows.append((f"`{name}`", kind, labels, f"{metric._documentation}."))
    return _table(("metric", "type", "labels", "meaning"), rows)


def _errors() -> str:
    rows = []
    known = {error.slug: error for error in reversed(errors())}
    for slug, status in problems.STATUS.items():
        error = known[slug]
        wait = "yes" if issubclass(error, Unavailable) else ""
        rows.append((str(status), f"`{problems.URN}{slug}`", f"{error.title}.", wait))
    return _table(("status", "type", "title", "Retry-After"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def main() -> None:
    """Print the pages, or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the pages to docs/")
    write = parser.parse_args().write
    for name, text in pages().items():
        if write:
            (DOCS / name).write_text(text, encoding="utf-8")
        else:
            print(text)  # noqa: T201


if __name__ == "__main__":
    main()
