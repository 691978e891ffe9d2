"""The canary and its baseline: what differs from stable, what doesn't, and who gets the clips."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support import charts
from tests.support.charts import RELEASE, Manifest, Values, deployment, one, rendered, text
from tests.support.layers import merged

CANARY, BASELINE = f"{RELEASE}-canary", f"{RELEASE}-baseline"
WITH_CANARY = [
    name for name in charts.features() if charts.feature(name).get("canary", {}).get("enabled")
]
ROUTED: dict[str, Any] = {
    "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
    "networkPolicy": {"gateway": [{"podSelector": {}}]},
}
DIGEST, OTHER = f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"


def canary(weight: int = 0, **more: object) -> dict[str, Any]:
    """Give values with a canary."""
    return ROUTED | {"canary": {"enabled": True, "weight": weight, **more}}


def rules(values: Values) -> list[Manifest]:
    """Give the rules of the route."""
    found: list[Manifest] = one(rendered(values), "HTTPRoute")["spec"]["rules"]
    return found


def weights(values: Values) -> dict[str, int]:
    """Give the weights of the rule that everybody else gets, by the Services' names."""
    return {ref["name"]: ref["weight"] for ref in rules(values)[-1]["backendRefs"]}


def replicas(values: Values, track: str) -> int:
    """Give the pods that a track's Deployment asks for."""
    return int(deployment(rendered(values), track)["spec"]["replicas"])


def config(values: Values, name: str) -> dict[str, str]:
    """Give the variables in a ConfigMap."""
    found: dict[str, str] = one(rendered(values), "ConfigMap", name)["data"]
    return found


@pytest.mark.parametrize("helm", ["helm", "helm3"])
@pytest.mark.parametrize("feature", WITH_CANARY)
def test_a_canary_changes_nothing_of_stable(feature: str, helm: str) -> None:
    """Its Deployment and ConfigMap are the same to the byte, so that no pod is made anew."""
    values = charts.feature(feature)
    without = merged(values, {"canary": {"enabled": False}})

    def stable(values: Values) -> list[str]:
        documents = text(values, helm=helm).split("\n---\n")
        wanted = rf"^kind: (?:Deployment|ConfigMap|Service)\n.*\n  name: {RELEASE}$"
        return [part.strip() for part in documents if re.search(wanted, part, re.MULTILINE)]

    assert len(stable(values)) == 3
    assert stable(values) == stable(without)


def test_stable_sends_copies_whether_or_not_there_is_a_canary() -> None:
    """To names that a canary will have; the canary and the baseline send none."""
    manifests = rendered(charts.feature("canary-shadow"))
    sent = {
        "TIMBRE_SHADOW_URLS": f"canary=http://{CANARY}:3001,baseline=http://{BASELINE}:3001",
        "TIMBRE_SHADOW_SAMPLE": "0.5",
    }
    for track, expected in (("stable", sent), ("canary", {}), ("baseline", {})):
        variables = charts.container(manifests, track)["env"]
        shadow = {each["name"]: each.get("value") for each in variables if "SHADOW" in each["name"]}
        assert shadow == expected
    for name in (CANARY, BASELINE):
        ports = one(manifests, "Service", name)["spec"]["ports"]
        assert ("internal", 3001) in {(port["name"], port["port"]) for port in ports}


def test_copies_can_be_switched_off() -> None:
    """Then stable is told nothing of them."""
    variables = charts.container(rendered(charts.feature("shadow-off")))["env"]
    assert [each["name"] for each in variables] == ["TIMBRE_TRACK"]


def test_a_canary_is_stable_but_for_what_is_laid_over_it() -> None:
    """Image, bundle and settings, in a ConfigMap of its own; all else as stable's pods have it."""
    values = charts.feature("canary") | {"settings": {"deadline_s": 20, "precision": "fp32"}}
    manifests = rendered(values)
    assert config(values, RELEASE) == {
        "TIMBRE_DRAIN_S": "10",
        "TIMBRE_DEADLINE_S": "20",
        "TIMBRE_PRECISION": "fp32",
    }
    assert config(values, CANARY) == {
        "TIMBRE_DRAIN_S": "10",
        "TIMBRE_BUNDLE": "/bundle/model",
        "TIMBRE_DEADLINE_S": "20",
        "TIMBRE_PRECISION": "int8",
    }
    container = charts.container(manifests, "canary")
    assert container["image"] == "ghcr.io/timbre-audio/timbre:0.2.0"
    assert container["envFrom"] == [{"configMapRef": {"name": CANARY}}]
    [pull] = charts.server(manifests, "canary")["initContainers"]
    assert pull["args"][0] == "oci://registry.example:5000/team/speech:1.3.0"
    stable = charts.container(manifests)
    for key in ("resources", "ports", "readinessProbe", "livenessProbe", "securityContext"):
        assert container[key] == stable[key]


