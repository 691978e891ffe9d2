"""What breaks and mends itself, or mends when its cause does."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.e2e import helm, kubectl
from tests.e2e.cluster import RELEASE, Cluster
from tests.e2e.figures import Figures
from tests.e2e.release import SMALL, Install, again, container, pods, the_pod
from tests.support.asking import CLASSIFY
from tests.support.layers import merged

EAT = """
import os, time
for _ in range(64):
    if not os.fork():
        held = bytearray(os.urandom(1 << 20) * 32)
        time.sleep(60)
    time.sleep(0.02)
time.sleep(60)
"""
"""Takes memory in processes that are each smaller than the server, so that the kernel, out of
memory, ends the server and not them."""


@pytest.fixture(scope="module")
def values(install: Install, cluster: Cluster) -> dict[str, Any]:
    """Install a release that others break."""
    return install(SMALL, {"settings": {"precision": cluster.precision}})


def test_out_of_memory(
    cluster: Cluster, values: dict[str, Any], http: httpx.Client, speech: bytes, figures: Figures
) -> None:
    """A pod whose server the kernel kills for memory starts again by itself."""
    assert values
    victim = the_pod(cluster)
    where = ("--namespace", cluster.namespace)
    # The command ends with the container it runs in, which is no failure.
    started = time.monotonic()
    kubectl.run("kubectl", "exec", kubectl.name(victim), *where, "--", "python", "-c", EAT)

    def restarted() -> kubectl.Object | None:
        pod = again(victim)
        return pod if container(pod)["restartCount"] and kubectl.ready(pod) else None

    mended = kubectl.until(restarted, "it is ready again")
    assert container(mended)["lastState"]["terminated"]["reason"] == "OOMKilled"
    figures.add("Recovery", of="memory eaten up", ready_again_s=time.monotonic() - started)
    kubectl.until(lambda: http.post(CLASSIFY, content=speech).is_success, "it classifies again", 10)


def test_crash_loop(
    cluster: Cluster, values: dict[str, Any], http: httpx.Client, speech: bytes, figures: Figures
) -> None:
    """A setting that no server starts with reaches no user, and the next upgrade mends it."""
    before = kubectl.name(the_pod(cluster))
    broken = merged(values, {"extraEnv": [{"name": "TIMBRE_RUNTIME", "value": "none"}]})
    helm.upgrade(RELEASE, cluster.namespace, broken, wait=False)

    def looping() -> kubectl.Object | None:
        for pod in pods(cluster):
            if kubectl.name(pod) != before and pod["status"].get("containerStatuses"):
                waiting = container(pod)["state"].get("waiting", {})
                if waiting.get("reason") == "CrashLoopBackOff":
                    return pod
        return None

    crashed = kubectl.until(looping, "the new pod crashes again and again")
    log = kubectl.kubectl("logs", kubectl.name(crashed), "--namespace", cluster.namespace)
    assert "TIMBRE_RUNTIME" in log
    assert len(log.strip().splitlines()) == 1, log
    assert kubectl.name(the_pod(cluster)) == before
    assert http.post(CLASSIFY, content=speech).status_code == 200
    started = time.monotonic()
    helm.upgrade(RELEASE, cluster.namespace, values)
    figures.add("Recovery", of="a setting mended", ready_again_s=time.monotonic() - started)
    assert kubectl.ready(the_pod(cluster))
    assert http.post(CLASSIFY, content=speech).status_code == 200
