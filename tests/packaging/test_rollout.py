"""k8s/rollouts/helm/rollout.sh, with a helm and a kubectl that write down what they are told."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.support import chart_docs, fake_cluster
from tests.support.charts import rendered

SCRIPT = Path(__file__).parents[2] / "k8s/rollouts/helm/rollout.sh"
ROUTED: dict[str, Any] = {
    "replicaCount": 4,
    "image": {"tag": "1", "repository": "a"},
    "bundle": {"source": "registry", "digest": f"sha256:{'0' * 64}"},
    "settings": {"deadline_s": 20, "precision": "fp32"},
    "compare": {"enabled": True, "prometheus": {"url": "http://prometheus:9090"}},
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
    "networkPolicy": {"enabled": False},
}
ROUTED["bundle"]["registry"] = {"reference": "oci://a.example/m:1", "credentialsSecret": "s"}
CANDIDATE: dict[str, Any] = {
    "canary": {
        "image": {"tag": "2"},
        "bundle": {"registry": {"reference": "oci://a.example/m:2"}},
        "settings": {"precision": "int8"},
        "forceTrack": {"enabled": True},
    }
}
PROMOTED: dict[str, Any] = {
    "image": {"tag": "2", "digest": "", "repository": "a"},
    "bundle": {
        "source": "registry",
        "digest": "",
        "registry": {"reference": "oci://a.example/m:2", "credentialsSecret": "s"},
    },
    "settings": {"deadline_s": 20, "precision": "int8"},
}
FAILED, INCONCLUSIVE, OTHER, USAGE = 1, 2, 3, 64
READY, CRASHED, WAITING, EVICTED, GOING = (
    ("Running", True),
    ("Running", False),
    ("Pending", False),
    ("Failed", False),
    ("Going", False),
)
"""Pods, as a look finds them."""

AT_ONCE = {"ROUTE_DRAIN_S": "0", "RECOVER_TIMEOUT_S": "0", "PENDING_TIMEOUT_S": "0"}
"""What is waited for is so when it is first looked at, or never."""

pytestmark = pytest.mark.needs_jq


@dataclass(frozen=True)
class Said:
    """What a run ended with."""

    code: int
    out: str
    state: dict[str, Any]

    @property
    def upgrades(self) -> list[dict[str, Any]]:
        """What helm was told to change, in order."""
        return [entry for entry in self.state["log"] if "judged" in entry]

    @property
    def judged(self) -> list[int]:
        """Weights that were judged, in order."""
        return [entry["weight"] for entry in self.upgrades if entry["judged"]]


class Cluster:
    """A release, and the script beside it."""

    def __init__(self, folder: Path, **state: object) -> None:
        """Make both."""
        self._folder = folder
        self._variables = fake_cluster.install(
            folder, {"defaults": chart_docs.defaults(), "given": ROUTED, **state}
        )
        candidate = folder / "candidate.yaml"
        candidate.write_text(json.dumps(CANDIDATE), encoding="utf-8")
        self.candidate = ("--", "--values", str(candidate))

    @property
    def state(self) -> dict[str, Any]:
        """What there is."""
        file = self._folder / "state.json"
        read: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return read

    def change(self, **state: object) -> None:
        """Change what there is."""
        (self._folder / "state.json").write_text(json.dumps(self.state | state), encoding="utf-8")

    def rollout(self, *arguments: str, **variables: str) -> Said:
        """Run the script to its end; its log begins anew."""
        self.change(log=[])
        done = subprocess.run(
            [SCRIPT, *arguments],
            env=os.environ | self._variables | AT_ONCE | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        return Said(done.returncode, done.stdout + done.stderr, self.state)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    """A release of four pods with a route and a comparison."""
    return Cluster(tmp_path)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Said:
    """A walk in which every comparison passes."""
    cluster = Cluster(tmp_path_factory.mktemp("walk"))
    return cluster.rollout("walk", *cluster.candidate)


def canary(state: dict[str, Any]) -> dict[str, Any]:
    """Give the values of the canary that somebody gave."""
    found: dict[str, Any] = state["given"].get("canary", {})
    return found


def test_a_walk_ends_with_stable_as_the_candidate_was(walked: Said) -> None:
    """Every weight is judged, in order; what is left of the canary is how it is routed."""
    assert walked.code == 0, walked.out
    assert walked.judged == [0, 1, 10, 50, 100]
    given = walked.state["given"]
    assert {key: given[key] for key in PROMOTED} == PROMOTED
    assert canary(walked.state) == {
        "enabled": False,
        "weight": 0,
        "forceTrack": {"enabled": True},
        "baseline": {"enabled": True},
    }
    untouched = {key: given[key] for key in ROUTED if key not in PROMOTED}
    assert untouched == {key: ROUTED[key] for key in untouched}


def test_pods_come_before_clips(walked: Said) -> None:
    """A weight never rises in the upgrade that adds pods, nor before there are enough."""
    upgrades = walked.upgrades
    for before, after in pairwise(upgrades):
        if after["weight"] > before["weight"]:
            assert after["replicas"] == before["replicas"]
            assert after["replicas"] >= 4 * after["weight"] / 100
    sizes = {entry["weight"]: entry["replicas"] for entry in upgrades if entry["judged"]}
    assert sizes == {0: 1, 1: 1, 10: 1, 50: 2, 100: 4}


def test_the_baseline_does_not_grow_for_clips_that_it_will_not_get(walked: Said) -> None:
    """It keeps the pods that it has at 50% when the canary gets those for all."""
    upgrades = walked.upgrades
    [last] = [entry for entry in upgrades if entry["judged"] and entry["weight"] == 100]
    assert last["values"]["canary"]["baseline"] == {"replicas": 2}


def test_stable_is_made_anew_while_it_gets_no_clips(walked: Said) -> None:
    """And gets them back before the canary's pods go, in an upgrade between."""
    upgrades = walked.upgrades
    states = [
        (entry["values"]["image"]["tag"], entry["weight"], entry["enabled"]) for entry in upgrades
    ]
    assert states[-4:] == [
        ("1", 100, True),
        ("2", 100, True),
        ("2", 0, True),
        ("2", 0, False),
    ]