def test_what_is_false_or_empty_is_laid_over_too() -> None:
    """A switch that stable has on can be off in the canary."""
    values = canary(settings={"ungated": False, "cors_origins": []}) | {
        "settings": {"ungated": True, "cors_origins": ["*"]}
    }
    assert config(values, RELEASE)["TIMBRE_UNGATED"] == "true"
    assert config(values, CANARY)["TIMBRE_UNGATED"] == "false"
    assert config(values, CANARY)["TIMBRE_CORS_ORIGINS"] == ""


@pytest.mark.parametrize(
    ("stable", "own", "image"),
    [
        ({"tag": "1"}, {}, "a:1"),
        ({"tag": "1"}, {"tag": "2"}, "a:2"),
        ({"digest": DIGEST}, {"tag": "2"}, "a:2"),
        ({"tag": "1"}, {"digest": OTHER}, f"a@{OTHER}"),
        ({"digest": DIGEST}, {"repository": "b"}, f"b@{DIGEST}"),
    ],
)
def test_a_digest_of_stable_s_is_never_taken_for_the_canary_s(
    stable: dict[str, str], own: dict[str, str], image: str
) -> None:
    """A tag that is given wins over stable's digest."""
    values = canary(image=own) | {"image": {"repository": "a", **stable}}
    assert charts.container(rendered(values), "canary")["image"] == image


def test_nor_is_its_bundle_s() -> None:
    """The canary's bundle has its own, or none."""
    stable = charts.feature("bundle-registry")
    other = {"registry": {"reference": "oci://registry.example:5000/team/speech:1.3.0"}}
    for own, digests in (
        (other, []),
        (other | {"digest": OTHER}, [OTHER]),
        ({}, [stable["bundle"]["digest"]]),
    ):
        values = merged(stable, canary(bundle=own))
        [pull] = charts.server(rendered(values), "canary")["initContainers"]
        given = [argument for argument in pull["args"] if argument.startswith("--digest=")]
        assert given == [f"--digest={digest}" for digest in digests]
        # Its credentials are those of the same registry.
        assert "env" in pull


@pytest.mark.parametrize("feature", ["canary", "canary-shadow", "canary-autoscaled"])
def test_the_baseline_is_stable_under_another_name(feature: str) -> None:
    """With stable's ConfigMap; but for its track and age, and that it sends no copies."""
    manifests = rendered(charts.feature(feature))
    stable, baseline = (
        deployment(manifests, track)["spec"]["template"] for track in ("stable", "baseline")
    )
    assert baseline["metadata"]["labels"].pop("track") == "baseline"
    assert stable["metadata"]["labels"].pop("track") == "stable"
    assert baseline["metadata"]["annotations"].pop("checksum/canary")
    variables = stable["spec"]["containers"][0]["env"]
    variables[:] = [each for each in variables if "SHADOW" not in each["name"]]
    for template in (stable, baseline):
        for spread in template["spec"]["topologySpreadConstraints"]:
            spread["labelSelector"]["matchLabels"].pop("track")
    assert baseline == stable


def test_the_baseline_is_as_old_as_the_canary() -> None:
    """Another canary makes both anew; another weight makes none anew."""

    def age(values: Values) -> str:
        template = deployment(rendered(values), "baseline")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/canary"])

    assert age(canary(1)) == age(canary(10))
    assert age(canary(1)) != age(canary(1, image={"tag": "2"}))
    assert age(canary(1)) != age(canary(1, settings={"max_batch": 4}))


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("weight", [0, 1, 10, 50, 51, 99, 100])
def test_weights_are_those_of_a_fair_comparison(weight: int, beside: bool) -> None:  # noqa: FBT001
    """They sum to 100; the baseline's is the canary's while there is room for it."""
    found = weights(canary(weight, baseline={"enabled": beside}))
    assert sum(found.values()) == 100
    assert found[CANARY] == weight
    assert found.get(BASELINE, 0) == (weight if beside and weight <= 50 else 0)
    assert (BASELINE in found) is beside


