"""A release under load: how its pods are waited for, and what is asked of the load."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e import kubectl, load
from tests.e2e.cluster import Cluster
from tests.e2e.figures import Figures
from tests.e2e.load import Running, Target
from tests.e2e.release import SERVERS, pods

PODS = 4
SECTION = "Disruption under load"
LOADED_S = 60
"""Seconds of load for each scenario, at least."""
KNOWN_S = 5.0
"""Seconds within which kubelet, control plane and gateway know that a pod is dead. No standard
route tells a gateway to try another pod, so until then it sends some clips to nobody."""


@dataclass
class Stage:
    """A release of PODS pods, and the load it can take."""

    cluster: Cluster
    target: Target
    folder: Path
    figures: Figures
    values: dict[str, Any]
    rate: float
    """Clips a second that are offered."""

    def pods(self) -> list[kubectl.Object]:
        """The release's pods that nobody has told to end."""
        return pods(self.cluster)

    @property
    def where(self) -> tuple[str, str]:
        """Kubectl's options for the namespace."""
        return ("--namespace", self.cluster.namespace)

    def settle(self) -> None:
        """Wait until there are PODS pods, all of them ready, and no others."""

        def settled() -> bool:
            there = kubectl.items("pods", *self.where, "--selector", SERVERS)
            return len(there) == PODS and all(map(kubectl.ready, there))

        kubectl.until(settled, f"{PODS} pods are ready")

    @contextmanager
    def loaded(self, what: str, *, retry: bool = False) -> Iterator[Running]:
        """Do something under load, and note how the load fared."""
        self.settle()
        running = load.arriving(self.target, self.folder, rate=self.rate, retry=retry)
        with load.under(running, LOADED_S):
            started = time.monotonic()
            yield running
            took = time.monotonic() - started
        assert running.summary is not None
        self.figures.add(
            SECTION,
            what=what,
            **{"offered clips/s": self.rate, "took s": took},
            **{"failed at first": running.summary.failed_once},
            **running.summary.figures(),
        )


def nothing_failed(running: Running) -> None:
    """Hold a load to: every clip that was due was sent and answered, by connections kept."""
    summary = running.summary
    assert summary is not None
    assert summary.failures == ()
    assert (summary.failed, summary.refused, summary.dropped) == (0, 0, 0)
    assert summary.cut < load.CONNECTIONS
    assert summary.opened >= load.CONNECTIONS
    assert summary.gaps >= load.CONNECTIONS / 2


def one_retry_saves(stage: Stage, running: Running, killed: float) -> None:
    """Hold a load to: what failed was inside the pod, or sent there before anybody knew it dead.

    With one retry after that nothing failed.
    """
    summary = running.summary
    assert summary is not None
    after = [failure.started - killed for failure in summary.failures if failure.number == 1]
    stage.figures.add(
        "Clips that one retry saved",
        what=stage.figures.rows(SECTION)[-1]["what"],
        inside=sum(each <= 0 for each in after),
        **{"sent before it was known": sum(each > 0 for each in after)},
        **{"the last of them, s after": max(after, default=float("nan"))},
    )
    assert (summary.failed, summary.dropped) == (0, 0)
    assert [each for each in after if each > KNOWN_S] == []