def test_stable_is_replaced_while_the_canary_has_every_clip(cluster: Cluster) -> None:
    """A promotion from half of the clips changes nothing else of what led up to it."""
    cluster.rollout("step", "50", *cluster.candidate)
    said = cluster.rollout("promote")
    assert said.code == 0, said.out
    replaced = next(each for each in said.upgrades if each["values"]["image"] == PROMOTED["image"])
    assert (replaced["enabled"], replaced["weight"]) == (True, 100)
    assert replaced["values"]["canary"]["baseline"]["enabled"] is False


def test_the_promoted_stable_has_the_canary_s_pods(cluster: Cluster) -> None:
    """Image, variables and init containers are what the chart made of the canary's values."""
    cluster.rollout("step", "100", *cluster.candidate)
    before = rendered(cluster.state["given"], release="timbre")
    said = cluster.rollout("promote")
    after = rendered(said.state["given"], release="timbre")

    def shape(manifests: tuple[Any, ...], name: str) -> tuple[Any, ...]:
        [config] = [
            each["data"]
            for each in manifests
            if each["kind"] == "ConfigMap" and each["metadata"]["name"] == name
        ]
        [pod] = [
            each["spec"]["template"]["spec"]
            for each in manifests
            if each["kind"] == "Deployment" and each["metadata"]["name"] == name
        ]
        return config, pod["containers"][0]["image"], pod["initContainers"]

    assert shape(after, "timbre") == shape(before, "timbre-canary")


def test_pods_are_waited_for_and_can_be_taken_back(walked: Said) -> None:
    """Steps keep what was given and take the chart's new defaults for the rest."""
    for before, entry in pairwise(walked.upgrades):
        flags = set(entry["flags"])
        moves = before["weight"] == 100 and (entry["weight"], entry["enabled"]) == (0, True)
        if not entry["judged"] and not moves:
            assert {"--wait", "--rollback-on-failure"} <= flags
        if entry["judged"]:
            assert "--reset-then-reuse-values" in flags


