"""What operators and clusters do to pods, while clips come at 70% of what the pods can take.

Of so many pods one can be missing: the others have room for the load until the next is there.
"""

from __future__ import annotations

import json
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e import helm, kubectl, load
from tests.e2e.cluster import RELEASE, Cluster
from tests.e2e.figures import Figures
from tests.e2e.load import Target
from tests.e2e.release import SERVERS, Install, again, aim, container
from tests.e2e.stage import PODS, SECTION, Stage, nothing_failed, one_retry_saves
from tests.e2e.timeline import values as distinct
from tests.e2e.watch import watching
from tests.support.layers import merged

ENOUGH = 10_000
"""Requests over all scenarios, at the usual share of capacity."""
TIGHT: dict[str, Any] = {
    "replicaCount": PODS,
    "resources": {
        "requests": {"cpu": "150m", "memory": "512Mi"},
        "limits": {"cpu": "300m", "memory": "1Gi"},
    },
}
"""Pods that leave room on a node of two CPUs for one more that starts, the gateway and k6: it is
the pods that are short of CPU, not the node, so that a pod lost is its share of the capacity."""
KILL = """
import os, pathlib, signal
own = os.getpid()
pids = [int(path.name) for path in pathlib.Path("/proc").iterdir() if path.name.isdigit()]
for pid in pids:
    if pid not in (1, own):
        os.kill(pid, signal.SIGKILL)
"""
"""Ends the processes that work; the first one, which nobody inside can kill, then ends itself."""


@pytest.fixture(scope="module")
def installed(install: Install, cluster: Cluster) -> dict[str, Any]:
    """Install PODS pods."""
    return install(TIGHT, {"settings": {"precision": cluster.precision}})


@pytest.fixture(scope="module")
def offered(
    installed: dict[str, Any],
    cluster: Cluster,
    http: httpx.Client,
    clip: Path,
    figures: Figures,
    tmp_path_factory: pytest.TempPathFactory,
) -> float:
    """Measure the capacity, and give the share of it that is offered."""
    assert installed
    target = aim(cluster, http, clip)
    most = load.capacity(target, tmp_path_factory.mktemp("k6"), clients=8 * PODS)
    figures.add("Capacity", pods=PODS, **{"clips/s": most, "offered": load.SHARE * most})
    return load.SHARE * most


@pytest.fixture
def stage(
    cluster: Cluster,
    target: Target,
    tmp_path: Path,
    figures: Figures,
    installed: dict[str, Any],
    offered: float,
) -> Stage:
    """Put it all together."""
    return Stage(cluster, target, tmp_path, figures, installed, offered)


def test_rolling_update(stage: Stage) -> None:
    """An upgrade that makes every pod anew costs no request."""
    changed = merged(stage.values, {"podAnnotations": {"generation": "2"}})
    before = set(kubectl.names(stage.pods()))
    with stage.loaded("rolling update") as running:
        helm.upgrade(RELEASE, stage.cluster.namespace, changed)
        stage.settle()
    assert not before & set(kubectl.names(stage.pods()))
    nothing_failed(running)


def test_rollback(stage: Stage) -> None:
    """`helm rollback` costs no request."""
    before = set(kubectl.names(stage.pods()))
    with stage.loaded("rollback") as running:
        helm.rollback(RELEASE, stage.cluster.namespace)
        stage.settle()
    assert not before & set(kubectl.names(stage.pods()))
    assert "generation" not in stage.pods()[0]["metadata"]["annotations"]
    nothing_failed(running)


def test_pod_deleted(stage: Stage) -> None:
    """A pod that is told to end answers what it has, and what comes before the gateway knows."""
    with stage.loaded("pod deleted") as running:
        kubectl.kubectl("delete", "pod", kubectl.name(stage.pods()[0]), *stage.where)
        stage.settle()
    nothing_failed(running)


