"""Candidates under load: what a release is told to judge them by, and what is noted of each."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import httpx

from tests.e2e import candidates, kubectl, load
from tests.e2e import cluster as clusters
from tests.e2e.cluster import Cluster
from tests.e2e.figures import Figures
from tests.e2e.kubectl import Object
from tests.e2e.load import Target
from tests.e2e.test_disruption import KILL

ROLLOUTS = Path(__file__).parents[2] / "k8s/rollouts"
RATE = 5.0
"""Clips a second, of which a candidate sees enough to be judged in a minute."""
TOO_LOW = 0.2
KILL_EVERY_S = 20
PODS = 2
TIGHT: dict[str, Any] = {
    "resources": {
        "requests": {"cpu": "100m", "memory": "448Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    },
}
POLICY = """
alpha = 0.05
planned = { shadow = 200, live = 200 }
[checks]
accuracy = { margin = 0.1, samples = 50 }
uar = { margin = 0.2, samples = 50 }
disagreement = { margin = 0.3, samples = 100 }
class_prior = { margin = 0.1, samples = 100 }
review_rate = { margin = 0.2, samples = 100 }
error_rate = { margin = 0.1, samples = 75 }
p50 = { margin = 0.75, samples = 75 }
p95 = { margin = 2, samples = 75 }
[steps.0]
requires = ["sides", "accuracy", "uar", "disagreement", "class_prior", "review_rate"]
[steps.10]
samples = { error_rate = 75, p50 = 75 }
[steps.50]
samples = { error_rate = 75, p50 = 75, p95 = 75 }
[steps.100]
samples = { error_rate = 75, p50 = 75, p95 = 75 }
"""
"""What a few clips a second decide in a minute, on a node that is busy with everything else."""


def values(golden: str) -> dict[str, Any]:
    """Give the values of a release that is judged, by whatever moves its clips."""
    return TIGHT | {
        "settings": {"precision": candidates.PRECISION},
        "monitoring": {"annotations": {"enabled": True}},
        "networkPolicy": {"prometheus": [clusters.prometheus_peer()]},
        "shadow": {"sample": 1.0},
        "compare": {
            "image": clusters.tools(),
            "prometheus": {"url": _prometheus_url()},
            "goldenSeconds": 90,
            "blockSeconds": 5,
            "policy": POLICY,
            "golden": {
                "source": "pvc",
                "manifest": "speech/golden.json",
                "pvc": {"claimName": golden},
            },
        },
    }


@dataclass(frozen=True, slots=True)
class Stage:
    """Where candidates are tried: under load, of which no clip may fail."""

    cluster: Cluster
    http: httpx.Client
    target: Target
    folder: Path
    figures: Figures
    section: str
    """Of the figures."""

    @property
    def where(self) -> tuple[str, str]:
        """Kubectl's options for the namespace."""
        return ("--namespace", self.cluster.namespace)

    @contextmanager
    def loaded(self, what: str, rate: float = RATE) -> Iterator[dict[str, object]]:
        """Do something with a candidate while clips arrive.

        What is put into the dict is noted, with how long it took and how the clips fared.
        """
        running = load.arriving(self.target, self.folder, rate=rate)
        noted: dict[str, object] = {"candidate": what}
        with load.under(running, 0):
            began = time.monotonic()
            yield noted
            noted["seconds"] = round(time.monotonic() - began)
        summary = running.summary
        assert summary is not None
        self.figures.add(self.section, **noted, **summary.figures())
        assert summary.failed == 0

    def serves(self) -> Object:
        """Ask what is served."""
        return self.http.get("/v1/model").json()


_Stage = TypeVar("_Stage", bound=Stage)


class Staging:
    """What every kind of stage is made of."""

    def __init__(self, *common: object) -> None:
        """Take the fields of `Stage`, in their order."""
        self._common = common

    def __call__(self, kind: Callable[..., _Stage], /, **own: object) -> _Stage:
        """Make a stage of that kind, with what only the kind has."""
        return kind(*self._common, **own)


@contextmanager
def crashing(
    pods: Callable[[], Sequence[Object]], *, every_s: float = KILL_EVERY_S, after_s: float = 0
) -> Iterator[None]:
    """Kill the processes of pods again and again.

    Args:
        pods: that are looked at.
        every_s: seconds from one look to the next.
        after_s: seconds for which a pod is ready before it is killed.
    """
    over = threading.Event()

    def crash() -> None:
        while not over.wait(every_s):
            for pod in pods():
                if _ready_s(pod) >= after_s:
                    where = (kubectl.name(pod), "--namespace", pod["metadata"]["namespace"])
                    kubectl.run("kubectl", "exec", *where, "--", "python", "-c", KILL)

    thread = threading.Thread(target=crash)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _ready_s(pod: Object) -> float:
    """Seconds for which a pod has been Ready; less than none where it isn't."""
    conditions = pod["status"].get("conditions", [])
    for each in conditions:
        if each["type"] == "Ready" and each["status"] == "True":
            since = datetime.fromisoformat(each["lastTransitionTime"])
            return (datetime.now(UTC) - since).total_seconds()
    return -math.inf


def _prometheus_url() -> str:
    """Prometheus, as a pod of the release reaches it."""
    namespace, service = clusters.prometheus()
    name, _, port = service.partition(":")
    return f"http://{name}.{namespace}:{port}"