def test_helm_3_is_told_in_its_own_words(tmp_path: Path) -> None:
    """Its name for it is --atomic."""
    said = Cluster(tmp_path, version="v3.18.0").rollout("step", "0")
    [pods, judged] = said.upgrades
    assert "--atomic" in pods["flags"]
    assert not {"--atomic", "--rollback-on-failure"} & set(judged["flags"])


def test_clips_leave_a_canary_that_is_not_waited_for(tmp_path: Path) -> None:
    """It may crash: Helm's own rollback would wait for it until its timeout."""
    cluster = Cluster(tmp_path, fails={"10": FAILED})
    said = cluster.rollout("walk", *cluster.candidate)
    waiting = {"--wait", "--rollback-on-failure"}
    [judged] = [each for each in said.upgrades if each["judged"] and each["weight"] == 10]
    moved = said.upgrades[-2]
    assert (moved["weight"], moved["enabled"]) == (0, True)
    assert not waiting & {*judged["flags"], *moved["flags"]}
    [back] = [entry["back"] for entry in said.state["log"] if "back" in entry]
    assert "--no-hooks" in back
    assert "--wait" not in back


@pytest.mark.parametrize("again", [True, False])
def test_a_canary_that_got_no_clips_yet_is_judged_anew(tmp_path: Path, *, again: bool) -> None:
    """It is at 0% whether or not it passed there; the command may say again what it is."""
    cluster = Cluster(tmp_path, fails={"0": INCONCLUSIVE})
    assert cluster.rollout("walk", *cluster.candidate).code == INCONCLUSIVE
    said = cluster.rollout("walk", *(cluster.candidate if again else ()))
    assert said.code == INCONCLUSIVE
    assert said.judged == [0]


def test_the_command_that_began_goes_on(tmp_path: Path) -> None:
    """What the canary already is may be said again; another candidate has to wait."""
    cluster = Cluster(tmp_path, fails={"10": INCONCLUSIVE})
    cluster.rollout("walk", *cluster.candidate)
    other = cluster.rollout("walk", "--", "--set", "canary.image.tag=3")
    assert (other.code, other.upgrades) == (OTHER, [])
    cluster.change(fails={})
    said = cluster.rollout("walk", *cluster.candidate)
    assert said.code == 0, said.out
    assert said.judged == [10, 50, 100]


def test_a_candidate_has_nothing_of_the_one_before(tmp_path: Path) -> None:
    """What is promoted was named by the command that brought it."""
    cluster = Cluster(tmp_path, fails={"0": INCONCLUSIVE})
    cluster.rollout("walk", *cluster.candidate)
    cluster.change(fails={})
    said = cluster.rollout("walk", "--", "--set", "canary.image.tag=3", STEPS="0")
    assert said.code == 0, said.out
    given = said.state["given"]
    assert given["image"] == ROUTED["image"] | {"tag": 3, "digest": ""}
    assert {key: given[key] for key in ("bundle", "settings")} == {
        key: ROUTED[key] for key in ("bundle", "settings")
    }
    assert canary(said.state)["forceTrack"] == {"enabled": True}


def test_a_part_of_a_candidate_is_another(tmp_path: Path) -> None:
    """It waits for the one that has clips, whose other parts nobody named this time."""
    cluster = Cluster(tmp_path)
    cluster.rollout("step", "10", *cluster.candidate)
    said = cluster.rollout("walk", "--", "--set", 'canary.image.tag="2"')
    assert (said.code, said.upgrades) == (OTHER, [])
    assert "before another candidate is tried" in said.out


def test_what_names_no_candidate_changes_none(tmp_path: Path) -> None:
    """As a longer wait for the one that is there."""
    cluster = Cluster(tmp_path, fails={"0": INCONCLUSIVE})
    cluster.rollout("walk", *cluster.candidate)
    before = canary(cluster.state)
    said = cluster.rollout("walk", "--", "--set", "compare.waitSeconds=3600")
    assert said.code == INCONCLUSIVE, said.out
    assert canary(said.state) == before
    assert said.state["given"]["compare"]["waitSeconds"] == 3600


