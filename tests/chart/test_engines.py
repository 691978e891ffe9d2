"""What the chart leaves to Flagger and to Argo Rollouts, and what it makes for them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support import charts
from tests.support.charts import RELEASE, Manifest, Values, deployment, one, rendered
from tests.support.flows import selects
from tests.support.layers import merged

ENGINES = ("flagger", "argo")
PRIMARY = f"{RELEASE}-primary"
COPIED = "app"
"""The label that Flagger selects by, the first that it looks for; its copy's pods have another."""


def names(feature: str, kind: str) -> list[str]:
    """Name all objects of a kind."""
    return sorted(
        each["metadata"]["name"]
        for each in rendered(charts.feature(feature))
        if each["kind"] == kind
    )


def labels(feature: str) -> dict[str, str]:
    """Give the labels of the server's pods."""
    template = deployment(rendered(charts.feature(feature)))["spec"]["template"]
    return dict(template["metadata"]["labels"])


def options(values: Values) -> dict[str, str]:
    """Give what the judge is told."""
    judge = one(rendered(values), "Deployment", f"{RELEASE}-judge")
    [container] = judge["spec"]["template"]["spec"]["containers"]
    pairs = [each.removeprefix("--").partition("=") for each in container["args"]]
    return {name: value for name, _, value in pairs}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_s_number_of_pods_is_its_own(engine: str) -> None:
    """An upgrade would undo it."""
    values = {"rollout": {"engine": engine}}
    assert "replicas" not in deployment(rendered(values))["spec"]


def test_flagger_makes_services_and_route_itself() -> None:
    """Of NAME, NAME-primary and NAME-canary there are none."""
    assert names("flagger", "Service") == [f"{RELEASE}-judge", f"{RELEASE}-primary-shadow"]
    assert names("flagger", "HTTPRoute") == []
    assert names("flagger", "HorizontalPodAutoscaler") == [RELEASE]


def test_flagger_selects_servers_by_one_label() -> None:
    """Which no other pod of the release has, whatever else they have in common."""
    manifests = rendered(charts.feature("flagger"), release="timbre")
    selector = deployment(manifests)["spec"]["selector"]["matchLabels"]
    assert selector[COPIED] == "timbre"
    alone = {"matchLabels": {COPIED: "timbre"}}
    pods = charts.pods(manifests)
    chosen = [name for name, pod in pods.items() if selects(alone, pod["metadata"]["labels"])]
    assert chosen == ["Deployment/timbre"]


def test_flagger_s_primary_sends_copies_and_the_candidate_none() -> None:
    """Both have the same template; the label makes of it a Service's name, or nobody's."""
    manifests = rendered(charts.feature("flagger"))
    variables = {each["name"]: each for each in charts.container(manifests)["env"]}
    assert variables["APP"]["valueFrom"]["fieldRef"]["fieldPath"] == f"metadata.labels['{COPIED}']"
    assert list(variables).index("APP") < list(variables).index("TIMBRE_SHADOW_URLS")
    services = names("flagger", "Service")
    for label, is_there in ((RELEASE, False), (PRIMARY, True)):
        url = variables["TIMBRE_SHADOW_URLS"]["value"].replace("$(APP)", label)
        [name] = re.findall(r"^canary=http://(.+):3001$", url)
        assert (name in services) is is_there
    shadow = one(manifests, "Service", f"{PRIMARY}-shadow")["spec"]["selector"]
    assert selects({"matchLabels": shadow}, labels("flagger"))
    assert not selects({"matchLabels": shadow}, labels("flagger") | {COPIED: PRIMARY})


def test_flagger_makes_no_copy_of_the_tokens() -> None:
    """In one a token that was taken out would hold until the next promotion."""
    tokens = {"tokens": {"values": ["x" * 32]}}
    secret = one(rendered(charts.feature("flagger") | tokens), "Secret")["metadata"]
    assert secret["annotations"] == {"flagger.app/config-tracking": "disabled"}
    assert "annotations" not in one(rendered(tokens), "Secret")["metadata"]


def test_the_budget_is_of_flagger_s_primary() -> None:
    """Which answers; the candidate has no pods most of the time."""
    budget = one(rendered(charts.feature("flagger")), "PodDisruptionBudget")["spec"]["selector"]
    assert selects(budget, labels("flagger") | {COPIED: PRIMARY})
    assert not selects(budget, labels("flagger"))


