"""New versions under load, moved by Flagger as k8s/rollouts/flagger has it, on the judge's word.

A candidate is an upgrade of the release. What the file says is changed where docs/canary.md says
that a user does, in the host's name and the Gateway, and in how long its steps take.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from tests.e2e import engines, judged, kubectl
from tests.e2e.cluster import GATEWAY, HOST, RELEASE, Cluster
from tests.e2e.engines import Engine
from tests.e2e.judged import Staging
from tests.e2e.kubectl import Object
from tests.e2e.release import Install, container, served

SECTION = "Candidates, by Flagger"
KIND = "canaries.flagger.app"
NAMESPACE = "flagger"
INTERVAL, WEIGHTS = "10s", [10, 50]
CRASH_S = 30
"""For how long the pods of a candidate that crashes are ready before they do, once each."""
LOOKS = 4
"""Of the judge's, after which a candidate that isn't known enough of is where it was."""

pytestmark = [pytest.mark.needs("flagger"), pytest.mark.needs("prometheus")]


@pytest.fixture(scope="module")
def installed(
    install: Install, cluster: Cluster, http: httpx.Client, golden: str
) -> Iterator[Object]:
    """Install stable, and hand it to Flagger: the Canary."""
    canary = engines.placed("flagger/canary.yaml", cluster)
    spec = canary["spec"]
    spec["service"]["hosts"] = [HOST]
    spec["service"]["gatewayRefs"] = [{"name": GATEWAY, "namespace": cluster.namespace}]
    spec["analysis"] |= {"interval": INTERVAL, "stepWeights": WEIGHTS}
    flagger = engines.values("flagger", NAMESPACE)
    install(judged.values(golden), flagger, {"httpRoute": {"enabled": False}})
    where = (RELEASE, "--namespace", cluster.namespace)
    try:
        kubectl.apply(canary)
        kubectl.until(
            lambda: kubectl.get(KIND, *where).get("status", {}).get("phase") == "Initialized",
            "Flagger has made the primary",
        )
        served(http)
        yield canary
    finally:
        # What Flagger has made is the Canary's, and goes after it: not before, for Flagger would
        # make it anew.
        kubectl.delete(KIND, *where)
        gone = ("deployment", f"{RELEASE}-primary", "--namespace", cluster.namespace)
        kubectl.kubectl("wait", "--for=delete", *gone, f"--timeout={kubectl.PATIENCE_S:g}s")


@pytest.fixture
def stage(installed: Object, staging: Staging) -> Engine:
    """Have the release, the candidates and Flagger ready."""
    assert installed
    return staging(
        Engine,
        kind=KIND,
        ends=frozenset({"Succeeded", "Failed"}),
        weight=WEIGHTS[-1],
    )


def candidates(stage: Engine) -> list[Object]:
    """Read the candidate's pods, which are those of the chart's own Deployment."""
    return kubectl.pods(stage.cluster.namespace, f"app={RELEASE}")


def untried(stage: Engine) -> list[Object]:
    """Read those of the candidate's pods that have not crashed."""
    pods = [pod for pod in candidates(stage) if kubectl.ready(pod)]
    return [pod for pod in pods if not container(pod)["restartCount"]]


def test_a_degraded_model_is_rolled_back(stage: Engine) -> None:
    """By the golden set, before it has answered anybody."""
    before = stage.serves()
    course = stage.bring("degraded", "degraded")
    assert course.phase == "Failed"
    assert course.reason.startswith("accuracy fails: ")
    assert set(course.failing.values()) == {"golden"}
    assert course.values("status", "canaryWeight") == [0]
    assert course.clips == 0
    assert stage.serves() == before


def test_a_slow_candidate_is_rolled_back(stage: Engine) -> None:
    """By its times under traffic, of which the golden set and copies of clips say nothing."""
    before = stage.serves()
    course = stage.bring("slow", "slow")
    assert course.phase == "Failed"
    assert re.match(r"p(50|95) fails: ", course.reason)
    assert course.failing.keys() <= {"p50", "p95"}
    assert stage.serves() == before


def test_a_crashing_candidate_is_rolled_back(stage: Engine) -> None:
    """By its restarts, at an interval at which its pods are up again: else Flagger asks nothing."""
    before = stage.serves()
    with judged.crashing(lambda: untried(stage), every_s=5, after_s=CRASH_S):
        course = stage.bring("crashing", "good")
    assert course.phase == "Failed"
    assert course.reason.startswith("restarts fails: ")
    assert course.failing.keys() == {"restarts"}
    assert stage.serves() == before


def test_a_good_candidate_is_promoted_once_enough_is_known(
    stage: Engine, pushed: dict[str, str]
) -> None:
    """While too few clips come it waits where it is; with more of them it gets all, losing none."""
    before = stage.serves()
    with stage.followed() as course:
        with stage.loaded("good, too little traffic", judged.TOO_LOW) as noted:
            stage.upgrade("good")
            kubectl.until(lambda: len(course.looks) >= LOOKS, "the judge has looked", 180)
            noted.update(course.row())
        assert course.phase == "Progressing"
        assert course.outcomes == {"inconclusive"}
        assert course.values("status", "canaryWeight") == [0]
        assert stage.serves() == before
        with stage.loaded("good") as noted:
            stage.wait(course)
            noted.update(course.row())
    assert course.phase == "Succeeded"
    assert course.failing == {}
    assert course.values("status", "canaryWeight")[:3] == [0, *WEIGHTS]
    assert stage.serves()["digest"] == pushed["good"]
    kubectl.until(lambda: not candidates(stage), "the candidate's pods are gone")