def test_a_comparison_that_fails_ends_the_canary(tmp_path: Path) -> None:
    """Every clip is back at stable first; stable is as it was."""
    cluster = Cluster(tmp_path, fails={"10": FAILED})
    said = cluster.rollout("walk", *cluster.candidate)
    assert said.code == FAILED
    assert said.judged == [0, 1, 10]
    assert [(each["weight"], each["enabled"]) for each in said.upgrades][-2:] == [
        (0, True),
        (0, False),
    ]
    assert {key: said.state["given"][key] for key in ROUTED} == ROUTED
    assert "The comparison failed: kubectl --namespace timbre logs job/timbre-compare" in said.out


def test_the_last_step_is_one_of_the_walk(tmp_path: Path) -> None:
    """Whatever STEPS says: a candidate that fails with all clips is gone like any other."""
    cluster = Cluster(tmp_path, fails={"100": FAILED})
    said = cluster.rollout("walk", *cluster.candidate, STEPS="0 50")
    assert said.code == FAILED
    assert said.judged == [0, 50, 100]
    assert "canary" not in said.state["given"] or not canary(said.state)["enabled"]
    assert {key: said.state["given"][key] for key in ROUTED} == ROUTED


def test_a_comparison_that_cannot_tell_leaves_the_canary_where_it_was(tmp_path: Path) -> None:
    """And the same command tries again, with the step that was taken back."""
    cluster = Cluster(tmp_path, fails={"10": INCONCLUSIVE})
    said = cluster.rollout("walk", *cluster.candidate)
    assert said.code == INCONCLUSIVE
    assert canary(said.state)["weight"] == 1
    assert "inconclusive" in said.out
    cluster.change(fails={})
    again = cluster.rollout("walk")
    assert again.code == 0, again.out
    assert again.judged == [10, 50, 100]
    assert again.state["given"]["image"]["tag"] == "2"


def test_a_candidate_that_does_not_start_is_gone(tmp_path: Path) -> None:
    """Nothing was judged."""
    cluster = Cluster(tmp_path, fails={"ready": 1})
    said = cluster.rollout("walk", *cluster.candidate)
    assert said.code == OTHER
    assert said.judged == []
    assert said.state["given"] == ROUTED
    assert "not ready in 10m" in said.out


@pytest.fixture
def growing(cluster: Cluster) -> Cluster:
    """A canary with a tenth of the clips, for which more pods will not be ready."""
    assert cluster.rollout("step", "10", *cluster.candidate).code == 0
    cluster.change(fails={"ready": 1})
    return cluster


def test_a_canary_that_crashed_between_steps_is_gone(growing: Cluster) -> None:
    """Clips would go on to it: they are back at stable, which is as it was."""
    growing.change(looks=[[CRASHED]])
    said = growing.rollout("walk")
    assert said.code == FAILED
    assert said.judged == []
    assert [(each["weight"], each["enabled"]) for each in said.upgrades] == [
        (10, True),
        (0, True),
        (0, False),
    ]
    assert {key: said.state["given"][key] for key in ROUTED} == ROUTED
    assert "are not ready either, so it has failed; it still has 10%: kubectl" in said.out


def test_a_canary_that_there_is_no_room_for_keeps_what_it_has(growing: Cluster) -> None:
    """Its own pods are ready, so nothing is said of it; the same command tries again."""
    growing.change(looks=[[READY]])
    said = growing.rollout("walk")
    assert said.code == OTHER
    assert (canary(said.state)["weight"], canary(said.state)["replicas"]) == (10, 1)
    assert "Those that the canary had are ready, and it still has 10%." in said.out
    growing.change(fails={})
    assert growing.rollout("walk").code == 0


