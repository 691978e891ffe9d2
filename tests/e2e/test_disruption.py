"""What operators and clusters do to pods, while clips come at 70% of what the pods can take.

There is one pod more than the load needs: whoever loses one has the others until the next is there.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e import helm, kubectl, load
from tests.e2e.cluster import RELEASE, Cluster
from tests.e2e.figures import Figures
from tests.e2e.load import Running, Target
from tests.e2e.release import SERVERS, Install, again, aim, container, pods
from tests.e2e.timeline import values as distinct
from tests.e2e.watch import watching

PODS = 3
ENOUGH = 10_000
"""Requests over all scenarios."""
SECTION = "Disruption under load"
TIGHT: dict[str, Any] = {
    "replicaCount": PODS,
    "resources": {
        "requests": {"cpu": "200m", "memory": "512Mi"},
        "limits": {"cpu": "600m", "memory": "1Gi"},
    },
}
"""Pods that leave room on a node of two CPUs for one more that starts, the gateway and k6."""
KILL = """
import os, pathlib, signal
own = os.getpid()
pids = [int(path.name) for path in pathlib.Path("/proc").iterdir() if path.name.isdigit()]
for pid in pids:
    if pid not in (1, own):
        os.kill(pid, signal.SIGKILL)
"""
"""Ends the processes that work; the first one, which a container cannot kill from inside, then ends
by itself."""


@dataclass
class Stage:
    """A release of PODS pods, and the load it can take."""

    cluster: Cluster
    target: Target
    folder: Path
    figures: Figures
    values: dict[str, Any]
    rate: float = field(default=0.0)
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
    def loaded(self, what: str, seconds: int, *, retry: bool = False) -> Iterator[Running]:
        """Do something under load, and note how the load fared."""
        self.settle()
        started = time.monotonic()
        running = load.arriving(
            self.target, self.folder, rate=self.rate, seconds=seconds, retry=retry
        )
        with load.under(running):
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
    """Hold a load to: every clip that was due was sent and answered, over connections kept open."""
    summary = running.summary
    assert summary is not None
    assert summary.failures == ()
    assert (summary.failed, summary.refused, summary.dropped) == (0, 0, 0)
    assert summary.answered == summary.sent
    assert summary.opened >= load.CONNECTIONS
    assert summary.gaps >= load.CONNECTIONS / 2


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
    changed = helm.merged(stage.values, {"podAnnotations": {"generation": "2"}})
    before = set(kubectl.names(stage.pods()))
    with stage.loaded("rolling update", 110) as running:
        helm.upgrade(RELEASE, stage.cluster.namespace, changed)
        stage.settle()
    assert not before & set(kubectl.names(stage.pods()))
    nothing_failed(running)


def test_rollback(stage: Stage) -> None:
    """`helm rollback` costs no request."""
    before = set(kubectl.names(stage.pods()))
    with stage.loaded("rollback", 110) as running:
        helm.rollback(RELEASE, stage.cluster.namespace)
        stage.settle()
    assert not before & set(kubectl.names(stage.pods()))
    assert "generation" not in stage.pods()[0]["metadata"]["annotations"]
    nothing_failed(running)


def test_pod_deleted(stage: Stage) -> None:
    """A pod that is told to end answers what it has, and what comes before the gateway knows."""
    with stage.loaded("pod deleted", 60) as running:
        kubectl.kubectl("delete", "pod", kubectl.name(stage.pods()[0]), *stage.where)
        stage.settle()
    nothing_failed(running)


def test_drain(stage: Stage) -> None:
    """`kubectl drain` evicts one pod after the other, as the disruption budget has it."""
    before = set(kubectl.names(stage.pods()))
    with (
        stage.loaded("drain", 130) as running,
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
    """A server killed outright may fail the clips inside it, which one retry saves."""
    victim = stage.pods()[0]
    with stage.loaded("server killed (SIGKILL)", 60, retry=True) as running:
        killed = time.time()
        kubectl.run(
            *("kubectl", "exec", kubectl.name(victim), *stage.where, "--"),
            *("python", "-c", KILL),
        )
        kubectl.until(lambda: not kubectl.ready(again(victim)), "it isn't ready", 20)
        stage.settle()
    assert container(again(victim))["restartCount"] == 1
    only_in_flight(running, killed)


def test_pod_deleted_by_force(stage: Stage) -> None:
    """A pod deleted without grace may fail the clips inside it, and one retry saves them."""
    with stage.loaded("pod deleted by force", 60, retry=True) as running:
        killed = time.time()
        name = kubectl.name(stage.pods()[0])
        kubectl.kubectl("delete", "pod", name, *stage.where, "--grace-period=0", "--force")
        stage.settle()
    only_in_flight(running, killed)


def only_in_flight(running: Running, killed: float) -> None:
    """Hold a load to: with one retry nothing failed, without it only what the pod had inside."""
    summary = running.summary
    assert summary is not None
    assert (summary.failed, summary.dropped) == (0, 0)
    assert [failure for failure in summary.failures if failure.started > killed + 1] == []


def test_enough_requests(stage: Stage) -> None:
    """Over all that was done, enough clips were sent for the odd one to have shown."""
    figures = stage.figures
    figures.add(
        f"{SECTION}, in total",
        sent=figures.total(SECTION, "sent"),
        failed=figures.total(SECTION, "failed"),
    )
    assert figures.total(SECTION, "sent") >= ENOUGH
    assert figures.total(SECTION, "failed") == 0


def test_eviction_is_refused_while_a_pod_is_missing(stage: Stage) -> None:
    """The budget lets one pod be evicted, and refuses the next until there are enough again."""
    stage.settle()
    first, second, _ = stage.pods()
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
