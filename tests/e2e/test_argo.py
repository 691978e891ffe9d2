"""New versions under load, moved by Argo Rollouts as k8s/rollouts/argo has it, by the judge's word.

A candidate is an upgrade of the release. What the files say is changed in how long their steps
take, and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e import engines, judged, kubectl
from tests.e2e.cluster import RELEASE, Cluster
from tests.e2e.engines import Engine
from tests.e2e.judged import Staging
from tests.e2e.kubectl import Object
from tests.e2e.release import SERVERS, Install
from tests.support.layers import merged

SECTION = "Candidates, by Argo Rollouts"
KIND = "rollouts.argoproj.io"
NAMESPACE = "argo-rollouts"
INTERVAL = PAUSE = "10s"
WEIGHT = 16
"""The second experiment's."""
FEW = 2
"""Measurements that may be inconclusive where a pause is waited for."""

pytestmark = [pytest.mark.needs("argo-rollouts"), pytest.mark.needs("prometheus")]


@pytest.fixture(scope="module")
def analysis(cluster: Cluster) -> Object:
    """The AnalysisTemplate, at a pace for tests."""
    template = engines.placed("argo/analysis.yaml", cluster)
    [metric] = template["spec"]["metrics"]
    metric |= {"interval": INTERVAL, "initialDelay": INTERVAL}
    return template


@pytest.fixture(scope="module")
def installed(
    install: Install, cluster: Cluster, golden: str, analysis: Object
) -> Iterator[Object]:
    """Install stable, and hand it to Argo: the Rollout."""
    rollout = engines.placed("argo/rollout.yaml", cluster)
    for step in rollout["spec"]["strategy"]["canary"]["steps"]:
        if "pause" in step:
            step["pause"]["duration"] = PAUSE
    install(judged.values(golden), engines.values("argo", NAMESPACE))
    where = ("--namespace", cluster.namespace)

    def taken_over() -> bool:
        phase = kubectl.get(KIND, RELEASE, *where).get("status", {}).get("phase")
        deployment = kubectl.get("deployment", RELEASE, *where)
        pods = kubectl.items("pods", *where, "--selector", SERVERS)
        return (
            phase == "Healthy" and not deployment["spec"]["replicas"] and len(pods) == judged.PODS
        )

    try:
        kubectl.apply(analysis, rollout)
        kubectl.until(taken_over, "the pods are Argo's")
        yield rollout
    finally:
        kubectl.delete(KIND, RELEASE, *where, "--cascade=foreground")
        kubectl.delete("analysistemplates.argoproj.io", kubectl.name(analysis), *where)


@pytest.fixture
def stage(installed: Object, staging: Staging) -> Engine:
    """Have the release, the candidates and Argo ready."""
    assert installed
    return staging(
        Engine,
        kind=KIND,
        ends=frozenset({"Healthy", "Degraded"}),
        weight=WEIGHT,
    )


def experiments(stage: Engine) -> list[str]:
    """Phases of the newest candidate's experiments, in order."""
    rollout = kubectl.get(KIND, RELEASE, *stage.where)
    selector = f"rollouts-pod-template-hash={rollout['status']['currentPodHash']}"
    found = kubectl.items("experiments.argoproj.io", *stage.where, "--selector", selector)
    return [each["status"]["phase"] for each in sorted(found, key=kubectl.name)]


def abort(stage: Engine) -> None:
    """Do what `kubectl argo rollouts abort` does."""
    patch = json.dumps({"status": {"abort": True}})
    how = ("--subresource", "status", "--type", "merge", "--patch", patch)
    kubectl.kubectl("patch", KIND, RELEASE, *stage.where, *how)


def test_a_degraded_model_is_withdrawn(stage: Engine) -> None:
    """By the golden set, in the first experiment, before it has answered anybody."""
    before = stage.serves()
    course = stage.bring("degraded", "degraded")
    assert course.phase == "Degraded"
    assert course.reason.startswith("accuracy fails: ")
    assert set(course.failing.values()) == {"golden"}
    assert experiments(stage) == ["Failed"]
    assert course.clips == 0
    assert stage.serves() == before


def test_too_little_traffic_is_inconclusive(stage: Engine, analysis: Object) -> None:
    """It is measured again as often as it may be, and the Rollout then waits for a person."""
    before = stage.serves()
    [metric] = analysis["spec"]["metrics"]
    hasty = {"metrics": [metric | {"inconclusiveLimit": FEW}]}
    kubectl.apply(merged(analysis, {"spec": hasty}))
    try:
        with (
            stage.followed() as course,
            stage.loaded("good, too little traffic", judged.TOO_LOW) as noted,
        ):
            stage.upgrade("good")
            kubectl.until(lambda: course.phase == "Paused", "the Rollout is paused", 180)
            noted.update(course.row())
    finally:
        kubectl.apply(analysis)
        abort(stage)
    assert course.outcomes == {"inconclusive"}
    assert "Inconclusive" in experiments(stage)
    assert stage.serves() == before


def test_a_good_candidate_is_promoted(stage: Engine, pushed: dict[str, str]) -> None:
    """Through both experiments and half of the pods to all of them, without a clip lost."""
    course = stage.bring("good", "good")
    assert course.phase == "Healthy"
    assert course.failing == {}
    assert experiments(stage) == ["Successful", "Successful"]
    assert course.clips > 0
    assert stage.serves()["digest"] == pushed["good"]