@pytest.mark.parametrize("feature", WITH_CANARY)
def test_no_route_points_at_nothing(feature: str) -> None:
    """Each Service in a route is there and selects pods of the release."""
    manifests = rendered(charts.feature(feature))
    services = {each["metadata"]["name"] for each in manifests if each["kind"] == "Service"}
    routes = [each for each in manifests if each["kind"] == "HTTPRoute"]
    named = {
        ref["name"]
        for route in routes
        for rule in route["spec"]["rules"]
        for ref in rule["backendRefs"]
    }
    assert named <= services
    assert {CANARY} <= services


def test_without_a_canary_the_route_has_no_weights() -> None:
    """And one rule."""
    assert [rule["backendRefs"] for rule in rules(ROUTED)] == [[{"name": RELEASE, "port": 80}]]


@pytest.mark.parametrize(
    ("stable", "weight", "needed"),
    [(1, 0, 1), (1, 100, 1), (4, 1, 1), (4, 25, 1), (4, 26, 2), (4, 50, 2), (4, 100, 4)],
)
def test_a_canary_is_large_enough_for_its_share(stable: int, weight: int, needed: int) -> None:
    """One pod at least; a number that is given wins, and the baseline has as many."""
    values = canary(weight) | {"replicaCount": stable}
    assert replicas(values, "canary") == replicas(values, "baseline") == needed
    given = merged(values, {"canary": {"replicas": 7}})
    assert (replicas(given, "canary"), replicas(given, "baseline")) == (7, 7)
    apart = merged(given, {"canary": {"baseline": {"replicas": 2}}})
    assert (replicas(apart, "canary"), replicas(apart, "baseline")) == (7, 2)


@pytest.mark.parametrize(
    ("feature", "kind", "least"),
    [
        ("canary-autoscaled", "HorizontalPodAutoscaler", {CANARY: 2, BASELINE: 2, RELEASE: 3}),
        ("canary-keda", "ScaledObject", {CANARY: 1, BASELINE: 1, RELEASE: 3}),
    ],
)
def test_every_track_scales_as_stable_does(feature: str, kind: str, least: dict[str, int]) -> None:
    """From its own least number of pods up; no Deployment says how many."""
    manifests = rendered(charts.feature(feature))
    key = "minReplicas" if kind == "HorizontalPodAutoscaler" else "minReplicaCount"
    found = {each["metadata"]["name"]: each["spec"] for each in manifests if each["kind"] == kind}
    assert {name: spec[key] for name, spec in found.items()} == least
    assert {spec["scaleTargetRef"]["name"] for spec in found.values()} == set(least)
    for track in ("stable", "canary", "baseline"):
        assert "replicas" not in deployment(manifests, track)["spec"]


def test_keda_counts_the_pods_of_a_track_only() -> None:
    """Prometheus matches a name as a whole."""
    manifests = rendered(charts.feature("canary-keda"))
    pods = {
        RELEASE: f"{RELEASE}-6b86f5bbf4-x2x4z",
        CANARY: f"{CANARY}-6b86f5bbf4-x2x4z",
        BASELINE: f"{BASELINE}-6b86f5bbf4-x2x4z",
    }
    for name in pods:
        [trigger] = one(manifests, "ScaledObject", name)["spec"]["triggers"]
        pattern = re.findall(r'pod=~"([^"]+)"', trigger["metadata"]["query"])[0]
        assert [track for track, pod in pods.items() if re.fullmatch(pattern, pod)] == [name]


def test_a_client_may_ask_for_a_track() -> None:
    """By a rule for each that has all public paths and one backend."""
    *forced, rest = rules(canary(10, forceTrack={"enabled": True}))
    assert len(forced) == 3
    for rule, name in zip(forced, (RELEASE, CANARY, BASELINE), strict=True):
        track = name.removeprefix(RELEASE).removeprefix("-") or "stable"
        header = {"name": "x-timbre-track", "value": track}
        assert [match.pop("headers") for match in rule["matches"]] == [[header]] * 6
        assert rule["matches"] == rest["matches"]
        assert rule["backendRefs"] == [{"name": name, "port": 80}]


@pytest.mark.parametrize("by", ["cookie", "header"])
def test_a_client_stays_where_it_was_sent(by: str) -> None:
    """What the answer of a backend says is what the rule of that backend asks for."""
    values = canary(10, sticky={"by": by})
    *kept, rest = rules(values)
    told = {
        ref["name"]: ref["filters"][0]["responseHeaderModifier"]["add"][0]
        for ref in rest["backendRefs"]
    }
    assert told.keys() == {RELEASE, CANARY, BASELINE}
    for rule in kept:
        [ref] = rule["backendRefs"]
        for match in rule["matches"]:
            [header] = match["headers"]
            shown = {name: _shown(by, said["value"]) for name, said in told.items()}
            matching = [name for name, value in shown.items() if _matches(header, value)]
            assert matching == [ref["name"]]


