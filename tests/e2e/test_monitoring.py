"""A real Prometheus scrapes the pods, and has what the dashboard asks it for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e import cluster as clusters
from tests.e2e import kubectl, load
from tests.e2e.cluster import RELEASE, Cluster, query
from tests.e2e.figures import Figures
from tests.e2e.load import Target
from tests.e2e.release import SMALL, Install, pods
from tests.support import monitoring
from tests.support.asking import CLASSIFY

pytestmark = pytest.mark.needs("prometheus")


@pytest.fixture(scope="module", autouse=True)
def _scraped(install: Install, cluster: Cluster) -> dict[str, Any]:
    """Install two pods that say where they are scraped, and let Prometheus in."""
    return install(
        SMALL,
        {
            "replicaCount": 2,
            "settings": {"precision": cluster.precision, "queue_windows": 12},
            "monitoring": {"annotations": {"enabled": True}},
            "networkPolicy": {"prometheus": [clusters.prometheus_peer()]},
        },
    )


def test_prometheus_scrapes_every_pod(cluster: Cluster) -> None:
    """Both pods are up as targets, and say what they serve."""
    servers = set(kubectl.names(pods(cluster)))
    of = f'namespace="{cluster.namespace}"'

    def up() -> bool:
        scraped = query(f"timbre_model_info{{{of}}} and on(pod) up{{{of}}} == 1")
        return {each["metric"]["pod"] for each in scraped} == servers

    kubectl.until(up, "both pods are scraped", 60)


def test_every_query_has_data(
    cluster: Cluster, http: httpx.Client, target: Target, tmp_path: Path, figures: Figures
) -> None:
    """After a while of clips, bad files and refusals no panel is empty, no rule blind."""
    http.post(CLASSIFY, content=b"no audio")
    # More than can be answered, however fast the nodes are: some are refused.
    rate = 3 * load.capacity(target, tmp_path, clients=4, seconds=5)
    loaded = load.flooding(target, tmp_path, rate=rate, seconds=25)
    loaded.finish()
    asked = list(monitoring.queries(cluster.namespace, RELEASE, interval="1m"))
    empty = {each.where: each.expr for each in asked if each.expects_data}
    for each in asked:
        query(each.expr)  # is at least understood

    def answered() -> bool:
        for where in [where for where, expr in empty.items() if has_data(expr)]:
            del empty[where]
        return not empty

    try:
        kubectl.until(answered, "every panel has data", 30)
    finally:
        expected = sum(each.expects_data for each in asked)
        figures.add(
            "Queries of rules and dashboard",
            asked=len(asked),
            **{"that need data": expected, "without data": sorted(empty)},
        )


def has_data(expression: str) -> bool:
    """Whether Prometheus knows a number for it."""
    return any(each["value"][1] != "NaN" for each in query(expression))
