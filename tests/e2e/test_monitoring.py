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


def test_every_query_of_the_dashboard_has_data(
    cluster: Cluster, http: httpx.Client, target: Target, tmp_path: Path, figures: Figures
) -> None:
    """After a while of clips, bad files and refusals no panel is empty."""
    http.post(CLASSIFY, content=b"no audio")
    # More clients than clips may be inside: some are refused.
    loaded = load.flooding(target, tmp_path, rate=60, seconds=25)
    loaded.finish()
    asked = monitoring.queries(namespace=cluster.namespace, release=RELEASE)
    empty = dict(asked)

    def answered() -> bool:
        for panel in [panel for panel, expression in empty.items() if query(expression)]:
            del empty[panel]
        return not empty

    try:
        kubectl.until(answered, "every panel has data", 30)
    finally:
        figures.add("Dashboard", queries=len(asked), without_data=sorted(empty))