@pytest.mark.parametrize(
    ("looks", "code"),
    [
        ([[READY, READY]], OTHER),
        ([[READY, CRASHED]], FAILED),
        ([[READY, WAITING]], OTHER),
        ([[WAITING]], FAILED),
        ([[READY, EVICTED, GOING]], OTHER),
        ([[]], FAILED),
        ([[CRASHED], [READY]], OTHER),
        ([[CRASHED], [CRASHED], [READY]], FAILED),
    ],
)
def test_a_step_says_whether_the_canary_has_crashed(
    growing: Cluster, looks: list[list[tuple[str, bool]]], code: int
) -> None:
    """If none of its pods is ready in time, or one that runs isn't; it takes none away.

    One that waits for a node has not crashed, nor has one that was told to end.
    """
    growing.change(looks=looks)
    said = growing.rollout("step", "50", RECOVER_TIMEOUT_S="1")
    assert said.code == code
    assert len(said.upgrades) == 1
    assert canary(said.state)["weight"] == 10


def test_a_candidate_that_does_not_start_is_not_the_one_before(cluster: Cluster) -> None:
    """Of which nothing is said when this one, which has no clips yet, isn't ready."""
    cluster.rollout("step", "0", *cluster.candidate)
    before = cluster.state["given"]
    cluster.change(fails={"ready": 1}, looks=[[CRASHED]])
    said = cluster.rollout("walk", "--", "--set", "canary.image.tag=3")
    assert (said.code, said.state["given"]) == (OTHER, before)
    assert "the canary had" not in said.out


def test_a_promotion_in_which_pods_are_not_ready_is_no_verdict(cluster: Cluster) -> None:
    """The canary keeps every clip."""
    cluster.rollout("step", "100", *cluster.candidate)
    cluster.change(fails={"ready": 1})
    said = cluster.rollout("promote")
    assert said.code == OTHER
    assert canary(said.state)["weight"] == 100
    assert "The baseline is still there" in said.out


def test_an_old_verdict_is_not_taken_for_a_new_one(tmp_path: Path) -> None:
    """A step that fails before it is judged has none, whatever the Job before it said."""
    cluster = Cluster(tmp_path, job=7, code=FAILED, fails={"0": 1})
    cluster.change(given=ROUTED | {"compare": {"enabled": False}})
    said = cluster.rollout("step", "0")
    assert said.code == OTHER
    assert "There was no verdict" in said.out


def test_a_promotion_that_was_cut_off_goes_on(cluster: Cluster) -> None:
    """Where stable is the candidate already and has the clips, only the canary is left to go."""
    cluster.rollout("step", "100", *cluster.candidate)
    given = cluster.state["given"] | PROMOTED
    given["canary"] = given["canary"] | {"weight": 0}
    cluster.change(given=given)
    said = cluster.rollout("promote")
    assert said.code == 0, said.out
    assert said.judged == []
    assert canary(said.state)["enabled"] is False


@pytest.mark.parametrize("status", ["pending-upgrade", "failed"])
@pytest.mark.parametrize("weight", [0, 10, 100])
def test_a_step_that_was_cut_off_is_judged_anew(tmp_path: Path, weight: int, status: str) -> None:
    """Killed while it was compared, whether Helm was killed too or said later that it failed."""
    cluster = Cluster(tmp_path, cuts=[str(weight)])
    cut = cluster.rollout("walk", *cluster.candidate, STEPS="0 10")
    assert cut.code < 0
    assert (canary(cut.state)["weight"], cut.judged[-1]) == (weight, weight)
    cluster.change(status=status, fails={str(weight): FAILED})
    said = cluster.rollout("walk", *cluster.candidate, STEPS="0 10")
    assert said.code == FAILED, said.out
    assert said.judged[-1] == weight
    assert "back" in said.state["log"][0]
    assert {key: said.state["given"][key] for key in ROUTED} == ROUTED


def test_a_promotion_needs_a_verdict_that_was_cut_off(tmp_path: Path) -> None:
    """With all clips at the canary, which nobody has judged with them."""
    cluster = Cluster(tmp_path, cuts=["100"])
    cluster.rollout("step", "100", *cluster.candidate)
    cluster.change(fails={"100": INCONCLUSIVE})
    said = cluster.rollout("promote")
    assert (said.code, said.judged) == (INCONCLUSIVE, [100])
    assert canary(said.state)["weight"] == 0
    assert said.state["given"]["image"] == ROUTED["image"]