def test_drain(stage: Stage) -> None:
    """`kubectl drain` evicts one pod after the other, as the disruption budget has it."""
    before = set(kubectl.names(stage.pods()))
    with (
        stage.loaded("drain") as running,
        watching("deployments", stage.cluster.namespace, SERVERS.partition(",")[0]) as seen,
    ):
        refused = drain(stage)
        stage.settle()
    assert not before & set(kubectl.names(stage.pods()))
    assert refused, "the disruption budget had nothing to refuse"
    assert min(distinct(seen, "status", "availableReplicas")) == PODS - 1
    nothing_failed(running)


def drain(stage: Stage) -> bool:
    """Drain the nodes of the release's pods, of these pods alone; tell if the budget held one back.

    On a cluster of one node the pods have nowhere else to go, so it takes new ones again at once.
    """
    refused = False
    alone = len(kubectl.items("nodes")) == 1
    for node in sorted({pod["spec"]["nodeName"] for pod in stage.pods()}):
        options = ["--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s"]
        with subprocess.Popen(
            [*("kubectl", "drain", node, "--pod-selector", SERVERS), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            try:
                if alone:
                    kubectl.until(partial(cordoned, node), "the node is cordoned", 20)
                    kubectl.kubectl("uncordon", node)
                said, _ = process.communicate(timeout=130)
            finally:
                process.kill()
                kubectl.kubectl("uncordon", node)
        assert process.returncode == 0, said
        refused |= "disruption budget" in said
    return refused


def cordoned(node: str) -> bool:
    """Whether a node takes no pods."""
    return bool(kubectl.get("node", node)["spec"].get("unschedulable"))


def test_process_killed(stage: Stage) -> None:
    """A server killed outright fails clips inside it and on their way, which one retry saves."""
    victim = stage.pods()[0]
    with stage.loaded("server killed (SIGKILL)", retry=True) as running:
        killed = time.time()
        kubectl.run(
            *("kubectl", "exec", kubectl.name(victim), *stage.where, "--"),
            *("python", "-c", KILL),
        )
        kubectl.until(lambda: not kubectl.ready(again(victim)), "it isn't ready", 20)
        stage.settle()
    assert container(again(victim))["restartCount"] == 1
    one_retry_saves(stage, running, killed)


def test_pod_deleted_by_force(stage: Stage) -> None:
    """A pod deleted without grace may fail the clips inside it, and one retry saves them."""
    with stage.loaded("pod deleted by force", retry=True) as running:
        killed = time.time()
        name = kubectl.name(stage.pods()[0])
        kubectl.kubectl("delete", "pod", name, *stage.where, "--grace-period=0", "--force")
        stage.settle()
    one_retry_saves(stage, running, killed)


def test_enough_requests(stage: Stage) -> None:
    """Over all that was done, enough clips were sent for the odd one to have shown."""
    figures = stage.figures
    figures.add(
        f"{SECTION}, in total",
        sent=figures.total(SECTION, "sent"),
        failed=figures.total(SECTION, "failed"),
    )
    assert figures.total(SECTION, "sent") >= ENOUGH * load.SHARE / load.USUAL_SHARE
    assert figures.total(SECTION, "failed") == 0


def test_eviction_is_refused_while_a_pod_is_missing(stage: Stage) -> None:
    """The budget lets one pod be evicted, and refuses the next until there are enough again."""
    stage.settle()
    first, second = stage.pods()[:2]
    evict(stage, kubectl.name(first))
    with pytest.raises(kubectl.Failed, match="disruption budget"):
        evict(stage, kubectl.name(second))
    stage.settle()


def evict(stage: Stage, name: str) -> None:
    """Evict a pod, as a drain does.

    Raises:
        kubectl.Failed: the disruption budget, or something else, didn't let it.
    """
    eviction = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": name, "namespace": stage.cluster.namespace},
    }
    path = f"/api/v1/namespaces/{stage.cluster.namespace}/pods/{name}/eviction"
    kubectl.kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(eviction))
