"""What k6 says at its end, as figures. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MEASURED = "measured"
"""A scenario whose counts are taken alone, where there is one of this name."""
CUT_OFF = "context canceled"
"""What k6 says of an attempt that its own end came before."""
COUNTERS = ("sent", "answered", "refused", "failed_once", "failed", "opened", "gaps")
"""What load.js counts."""


def of_measured(counter: str) -> str:
    """Name the part of a counter that k6 counts for the scenario alone."""
    return f"{counter}{{scenario:{MEASURED}}}"


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt that was not answered as it should have been."""

    started: float
    """Seconds since the epoch, by the clock of the machine that sent it."""
    ended: float
    number: int
    """1 for a clip's first attempt."""
    status: int
    """0 where there was no answer."""
    said: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A load, when it is over."""

    sent: int
    answered: int
    refused: int
    failed_once: int
    failed: int
    dropped: int
    """Clips that were due and not sent, because every connection was busy."""
    opened: int
    gaps: int
    answer_ms: Mapping[str, float]
    """avg, med, p(95), p(99) and max of attempts that were answered."""
    failures: tuple[Failure, ...] = ()

    @property
    def cut(self) -> int:
        """Clips whose answer was still to come when the load was ended."""
        return self.sent - self.answered - self.failed

    def figures(self) -> dict[str, object]:
        """Give what a report says of a load."""
        return {
            "sent": self.sent,
            "cut off at the end": self.cut,
            "failed": self.failed + self.dropped,
            "of these 429": self.refused,
            "connections opened": self.opened,
            "idle gaps of 4 to 6 s": self.gaps,
            "p50 ms": self.answer_ms["med"],
            "p95 ms": self.answer_ms["p(95)"],
            "p99 ms": self.answer_ms["p(99)"],
            "max ms": self.answer_ms["max"],
        }


def read(text: str, told: str = "") -> Summary:
    """Read the JSON of k6's `handleSummary` from its output, and what the script told of failures.

    Raises:
        ValueError: there is no such JSON, because k6 did not come to its end.
    """
    start = text.find('{"')
    if start < 0:
        raise ValueError(f"k6 gave no summary:\n{text}{told}")
    # What holds the summary comes last; before it k6 may have printed its progress.
    data, _ = json.JSONDecoder().raw_decode(text[start:])
    metrics = data["metrics"]
    return Summary(
        **{name: _count(metrics, name) for name in COUNTERS},
        dropped=_count(metrics, "dropped_iterations"),
        answer_ms=_trend(metrics, "answer_ms"),
        failures=tuple(failures(told.splitlines())),
    )


def failures(lines: Iterable[str]) -> Iterable[Failure]:
    """Read the failures that the script told, among k6's own lines.

    What k6 was told to end in has not failed: it is counted among what was cut off.
    """
    for line in lines:
        start = line.find('{"started"')
        if start < 0:
            continue
        told, _ = json.JSONDecoder().raw_decode(line[start:])
        if told["said"] == CUT_OFF:
            continue
        yield Failure(
            started=told["started"] / 1e3,
            ended=told["ended"] / 1e3,
            number=told["number"],
            status=told["status"],
            said=told["said"],
        )


def _count(metrics: Mapping[str, Any], name: str) -> int:
    """Give a counter; k6 leaves out what was never counted."""
    name = of_measured(name) if of_measured(name) in metrics else name
    return int(metrics[name]["values"]["count"]) if name in metrics else 0


def _trend(metrics: Mapping[str, Any], name: str) -> dict[str, float]:
    wanted = ("avg", "med", "p(95)", "p(99)", "max")
    values = metrics[name]["values"] if name in metrics else {}
    return {each: float(values.get(each, float("nan"))) for each in wanted}