@pytest.mark.parametrize(
    ("becomes", "judged"), [("deployed", [50, 100]), ("failed", [10, 50, 100])]
)
def test_helm_that_lost_its_script_is_waited_for(
    tmp_path: Path, becomes: str, judged: list[int]
) -> None:
    """As long as it compares, and a while after: what it says in the end holds."""
    cluster = Cluster(tmp_path, cuts=["10"])
    cluster.rollout("walk", *cluster.candidate)
    cluster.change(comparing=3, lasting=2, becomes=becomes)
    said = cluster.rollout("walk", *cluster.candidate, PENDING_TIMEOUT_S="2")
    assert said.code == 0, said.out
    assert said.judged == judged


def test_an_abort_waits_for_no_comparison(tmp_path: Path) -> None:
    """The clips of a step that was cut off are back at stable at once."""
    cluster = Cluster(tmp_path, cuts=["10"])
    cluster.rollout("walk", *cluster.candidate)
    cluster.change(comparing=1000)
    said = cluster.rollout("abort", PENDING_TIMEOUT_S="1000")
    assert said.code == 0, said.out
    assert canary(said.state)["enabled"] is False


@pytest.mark.parametrize("when", ["at once", "later"])
def test_what_cannot_be_taken_back_is_said(tmp_path: Path, when: str) -> None:
    """By the step whose comparison failed, and by the next command: neither goes on."""
    cluster = Cluster(tmp_path, fails={"10": FAILED, "rollback": 1})
    said = cluster.rollout("walk", *cluster.candidate)
    if when == "later":
        said = cluster.rollout("promote")
    assert said.code == OTHER
    assert "It could not be taken back" in said.out
    assert "That was taken back" not in said.out
    cluster.change(fails={})
    assert cluster.rollout("walk", *cluster.candidate).judged == [10, 50, 100]


def test_a_release_without_a_way_back_is_left_alone(tmp_path: Path) -> None:
    """Its first revision was never deployed."""
    said = Cluster(tmp_path, status="failed").rollout("walk")
    assert (said.code, said.upgrades) == (OTHER, [])
    assert "Helm has deployed no revision" in said.out


BROKEN = "That is an error of helm, kubectl or jq"


def test_what_could_not_be_read_is_not_a_promotion(cluster: Cluster) -> None:
    """Nor is it the candidate's end: the same command goes on."""
    cluster.change(blips={"100": "helm get values"})
    said = cluster.rollout("walk", *cluster.candidate, STEPS="0")
    assert (said.code, said.judged) == (OTHER, [0, 100])
    assert BROKEN in said.out
    assert said.state["given"]["image"] == ROUTED["image"]
    again = cluster.rollout("walk", *cluster.candidate, STEPS="0")
    assert (again.code, again.judged) == (0, []), again.out
    assert {key: again.state["given"][key] for key in PROMOTED} == PROMOTED


def test_what_could_not_be_read_sets_nothing_back(cluster: Cluster) -> None:
    """A promotion that lacks the release's values gives it no others."""
    cluster.rollout("step", "100", *cluster.candidate)
    cluster.change(blips={"ready": "helm get values"})
    said = cluster.rollout("promote")
    assert said.code == OTHER
    assert {key: said.state["given"][key] for key in ROUTED} == ROUTED
    assert cluster.rollout("promote").code == 0
    assert {key: cluster.state["given"][key] for key in PROMOTED} == PROMOTED


@pytest.mark.parametrize("command", ["helm get values", "helm history timbre", "helm version"])
@pytest.mark.parametrize("action", ["walk", "abort"])
def test_a_release_that_could_not_be_read_is_left_alone(
    cluster: Cluster, command: str, action: str
) -> None:
    """Before anything is begun."""
    cluster.rollout("step", "10", *cluster.candidate)
    before = cluster.state["given"]
    if command == "helm version":
        command += " --template"
    cluster.change(blips={"now": command})
    said = cluster.rollout(action)
    assert (said.code, said.state["log"]) == (OTHER, [])
    assert BROKEN in said.out
    assert said.state["given"] == before


