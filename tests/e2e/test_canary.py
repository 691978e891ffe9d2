"""New versions under load, brought by rollout.sh: a good one stays, bad ones go by themselves.

Every candidate is stable's own bundle, changed in a pod beside the release and served from a
registry there; what is wrong with one is what its name says.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e import cluster as clusters
from tests.e2e import candidates, helm, kubectl, load
from tests.e2e.cluster import RELEASE, Cluster
from tests.e2e.figures import Figures
from tests.e2e.load import Running, Target
from tests.e2e.release import Install, served
from tests.e2e.test_disruption import KILL

SECTION = "Candidates"
ROLLOUT = Path(__file__).parents[2] / "k8s/rollouts/helm/rollout.sh"
RATE = 5.0
"""Clips a second, of which a candidate sees enough to be judged in a minute."""
TOO_LOW = 0.2
WAIT_S, SHORTLY_S = 120, 20
FAILED, INCONCLUSIVE, OTHER = 1, 2, 3
TIGHT: dict[str, Any] = {
    "replicaCount": 2,
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
[steps.50]
samples = { error_rate = 75, p50 = 75, p95 = 75 }
[steps.100]
samples = { error_rate = 75, p50 = 75, p95 = 75 }
"""
"""What a few clips a second decide in a minute, on a node that is busy with everything else."""

pytestmark = pytest.mark.needs("prometheus")


@pytest.fixture(scope="module")
def installed(install: Install, cluster: Cluster, golden: str) -> dict[str, Any]:
    """Install stable, and tell it how to compare."""
    return install(
        TIGHT,
        {
            "settings": {"precision": cluster.precision},
            "monitoring": {"annotations": {"enabled": True}},
            "networkPolicy": {"prometheus": [clusters.prometheus_peer()]},
            "shadow": {"sample": 1.0},
            "compare": {
                "enabled": True,
                "image": clusters.tools(),
                "prometheus": {"url": prometheus_url()},
                "waitSeconds": WAIT_S,
                "goldenSeconds": 90,
                "blockSeconds": 5,
                "policy": POLICY,
                "golden": {
                    "source": "pvc",
                    "manifest": "speech/golden.json",
                    "pvc": {"claimName": golden},
                },
            },
        },
    )


def prometheus_url() -> str:
    """Prometheus, as a pod of the release reaches it."""
    namespace, service = clusters.prometheus()
    name, _, port = service.partition(":")
    return f"http://{name}.{namespace}:{port}"


@pytest.fixture(scope="module")
def pushed(cluster: Cluster) -> Iterator[dict[str, str]]:
    """Make the candidates; digests by their names."""
    with candidates.pushed(cluster) as digests:
        yield digests


@pytest.fixture(scope="module")
def golden(cluster: Cluster) -> Iterator[str]:
    """Make the golden set; its claim."""
    with candidates.golden(cluster) as claim:
        yield claim
        # A claim stays for as long as a pod has it, which the Job's has though it is over. Helm
        # leaves what is a hook.
        helm.uninstall(RELEASE, cluster.namespace)
        kubectl.delete("job", f"{RELEASE}-compare", "--namespace", cluster.namespace)


