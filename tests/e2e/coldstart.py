"""From a pod's creation to Ready, in parts.

What the API server shows is timed by when this machine saw it; what only the pod knows, its
process's start and its log lines, by the node's clock.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tests.e2e import kubectl
from tests.e2e.kubectl import Object
from tests.e2e.timeline import Seen, first
from tests.e2e.timeline import parts as between
from tests.e2e.watch import of

_STARTED = """
import time
ticks = int(open("/proc/1/stat").read().rpartition(")")[2].split()[19])
print(time.time() - (float(open("/proc/uptime").read().split()[0]) - ticks / 100))
"""
"""Prints when the container's first process started, to a hundredth of a second."""
_MARKS = {
    "interpreter, settings": "Timbre on",
    "worker's imports": "token",
    "precision, model, decoders": "serving ",
}
"""Part of the start → what the log says at its end."""


def row(pods: Sequence[Object], seen: Sequence[Seen]) -> dict[str, object]:
    """Give how the first of some pods came up: its limit, the seconds of each part, of the whole.

    Args:
        pods: that are Ready.
        seen: by a watch that began before they were made.
    """
    pod = pods[0]
    limit = pod["spec"]["containers"][0]["resources"]["limits"]["cpu"]
    return {"CPU limit": limit, "pods at once": len(pods), **_parts(pod, seen)}


def _parts(pod: Object, seen: Sequence[Seen]) -> dict[str, float]:
    name, namespace = kubectl.name(pod), pod["metadata"]["namespace"]
    own = of(list(seen), name)
    log = kubectl.kubectl("logs", name, "--namespace", namespace, "--timestamps").splitlines()
    marks: dict[str, float | None] = {
        "created": own[0].at,
        "scheduled": first(own, "PodScheduled"),
        "sandbox, container": float(kubectl.python(name, namespace, _STARTED)),
        **{part: said(log, text) for part, text in _MARKS.items()},
        "probe, status": first(own, "Ready"),
    }
    whole = {"created": marks["created"], "whole": marks["probe, status"]}
    return between(marks) | between(whole)


def said(log: Sequence[str], text: str) -> float | None:
    """When the log first said something; each line begins with its time."""
    for line in log:
        time, _, rest = line.partition(" ")
        if text in rest:
            return datetime.fromisoformat(time).timestamp()
    return None