@pytest.mark.parametrize("action", [("step", "50"), ("abort",)])
def test_pods_that_could_not_be_counted_are_not_none(
    tmp_path: Path, action: tuple[str, ...]
) -> None:
    """No clip goes where there are too few."""
    cluster = Cluster(tmp_path, given=ROUTED | {"autoscaling": {"enabled": True}}, stable=4)
    cluster.rollout("step", "10", *cluster.candidate)
    cluster.change(blips={"now": "kubectl get deployment"})
    said = cluster.rollout(*action)
    assert (said.code, said.state["log"]) == (OTHER, [])
    assert BROKEN in said.out


@pytest.mark.parametrize("command", ["kubectl get job", "kubectl get pods"])
def test_a_verdict_that_could_not_be_read_is_none(cluster: Cluster, command: str) -> None:
    """The step is taken back, and the canary keeps what it had."""
    cluster.change(fails={"10": FAILED}, blips={"10": command})
    said = cluster.rollout("walk", *cluster.candidate)
    assert said.code == OTHER
    assert canary(said.state)["weight"] == 1


def test_pods_that_could_not_be_looked_at_have_not_crashed(growing: Cluster) -> None:
    """The canary keeps what it has."""
    growing.change(blips={"now": "kubectl get pods"}, looks=[[CRASHED]])
    said = growing.rollout("walk")
    assert said.code == OTHER
    assert canary(said.state)["weight"] == 10


def test_arguments_that_could_not_be_laid_over_change_nothing(cluster: Cluster) -> None:
    """What they would make of the release isn't known."""
    cluster.change(blips={"now": "helm upgrade timbre"})
    said = cluster.rollout("walk", *cluster.candidate)
    assert (said.code, said.upgrades) == (OTHER, [])


@pytest.mark.parametrize("action", ["abort", "walk"])
def test_an_error_of_helm_is_not_the_candidate_s(tmp_path: Path, action: str) -> None:
    """Also where the canary was to go because it had failed: it is still there."""
    cluster = Cluster(tmp_path)
    cluster.rollout("step", "10", *cluster.candidate)
    cluster.change(fails={"": 1, "50": FAILED})
    said = cluster.rollout(action)
    assert said.code == OTHER
    assert BROKEN in said.out
    assert canary(said.state)["enabled"] is True


def test_pods_go_when_the_gateway_has_the_route(tmp_path: Path) -> None:
    """Each change of the route is seen before what it took away is removed."""
    cluster = Cluster(tmp_path, lag=2)
    said = cluster.rollout("walk", *cluster.candidate)
    assert said.code == 0, said.out
    log = said.state["log"]
    back = next(
        n
        for n, e in enumerate(log)
        if n and e.get("weight") == 0 and log[n - 1].get("weight") == 100
    )
    assert "seen" in log[back + 1]
    assert log[back + 2]["enabled"] is False


def test_a_gateway_that_never_has_the_route_stops_it(tmp_path: Path) -> None:
    """With the canary's pods still there."""
    cluster = Cluster(tmp_path)
    cluster.rollout("step", "10", *cluster.candidate)
    cluster.change(lag=-1)
    said = cluster.rollout("abort", ROUTE_TIMEOUT_S="1")
    assert said.code == OTHER
    assert "No gateway has taken the route in 1 s" in said.out
    assert canary(said.state)["enabled"] is True


def test_stable_has_pods_before_it_has_clips(tmp_path: Path) -> None:
    """An autoscaler has taken its pods away while it had nothing to do."""
    cluster = Cluster(tmp_path, given=ROUTED | {"autoscaling": {"enabled": True}}, stable=4)
    cluster.rollout("step", "100", *cluster.candidate)
    cluster.change(stable=1)
    said = cluster.rollout("abort")
    assert said.code == 0, said.out
    assert said.state["log"][0] == {"scaled": 4, "name": "timbre"}


SCALED: dict[str, Any] = ROUTED | {
    "autoscaling": {"enabled": True, "minReplicas": 4, "maxReplicas": 6}
}


