"""What a pod of the default size takes, idle and under load: the basis of its requests."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.e2e import kubectl, load, vitals
from tests.e2e.cluster import Cluster
from tests.e2e.figures import Figures
from tests.e2e.load import Target
from tests.e2e.release import Install, again, container, the_pod
from tests.e2e.vitals import quantity

pytestmark = pytest.mark.needs("metrics")

LOADED_S = 45
CLIENTS = 16


@pytest.fixture(scope="module", autouse=True)
def _installed(install: Install) -> None:
    install()


def test_default_requests_fit_what_is_taken(
    cluster: Cluster, target: Target, tmp_path: Path, figures: Figures
) -> None:
    """Under all the load it can take, a pod stays within its memory request, which is its limit."""
    pod = the_pod(cluster)
    where = (kubectl.name(pod), cluster.namespace)
    resources = pod["spec"]["containers"][0]["resources"]
    idle = vitals.follow(*where, 25)

    running = load.closed(target, tmp_path, clients=CLIENTS, seconds=LOADED_S)
    busy: list[vitals.Vitals] = []
    following = threading.Thread(
        target=lambda: busy.extend(vitals.follow(*where, LOADED_S + load.WARM_UP_S))
    )
    following.start()
    summary = running.finish()
    following.join()

    peak = vitals.peak_mib(*where)
    figures.add(
        "A pod of the default size",
        requests=resources["requests"],
        limits=resources["limits"],
        idle=vitals.summary(idle[-1:]),
        loaded=vitals.summary(busy[len(busy) // 2 :]),
        **{"most memory MiB": peak, "clips/s": summary.answered / LOADED_S},
    )
    most = max(each.memory_mib for each in [*idle, *busy])
    assert most < quantity(resources["requests"]["memory"]) / 2**20
    assert summary.failed == 0
    assert idle[-1].cpu < 0.1
    assert container(again(pod))["restartCount"] == 0
