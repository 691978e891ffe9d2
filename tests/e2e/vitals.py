"""CPU and memory of a pod as the metrics API has them. Pure, but for asking."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from tests.e2e import kubectl

_SCALES = {"": 1.0, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9}
_SCALES |= {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
_PEAK = """
import pathlib
for path in ("/sys/fs/cgroup/memory.peak", "/sys/fs/cgroup/memory/memory.max_usage_in_bytes"):
    if pathlib.Path(path).exists():
        print(pathlib.Path(path).read_text())
        break
else:
    print(0)
"""


@dataclass(frozen=True, slots=True)
class Vitals:
    """What a container took at one time."""

    stamp: str
    cpu: float
    """CPUs."""
    memory_mib: float


def quantity(text: str) -> float:
    """Read a quantity as Kubernetes writes it, such as 250m or 1Gi.

    Raises:
        ValueError: it is none.
    """
    found = re.fullmatch(r"([0-9.]+)([a-zA-Z]{0,2})", text)
    if found is None or found[2] not in _SCALES:
        raise ValueError(f"{text!r} is no quantity")
    return float(found[1]) * _SCALES[found[2]]


def read(pod: str, namespace: str) -> Vitals:
    """Ask the metrics API for a pod's only container."""
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods/{pod}"
    answer = kubectl.raw(path)
    (container,) = answer["containers"]
    usage = container["usage"]
    return Vitals(answer["timestamp"], quantity(usage["cpu"]), quantity(usage["memory"]) / 2**20)


def follow(pod: str, namespace: str, seconds: float) -> list[Vitals]:
    """Gather what the metrics API comes to know within some seconds."""
    give_up = time.monotonic() + seconds
    gathered: dict[str, Vitals] = {}
    while time.monotonic() < give_up:
        try:
            vitals = read(pod, namespace)
        except kubectl.Failed:  # of a pod that has just started it knows nothing yet
            pass
        else:
            gathered.setdefault(vitals.stamp, vitals)
        time.sleep(2)  # it measures every 10 s or less often
    return list(gathered.values())


def peak_mib(pod: str, namespace: str) -> float | None:
    """The most memory that the container's kernel group ever held, its files' pages too."""
    held = int(kubectl.python(pod, namespace, _PEAK))
    return held / 2**20 if held else None


def summary(vitals: Sequence[Vitals]) -> dict[str, float]:
    """Median CPU and most memory."""
    return {
        "CPUs": median(each.cpu for each in vitals),
        "memory MiB": max(each.memory_mib for each in vitals),
    }