def test_an_autoscaler_is_not_waited_for_with_clips(tmp_path: Path) -> None:
    """Deployments that it will scale have their pods before, and never more than it may give."""
    cluster = Cluster(tmp_path, given=SCALED, stable=4)
    said = cluster.rollout("walk", *cluster.candidate, STEPS="10 50")
    assert said.code == 0, said.out
    pods = {"timbre": 4, "timbre-canary": 1, "timbre-baseline": 1}
    for entry in said.state["log"]:
        if "scaled" in entry:
            pods[entry["name"]] = entry["scaled"]
        elif entry.get("judged"):
            needed = 4 * entry["weight"] / 100
            assert pods["timbre-canary"] >= needed
            assert entry["weight"] > 50 or pods["timbre-baseline"] >= needed
        assert max(pods.values()) <= 6
    assert [each["weight"] for each in said.upgrades if each["judged"]] == [10, 50, 100]
    assert all(each["replicas"] <= 6 for each in said.upgrades)


def test_pods_that_an_autoscaled_canary_lacks_hold_its_clips_back(tmp_path: Path) -> None:
    """The same command looks at them again, and says nothing of the candidate."""
    cluster = Cluster(tmp_path, given=SCALED, stable=4, looks=[[READY]])
    cluster.rollout("step", "10", *cluster.candidate)
    cluster.change(fails={"status": 1})
    for _ in range(2):
        said = cluster.rollout("step", "50")
        assert (said.code, said.judged) == (OTHER, [])
        assert canary(said.state)["weight"] == 10
    cluster.change(fails={})
    assert cluster.rollout("step", "50").judged == [50]


def test_an_abort_without_a_canary_does_nothing(cluster: Cluster) -> None:
    """And is no mistake."""
    said = cluster.rollout("abort")
    assert (said.code, said.upgrades) == (0, [])


def test_another_candidate_waits_for_the_one_that_has_clips(cluster: Cluster) -> None:
    """It would get them unjudged."""
    cluster.rollout("step", "10", *cluster.candidate)
    said = cluster.rollout("step", "10", *cluster.candidate)
    assert said.code == OTHER
    assert "promote or abort it before another candidate" in said.out
    assert said.upgrades == []


def test_without_a_route_shadows_and_golden_set_judge(tmp_path: Path) -> None:
    """Then stable becomes the candidate by a rolling update."""
    cluster = Cluster(tmp_path, given=ROUTED | {"httpRoute": {"enabled": False}})
    assert "nothing can be split" in cluster.rollout("step", "1").out
    said = cluster.rollout("walk", *cluster.candidate)
    assert said.code == 0, said.out
    assert said.judged == [0]
    assert said.state["given"]["image"]["tag"] == "2"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        ((), USAGE, "rollout.sh step WEIGHT | walk | promote | abort"),
        (("jump",), USAGE, "rollout.sh step WEIGHT"),
        (("step",), USAGE, "rollout.sh step WEIGHT"),
        (("step", "101"), USAGE, "0 to 100, and not 101"),
        (("step", "half"), USAGE, "0 to 100, and not half"),
        (("promote", "--", "--set", "a=b"), USAGE, "no arguments for helm"),
        (("promote",), OTHER, "There is no canary to promote"),
    ],
)
def test_what_it_cannot_do_it_says(
    cluster: Cluster, arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    """In a sentence, and changes nothing."""
    said = cluster.rollout(*arguments)
    assert said.code == code
    assert sentence in said.out
    assert said.upgrades == []


@pytest.mark.parametrize(
    ("given", "variables", "sentence"),
    [
        ({"rollout": {"engine": "argo"}}, {}, "argo moves this release's clips"),
        ({}, {"RELEASE": "other", "NAMESPACE": "audio"}, "There is no release other in audio"),
    ],
)
def test_it_leaves_other_releases_alone(
    tmp_path: Path, given: dict[str, Any], variables: dict[str, str], sentence: str
) -> None:
    """Those that aren't there, and those that something else moves."""
    said = Cluster(tmp_path, given=ROUTED | given).rollout("step", "0", **variables)
    assert said.code == OTHER
    assert sentence in said.out
    assert said.upgrades == []
