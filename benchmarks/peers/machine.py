"""What the figures were measured on, and whether anybody else used it meanwhile."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from service.runtime import cpu_features, cpus

BUSY = 0.1
"""Share of the machine's CPU time that others may take before a figure is marked."""
BF16 = ("avx512_bf16", "amx_bf16")


def facts() -> dict[str, Any]:
    """CPU, its flags, memory and system."""
    return {
        "cpu": _cpu(),
        "cpus": cpus(),
        "features": cpu_features(),
        "bf16": has_bf16(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def has_bf16() -> bool:
    """Whether the CPU computes in bf16."""
    return bool(set(BF16) & set(_field("flags").split()))


def _cpu() -> str:
    return _field("model name") or platform.processor() or platform.machine()


def _field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")


@dataclass(slots=True)
class Watch:
    """How much CPU time others took since it was made: as a share of the whole machine's.

    Others are all but this process and the servers it is told of. What a hypervisor took for other
    machines counts too.
    """

    own: Sequence[Any] = ()
    """Servers, with `cpu_s`."""
    _busy: float = field(init=False)
    _ours: float = field(init=False)
    _since: float = field(init=False)

    def __post_init__(self) -> None:
        """Start."""
        self._since = time.monotonic()
        self._busy, self._ours = _busy_s(), self._own_s()

    def others(self) -> float:
        """Share of the machine that others had, 0 to 1."""
        spent = _busy_s() - self._busy - (self._own_s() - self._ours)
        elapsed = time.monotonic() - self._since
        return max(0.0, spent / elapsed / (os.cpu_count() or 1))

    def _own_s(self) -> float:
        mine = os.times()
        # Children that ended are in it: they were ours.
        return sum(mine[:4]) + sum(float(server.cpu_s()) for server in self.own)


def _busy_s() -> float:
    times = psutil.cpu_times()._asdict()
    idle = {"idle", "iowait", "guest", "guest_nice"}  # a guest's time is in user's already
    return float(sum(value for name, value in times.items() if name not in idle))
