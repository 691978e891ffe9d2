"""New versions under load, brought by rollout.sh: a good one stays, bad ones go by themselves.

Every candidate is stable's own bundle, changed in a pod beside the release and served from a
registry there; what is wrong with one is what its name says.
"""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e import candidates, helm, kubectl, load
from tests.e2e import cluster as clusters
from tests.e2e.cluster import RELEASE, Cluster
from tests.e2e.figures import Figures
from tests.e2e.kubectl import Object
from tests.e2e.load import Target
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


@dataclass(frozen=True, slots=True)
class Walked:
    """What came of rollout.sh."""

    code: int
    said: str
    """By it and, after an empty line, by the last comparison."""
    verdict: str
    """The comparison's first sentences, as one line."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where candidates walk: under load, of which no clip may fail."""

    cluster: Cluster
    http: httpx.Client
    target: Target
    folder: Path
    figures: Figures
    version: str
    """That stable serves before."""

    def rollout(self, action: str, *arguments: str, **variables: str) -> Walked:
        """Run rollout.sh to its end."""
        command = [str(ROLLOUT), action, *(["--", *arguments] if arguments else [])]
        environment = os.environ | {"RELEASE": RELEASE, "NAMESPACE": self.cluster.namespace}
        environment |= {"READY_TIMEOUT": "2m", **variables}
        where = ("--namespace", self.cluster.namespace)
        # What the last one said is nothing of this one, which may have none.
        kubectl.delete("job", f"{RELEASE}-compare", *where)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        log = kubectl.run("kubectl", "logs", f"job/{RELEASE}-compare", *where).stdout
        said = f"{done.stdout}{done.stderr}\n{log}"
        print(said)  # noqa: T201 - pytest shows it of a test that fails
        return Walked(done.returncode, said, " ".join(log.partition("\nstable:")[0].split()))

    def walk(
        self, what: str, *arguments: str, rate: float = RATE, wait_s: int = WAIT_S, **variables: str
    ) -> Walked:
        """Bring a candidate while clips arrive, and note how long it took."""
        running = load.arriving(self.target, self.folder, rate=rate)
        with load.under(running, 0):
            began = time.monotonic()
            waits = ("--set", f"compare.waitSeconds={wait_s}")
            walked = self.rollout("walk", *arguments, *waits, **variables)
            seconds = time.monotonic() - began
        summary = running.summary
        assert summary is not None
        noted = {"candidate": what, "seconds": round(seconds), "verdict": walked.verdict}
        self.figures.add(SECTION, **noted, **summary.figures())
        assert summary.failed == 0, walked.said
        return walked

    def canaries(self) -> list[Object]:
        """Read the canary's pods that nobody has told to end."""
        selector = f"app.kubernetes.io/instance={RELEASE},track=canary"
        return kubectl.pods(self.cluster.namespace, selector)

    def withdrawn(self) -> None:
        """Hold the release to: no canary is left, and stable is what it was."""
        given = helm.given(RELEASE, self.cluster.namespace)
        assert not given.get("canary", {}).get("enabled")
        kubectl.until(lambda: not self.canaries(), "the canary's pods are gone")
        assert self.http.get("/v1/model").json()["version"] == self.version


@pytest.fixture
def stage(
    installed: dict[str, Any],
    pushed: dict[str, str],
    cluster: Cluster,
    http: httpx.Client,
    target: Target,
    tmp_path: Path,
    figures: Figures,
) -> Iterator[Stage]:
    """Have the release and the candidates ready; no test leaves the next one a canary."""
    assert installed
    assert pushed
    served(http)
    version = str(http.get("/v1/model").json()["version"])
    stage = Stage(cluster, http, target, tmp_path, figures, version)
    yield stage
    stage.rollout("abort")


def test_too_little_traffic_is_inconclusive(stage: Stage) -> None:
    """The candidate stays where it was, and nothing is promoted."""
    good = candidates.values("good")
    walked = stage.walk("good, too little traffic", *good, rate=TOO_LOW, wait_s=SHORTLY_S)
    assert walked.code == INCONCLUSIVE, walked.said
    assert walked.verdict.startswith("INCONCLUSIVE at 0%: disagreement is open")
    assert helm.given(RELEASE, stage.cluster.namespace)["canary"]["weight"] == 0
    assert stage.canaries()


def test_a_degraded_model_is_withdrawn(stage: Stage) -> None:
    """By the golden set, before it has answered anybody."""
    walked = stage.walk("degraded", *candidates.values("degraded"))
    assert walked.code == FAILED, walked.said
    assert walked.verdict.startswith("FAIL at 0%: accuracy fails")
    stage.withdrawn()


def test_a_slow_candidate_is_withdrawn(stage: Stage) -> None:
    """By its times under traffic, of which the golden set and copies of clips say nothing."""
    walked = stage.walk("slow", *candidates.values("slow"), STEPS="50")
    assert walked.code == FAILED, walked.said
    assert re.match(r"FAIL at 50%: p(50|95) fails", walked.verdict)
    stage.withdrawn()


def test_a_candidate_that_does_not_start_is_withdrawn(stage: Stage) -> None:
    """Before it is compared: the image has no torch."""
    torch = ("--set", "canary.settings.runtime=torch")
    walked = stage.walk("never ready", *torch, READY_TIMEOUT="20s")
    assert walked.code == OTHER, walked.said
    assert "not ready" in walked.said
    stage.withdrawn()


def test_a_crashing_candidate_is_withdrawn(stage: Stage) -> None:
    """By its restarts, while it only gets copies of clips."""
    began = time.monotonic()
    over = threading.Event()

    def crash() -> None:
        while not over.wait(20):
            for pod in filter(kubectl.ready, stage.canaries()):
                where = (kubectl.name(pod), "--namespace", stage.cluster.namespace)
                kubectl.run("kubectl", "exec", *where, "--", "python", "-c", KILL)

    thread = threading.Thread(target=crash)
    thread.start()
    try:
        walked = stage.walk("crashing", *candidates.values("good"))
    finally:
        over.set()
        thread.join()
    assert walked.code == FAILED, walked.said
    assert walked.verdict.startswith("FAIL at 0%: restarts fails")
    # Helm would have waited for it to be ready until its timeout, of five minutes and a half.
    assert time.monotonic() - began < 2 * WAIT_S
    stage.withdrawn()


def test_a_good_candidate_is_promoted(stage: Stage, pushed: dict[str, str]) -> None:
    """Through a share of the clips to all of them, without a clip lost."""
    walked = stage.walk("good", *candidates.values("good"), STEPS="0 50 100")
    assert walked.code == 0, walked.said
    about = stage.http.get("/v1/model").json()
    assert about["digest"] == pushed["good"]
    assert about["version"] != stage.version
    kubectl.until(lambda: not stage.canaries(), "the canary's pods are gone")
