"""New versions under load, brought by rollout.sh: a good one stays, bad ones go by themselves.

Every candidate is stable's own bundle, changed in a pod beside the release and served from a
registry there; what is wrong with one is what its name says.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.e2e import candidates, helm, judged, kubectl
from tests.e2e.cluster import RELEASE
from tests.e2e.judged import Staging
from tests.e2e.kubectl import Object
from tests.e2e.release import Install, served

SECTION = "Candidates"
ROLLOUT = judged.ROLLOUTS / "helm/rollout.sh"
BUSY = 10.0
"""Clips a second, of which a tenth is enough in a minute and a half."""
WAIT_S, SHORTLY_S = 120, 20
FAILED, INCONCLUSIVE, OTHER = 1, 2, 3

pytestmark = pytest.mark.needs("prometheus")


@pytest.fixture(scope="module")
def installed(install: Install, golden: str) -> Object:
    """Install stable, and tell it how to compare."""
    return install(
        judged.values(golden),
        {"replicaCount": judged.PODS, "compare": {"enabled": True, "waitSeconds": WAIT_S}},
    )


@dataclass(frozen=True, slots=True)
class Walked:
    """What came of rollout.sh."""

    code: int
    said: str
    """By it and, after an empty line, by the last comparison."""
    verdict: str
    """The comparison's first sentences, as one line."""


@dataclass(frozen=True, slots=True)
class Stage(judged.Stage):
    """Where candidates walk."""

    version: str
    """That stable serves before."""

    def rollout(self, action: str, *arguments: str, **variables: str) -> Walked:
        """Run rollout.sh to its end."""
        command = [str(ROLLOUT), action, *(["--", *arguments] if arguments else [])]
        environment = os.environ | {"RELEASE": RELEASE, "NAMESPACE": self.cluster.namespace}
        environment |= {"READY_TIMEOUT": "2m", **variables}
        # What the last one said is nothing of this one, which may have none.
        kubectl.delete("job", f"{RELEASE}-compare", *self.where)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        log = kubectl.run("kubectl", "logs", f"job/{RELEASE}-compare", *self.where).stdout
        said = f"{done.stdout}{done.stderr}\n{log}"
        print(said)  # noqa: T201 - pytest shows it of a test that fails
        return Walked(done.returncode, said, " ".join(log.partition("\nstable:")[0].split()))

    def walk(
        self,
        what: str,
        *arguments: str,
        rate: float = judged.RATE,
        wait_s: int = WAIT_S,
        **variables: str,
    ) -> Walked:
        """Bring a candidate while clips arrive."""
        waits = ("--set", f"compare.waitSeconds={wait_s}")
        with self.loaded(what, rate) as noted:
            walked = self.rollout("walk", *arguments, *waits, **variables)
            noted["verdict"] = walked.verdict
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
        assert self.serves()["version"] == self.version


@pytest.fixture
def stage(installed: Object, staging: Staging, http: httpx.Client) -> Iterator[Stage]:
    """Have the release and the candidates ready; no test leaves the next one a canary."""
    assert installed
    served(http)
    stage = staging(Stage, version=str(http.get("/v1/model").json()["version"]))
    yield stage
    stage.rollout("abort")


def test_too_little_traffic_is_inconclusive(stage: Stage) -> None:
    """The candidate stays where it was, and nothing is promoted."""
    good = candidates.values("good")
    walked = stage.walk("good, too little traffic", *good, rate=judged.TOO_LOW, wait_s=SHORTLY_S)
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
    with judged.crashing(stage.canaries):
        walked = stage.walk("crashing", *candidates.values("good"))
    assert walked.code == FAILED, walked.said
    assert walked.verdict.startswith("FAIL at 0%: restarts fails")
    # Helm would have waited for it to be ready until its timeout, of five minutes and a half.
    assert time.monotonic() - began < 2 * WAIT_S
    stage.withdrawn()


def test_a_good_candidate_is_promoted(stage: Stage, pushed: dict[str, str]) -> None:
    """Through a share of the clips to all of them, without a clip lost."""
    walked = stage.walk("good", *candidates.values("good"), STEPS="0 50")
    assert walked.code == 0, walked.said
    about = stage.serves()
    assert about["digest"] == pushed["good"]
    assert about["version"] != stage.version
    kubectl.until(lambda: not stage.canaries(), "the canary's pods are gone")


def test_settings_are_promoted_by_small_shares(stage: Stage) -> None:
    """A tenth of the clips is judged like a half, where there are as many of them."""
    other = ("--set", "canary.settings.log_level=warning")
    walked = stage.walk("other settings", *other, rate=BUSY, wait_s=2 * WAIT_S, STEPS="0 10")
    assert walked.code == 0, walked.said
    given = helm.given(RELEASE, stage.cluster.namespace)
    assert given["settings"]["log_level"] == "warning"
    assert not given["canary"]["enabled"]