def rollout(
    cluster: Cluster, action: str, tag: str = "", *, wait_s: int = WAIT_S, **variables: str
) -> tuple[int, str]:
    """Run rollout.sh to its end; its exit code, and what it and the last comparison said."""
    command = [str(ROLLOUT), action]
    if tag:
        command += ["--", *candidates.values(tag), "--set", f"compare.waitSeconds={wait_s}"]
    environment = os.environ | {"RELEASE": RELEASE, "NAMESPACE": cluster.namespace}
    environment |= {"READY_TIMEOUT": "2m", **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    where = ("--namespace", cluster.namespace)
    log = kubectl.run("kubectl", "logs", f"job/{RELEASE}-compare", *where)
    said = f"{done.stdout}{done.stderr}\n{log.stdout}"
    print(said)  # noqa: T201 - for whoever wonders why
    return done.returncode, said


@contextmanager
def loaded(
    what: str, target: Target, folder: Path, figures: Figures, rate: float = RATE
) -> Iterator[Running]:
    """Do something under load, and hold it to that no clip fails."""
    running = load.arriving(target, folder, rate=rate)
    with load.under(running, 0):
        yield running
    assert running.summary is not None
    figures.add(SECTION, what=what, **running.summary.figures())
    assert running.summary.failed == 0


def canaries(cluster: Cluster) -> list[str]:
    """Names of the canary's pods that nobody has told to end."""
    selector = f"app.kubernetes.io/instance={RELEASE},track=canary"
    return kubectl.names(kubectl.pods(cluster.namespace, selector))


def withdrawn(cluster: Cluster, http: httpx.Client, version: str) -> None:
    """Hold the release to: no canary is left, and stable is what it was."""
    assert not helm.given(RELEASE, cluster.namespace).get("canary", {}).get("enabled")
    kubectl.until(lambda: not canaries(cluster), "the canary's pods are gone")
    assert http.get("/v1/model").json()["version"] == version


@pytest.fixture
def version(installed: dict[str, Any], http: httpx.Client) -> str:
    """The version that stable serves before the test."""
    assert installed
    served(http)
    return str(http.get("/v1/model").json()["version"])


def test_too_little_traffic_is_inconclusive(
    version: str,
    cluster: Cluster,
    pushed: dict[str, str],
    target: Target,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """The candidate stays where it was, and nothing is promoted."""
    assert pushed
    with loaded("too little traffic", target, tmp_path, figures, rate=TOO_LOW):
        code, said = rollout(cluster, "walk", "good", wait_s=SHORTLY_S)
    assert code == INCONCLUSIVE, said
    assert helm.given(RELEASE, cluster.namespace)["canary"]["weight"] == 0
    assert canaries(cluster)
    code, said = rollout(cluster, "abort")
    assert code == 0, said
    assert version


def test_a_degraded_model_is_withdrawn(
    version: str,
    cluster: Cluster,
    http: httpx.Client,
    pushed: dict[str, str],
    target: Target,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """By its shadows, before it has answered anybody."""
    assert pushed
    with loaded("degraded", target, tmp_path, figures):
        code, said = rollout(cluster, "walk", "degraded")
    assert code == FAILED, said
    withdrawn(cluster, http, version)


def test_a_slow_candidate_is_withdrawn(
    version: str,
    cluster: Cluster,
    http: httpx.Client,
    pushed: dict[str, str],
    target: Target,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """By its times under traffic, which copies of clips say nothing of."""
    assert pushed
    with loaded("slow", target, tmp_path, figures):
        code, said = rollout(cluster, "walk", "slow", STEPS="50")
    assert code == FAILED, said
    withdrawn(cluster, http, version)


def test_a_candidate_that_does_not_start_is_withdrawn(
    version: str,
    cluster: Cluster,
    http: httpx.Client,
    target: Target,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """Before it is compared: the image has no torch."""
    with loaded("never ready", target, tmp_path, figures):
        code, said = rollout(
            cluster, "walk", "--set", "canary.settings.runtime=torch", READY_TIMEOUT="40s"
        )
    assert code == OTHER, said
    assert "not ready" in said
    withdrawn(cluster, http, version)


def test_a_crashing_candidate_is_withdrawn(
    version: str,
    cluster: Cluster,
    http: httpx.Client,
    pushed: dict[str, str],
    target: Target,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """By its restarts, while it only gets copies of clips."""
    assert pushed
    over = threading.Event()

    def crash() -> None:
        while not over.wait(20):
            for name in canaries(cluster):
                where = (name, "--namespace", cluster.namespace)
                kubectl.run("kubectl", "exec", *where, "--", "python", "-c", KILL)

    thread = threading.Thread(target=crash)
    thread.start()
    try:
        with loaded("crashing", target, tmp_path, figures):
            code, said = rollout(cluster, "walk", "good")
    finally:
        over.set()
        thread.join()
    assert code == FAILED, said
    withdrawn(cluster, http, version)


def test_a_good_candidate_is_promoted(
    version: str,
    cluster: Cluster,
    http: httpx.Client,
    pushed: dict[str, str],
    target: Target,
    tmp_path: Path,
    figures: Figures,
) -> None:
    """Through a share of the clips to all of them, without a clip lost."""
    with loaded("good", target, tmp_path, figures):
        code, said = rollout(cluster, "walk", "good", STEPS="0 50 100")
    assert code == 0, said
    about = http.get("/v1/model").json()
    assert about["digest"] == pushed["good"]
    assert about["version"] != version
    kubectl.until(lambda: not canaries(cluster), "the canary's pods are gone")
