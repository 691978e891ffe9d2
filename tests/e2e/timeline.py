"""When a pod came to what: a watch's events as a line of time. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Seen:
    """An object as a watch showed it."""

    at: float
    """Seconds since the epoch, when it was seen."""
    kind: str
    """ADDED, MODIFIED or DELETED."""
    object: Any


def first(seen: Sequence[Seen], condition: str) -> float | None:
    """When a condition of the object was first true."""
    for each in seen:
        for listed in each.object.get("status", {}).get("conditions", []):
            if listed["type"] == condition and listed["status"] == "True":
                return each.at
    return None


def values(seen: Iterable[Seen], *path: str) -> list[Any]:
    """Each value that a field had, once for as long as it kept it; 0 where it had none."""
    kept: list[Any] = []
    for each in seen:
        value = each.object
        for key in path:
            value = value.get(key, {})
        value = value or 0
        if not kept or kept[-1] != value:
            kept.append(value)
    return kept


def when(seen: Iterable[Seen], value: object, *path: str) -> float | None:
    """When a field first had a value."""
    for each in seen:
        found = each.object
        for key in path:
            found = found.get(key, {})
        if found == value:
            return each.at
    return None


def parts(marks: Mapping[str, float | None]) -> dict[str, float]:
    """Give the seconds from each mark to the next; a mark that isn't known joins two parts."""
    known = {name: at for name, at in marks.items() if at is not None}
    ends = list(known.items())[1:]
    return {
        name: round(at - before, 2)
        for (name, at), before in zip(ends, known.values(), strict=False)
    }