@pytest.mark.parametrize(
    ("engine", "sides"),
    [
        (
            "flagger",
            {
                "stable-pods": f"{PRIMARY}-6b86f5bbf4-x2x4z",
                "baseline-pods": f"{PRIMARY}-6b86f5bbf4-x2x4z",
                "candidate-pods": f"{RELEASE}-6b86f5bbf4-x2x4z",
            },
        ),
        (
            "argo",
            {
                "baseline-pods": f"{RELEASE}-6b86f5bbf4-2-0-baseline-x2x4z",
                "candidate-pods": f"{RELEASE}-6b86f5bbf4-2-0-canary-x2x4z",
            },
        ),
        (
            "argo",
            {
                "baseline-pods": f"{RELEASE}-6b86f5bbf4-2-0-1-baseline-x2x4z",
                "candidate-pods": f"{RELEASE}-6b86f5bbf4-2-0-1-canary-x2x4z",
            },
        ),
    ],
    ids=["flagger", "argo", "a step tried again"],
)
def test_the_judge_knows_an_engine_s_pods(engine: str, sides: dict[str, str]) -> None:
    """By the names that it gives them; each side's are no other's."""
    told = options(charts.feature(engine))
    for side, pod in sides.items():
        assert re.fullmatch(told[side], pod)
        others = {name for name in sides.values() if name != pod}
        assert not [name for name in others if re.fullmatch(told[side], name)]
    assert {name for name in told if name.endswith("-pods")} == set(sides)


def test_flagger_s_golden_set_goes_to_its_services() -> None:
    """NAME is what clients ask; its pods are NAME-primary's."""
    told = options(charts.feature("flagger"))
    assert told["stable-url"] == f"http://{PRIMARY}:80"
    assert told["candidate-url"] == f"http://{RELEASE}-canary:80"


def test_argo_s_golden_set_goes_to_its_experiment() -> None:
    """To both templates: under traffic the canary is among the pods of NAME."""
    golden = {"compare": {"golden": {"source": "pvc", "pvc": {"claimName": "golden"}}}}
    told = options(merged(charts.feature("argo"), golden))
    assert told["stable-url"] == f"http://{RELEASE}-baseline:80"
    assert told["candidate-url"] == f"http://{RELEASE}-canary:80"


def argo(**changed: str) -> dict[str, str]:
    """Give the labels of a pod of Argo's, of which an experiment changes some."""
    return labels("argo") | changed


@pytest.mark.parametrize(
    ("pod", "services"),
    [
        (argo(), [RELEASE]),
        (argo(track="canary", traffic="none"), [f"{RELEASE}-canary"]),
        (argo(track="canary"), [RELEASE, f"{RELEASE}-canary"]),
        (argo(track="baseline"), [RELEASE, f"{RELEASE}-baseline"]),
    ],
    ids=["rollout", "at weight 0", "under traffic", "baseline"],
)
def test_an_experiment_s_pods_are_where_their_labels_say(
    pod: dict[str, str], services: list[str]
) -> None:
    """Among those that get clips, or beside them; by their track for copies."""
    found = [
        each["metadata"]["name"]
        for each in rendered(charts.feature("argo"))
        if each["kind"] == "Service" and selects({"matchLabels": each["spec"]["selector"]}, pod)
    ]
    assert sorted(found) == services


def test_argo_s_pods_of_another_version_keep_their_variables() -> None:
    """An upgrade leaves them as they are: in the template, of which Argo keeps each version's."""
    settings = {"settings": {"precision": "bf16", "cors_origins": ["https://a.example"]}}
    by_helm = rendered(settings)
    by_argo = rendered(merged(charts.feature("argo"), settings))
    assert "envFrom" not in charts.container(by_argo)
    assert names("argo", "ConfigMap") == []
    set_by_helm = one(by_helm, "ConfigMap", RELEASE)["data"]
    set_by_argo = {each["name"]: each.get("value") for each in charts.container(by_argo)["env"]}
    assert set_by_helm.items() <= set_by_argo.items()


def test_argo_s_selector_takes_pods_of_every_track() -> None:
    """A ReplicaSet of an experiment has the Deployment's selector, and its pods another track."""
    selector = deployment(rendered(charts.feature("argo")))["spec"]["selector"]
    assert selects(selector, argo(track="canary", traffic="none"))


@pytest.mark.parametrize(("feature", "kind"), [("argo", "Rollout"), ("flagger", "Deployment")])
def test_what_is_scaled_is_what_has_pods(feature: str, kind: str) -> None:
    """Argo's Rollout; Flagger makes a copy of the autoscaler for its primary."""
    autoscaler = one(rendered(charts.feature(feature)), "HorizontalPodAutoscaler")
    target: dict[str, Any] = autoscaler["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == (kind, RELEASE)


def test_argo_s_route_is_to_every_pod_that_gets_clips() -> None:
    """Without weights: shares are those of the pods."""
    route: Manifest = one(rendered(charts.feature("argo")), "HTTPRoute")
    [rule] = route["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": RELEASE, "port": 80}]