def test_a_cookie_of_a_month_lasts_a_month() -> None:
    """In a file a number is one with a point to Helm, which writes a large one with an exponent."""
    *_, rest = rules(canary(10, sticky={"by": "cookie", "maxAgeSeconds": 2_592_000}))
    [add] = rest["backendRefs"][0]["filters"][0]["responseHeaderModifier"]["add"]
    assert "; Max-Age=2592000;" in add["value"]


def _shown(by: str, said: str) -> str:
    """What a client sends back of what it was told: a cookie comes among others."""
    return said if by == "header" else f"a=b; {said.partition(';')[0]}; c=d"


def _matches(header: dict[str, str], value: str) -> bool:
    if header.get("type") == "RegularExpression":
        return bool(re.search(header["value"], value))
    return header["value"] == value


def test_another_weight_sends_clients_anew() -> None:
    """Or each step would keep those of the one before; 1 isn't taken for 10."""
    [_, one_percent, *_] = rules(canary(1, sticky={"by": "cookie"}))
    [header] = one_percent["matches"][0]["headers"]
    assert _matches(header, "timbre-version=canary-1")
    assert not _matches(header, "timbre-version=canary-10")
    assert not _matches(header, "timbre-version=canary-100")


def test_a_canary_without_a_share_keeps_nobody() -> None:
    """Taking it back to 0 takes every client back."""
    assert len(rules(canary(0, sticky={"by": "cookie"}))) == 1
    backends = [
        rule["backendRefs"][0]["name"] for rule in rules(canary(100, sticky={"by": "cookie"}))
    ]
    assert backends[0] == CANARY


@pytest.mark.parametrize("feature", WITH_CANARY)
def test_selectors_of_tracks_are_disjoint(feature: str) -> None:
    """No selector of a Deployment, Service or budget takes pods of two Deployments."""
    manifests = rendered(charts.feature(feature))
    pods = charts.pods(manifests)
    for each in manifests:
        selector = {
            "Deployment": lambda spec: spec["selector"]["matchLabels"],
            "Service": lambda spec: spec["selector"],
            "PodDisruptionBudget": lambda spec: spec["selector"]["matchLabels"],
        }.get(each["kind"])
        if selector is None:
            continue
        wanted = selector(each["spec"]).items()
        chosen = [name for name, pod in pods.items() if wanted <= pod["metadata"]["labels"].items()]
        assert len(chosen) == 1, each["metadata"]["name"]


@pytest.mark.parametrize("scaled", ["", "autoscaling", "keda"])
@pytest.mark.parametrize(
    ("weight", "tracks"),
    [
        (0, {"stable"}),
        (25, {"stable"}),
        (26, {"stable", "canary", "baseline"}),
        (100, {"stable", "canary", "baseline"}),
    ],
)
def test_each_track_of_two_pods_has_a_budget(weight: int, tracks: set[str], scaled: str) -> None:
    """With clips to answer, a canary is no more for a drain to take at once than stable is."""
    values = canary(weight) | {"replicaCount": 4}
    if scaled:
        tracks = {"stable", "canary", "baseline"}  # of one pod now, and of more in an hour
        values |= {scaled: {"enabled": True, "minReplicas": 4, "maxReplicas": 8}}
        values |= {"networkPolicy": {"enabled": False}}
    if scaled == "keda":
        values["keda"] |= {"prometheus": {"url": "http://prometheus:9090"}}
    manifests = rendered(values)
    selectors = [
        each["spec"]["selector"] for each in manifests if each["kind"] == "PodDisruptionBudget"
    ]
    wanted = {track: deployment(manifests, track)["spec"]["selector"] for track in sorted(tracks)}
    assert sorted(selectors, key=str) == sorted(wanted.values(), key=str)
    names = {each["metadata"]["name"] for each in manifests if each["kind"].endswith("Budget")}
    assert names == {RELEASE if track == "stable" else f"{RELEASE}-{track}" for track in tracks}


def test_a_baseline_that_is_not_there_has_no_budget() -> None:
    """Nor has anybody where they are switched off."""
    values = canary(100, baseline={"enabled": False}) | {"replicaCount": 4}
    names = [each["metadata"]["name"] for each in rendered(values) if "Budget" in each["kind"]]
    assert sorted(names) == [RELEASE, CANARY]
    assert "PodDisruptionBudget" not in charts.kinds(
        rendered(values | {"podDisruptionBudget": {"enabled": False}})
    )
