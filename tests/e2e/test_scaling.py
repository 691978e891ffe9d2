"""From one pod to three and back: by CPU, and by demand, which sees what is refused."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.e2e import cluster as clusters
from tests.e2e import kubectl, load
from tests.e2e.cluster import RELEASE, Cluster
from tests.e2e.figures import Figures
from tests.e2e.load import Running
from tests.e2e.release import Install, aim
from tests.e2e.timeline import values, when
from tests.e2e.watch import watching
from tests.support.audio import encoded, speech_like

MOST = 3
PATIENCE_S = 180
OVERLOAD = 10
LONG_S = 20
"""Of the clip that overloads: work for many windows in few bytes, so that what is short is the
engine, and not the way to it."""
READY = ("status", "readyReplicas")
WANTED = ("spec", "replicas")
COMMON: dict[str, Any] = {
    "resources": {
        "requests": {"cpu": "150m", "memory": "512Mi"},
        "limits": {"cpu": "500m", "memory": "1Gi"},
    },
    "autoscaling": {
        "enabled": True,
        "maxReplicas": MOST,
        # The chart's own way down is a pod a minute after five minutes of quiet.
        "behavior": {
            "scaleDown": {
                "stabilizationWindowSeconds": 10,
                "policies": [{"type": "Pods", "value": MOST, "periodSeconds": 15}],
            }
        },
    },
}


@pytest.mark.needs("metrics")
def test_by_cpu(
    cluster: Cluster,
    install: Install,
    http: httpx.Client,
    clip: Path,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """A pod that is kept busy gets two beside it, and they go when it is quiet."""
    install(COMMON, {"settings": {"precision": cluster.precision}})
    target = aim(cluster, http, clip)
    measures(cluster)
    running = load.closed(target, tmp_path, clients=16, seconds=2 * PATIENCE_S)
    sizes = up_and_down(cluster, running, figures, "CPU")
    assert (sizes[0], max(sizes), sizes[-1]) == (1, MOST, 1)


@pytest.mark.needs("custom-metrics")
@pytest.mark.needs("prometheus")
def test_by_demand(
    cluster: Cluster, install: Install, http: httpx.Client, tmp_path: Path, figures: Figures
) -> None:
    """At ten times what a pod can take, from one moment to the next and refused, it says so.

    Three pods are there at once or with a step between: demand is smoothed over 30 s, and an
    autoscaler that looks every few seconds sees it on its way up.
    """
    install(
        COMMON,
        {
            "settings": {"precision": cluster.precision},
            "autoscaling": {"cpuUtilization": 0, "demand": {"enabled": True}},
            "monitoring": {"annotations": {"enabled": True}},
            "networkPolicy": {"prometheus": [clusters.prometheus_peer()]},
        },
    )
    clip = tmp_path / "long.ogg"
    samples = np.tile(speech_like(LONG_S / 5), 5)
    clip.write_bytes(encoded(samples, container="OGG", subtype="VORBIS"))
    target = aim(cluster, http, clip)
    measures(cluster)
    # Four clips are more than a pod of half a CPU can have in work, and few enough that it is
    # done with them, and demand of them, before the load comes.
    most = load.capacity(target, tmp_path, clients=4, seconds=10)
    alone(cluster)
    running = load.flooding(target, tmp_path, rate=OVERLOAD * most, seconds=2 * PATIENCE_S)
    sizes = up_and_down(cluster, running, figures, f"demand, {OVERLOAD} × {most:.2g} clips/s")
    assert (sizes[0], max(sizes), sizes[-1]) == (1, MOST, 1)
    # More than it takes for all of them, from one pod; what saturates never says so.
    of = f'timbre_demand{{namespace="{cluster.namespace}"}}'
    (most_asked,) = clusters.query(f"max(max_over_time({of}[5m]))")
    figures.add("Most demand of a pod", pods=float(most_asked["value"][1]))
    assert float(most_asked["value"][1]) > MOST


def measures(cluster: Cluster) -> None:
    """Wait until the autoscaler knows its metric, so that what is timed is what it does with it."""
    where = ("--namespace", cluster.namespace)
    kubectl.until(
        lambda: kubectl.condition(kubectl.get("hpa", RELEASE, *where), "ScalingActive"),
        "the autoscaler has its metric",
    )


def alone(cluster: Cluster) -> None:
    """Wait until one pod is wanted and there is no other."""

    def is_alone() -> bool:
        deployment = kubectl.get("deployment", RELEASE, "--namespace", cluster.namespace)
        return {deployment["spec"]["replicas"], deployment["status"].get("replicas")} == {1}

    kubectl.until(is_alone, "one pod is left", PATIENCE_S)


def up_and_down(cluster: Cluster, running: Running, figures: Figures, by: str) -> list[int]:
    """Wait until a load has brought MOST pods, end it, wait until one is wanted; note the times.

    Returns:
        how many pods were wanted, one after the other.
    """
    started = time.time()
    try:
        with watching("deployments", cluster.namespace) as seen:
            kubectl.until(lambda: when(list(seen), MOST, *READY), f"{MOST} are ready", PATIENCE_S)
            summary = running.stop()
            stopped = time.time()
            kubectl.until(lambda: values(list(seen), *WANTED)[-1] == 1, "one is wanted", PATIENCE_S)
            back = time.time()
    finally:
        running.kill()
    wanted, ready = when(seen, MOST, *WANTED), when(seen, MOST, *READY)
    assert wanted is not None
    assert ready is not None
    sizes = values(seen, *WANTED)
    figures.add(
        "Scaling from 1 to 3 and back, in seconds",
        by=by,
        wanted=wanted - started,
        ready=ready - started,
        **{"one again": back - stopped, "sizes": sizes},
        **{"clips sent": summary.sent, "of these 429": summary.refused},
    )
    return sizes
