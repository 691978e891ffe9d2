"""k8s/rollouts for Flagger and Argo: that what is there names what the chart renders."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support import chart_docs, charts
from tests.support.charts import Manifest, one, rendered
from tests.support.flows import selects
from tests.support.layers import merged

FOLDER = Path(__file__).parents[2] / "k8s/rollouts"
RELEASE = NAMESPACE = "timbre"


@cache
def read(path: str) -> Manifest:
    """Read a file of the folder."""
    found: Manifest = yaml.safe_load((FOLDER / path).read_text(encoding="utf-8"))
    return found


def release(engine: str) -> tuple[Manifest, ...]:
    """The chart with the values that the files are for."""
    return rendered(charts.feature(engine), release=RELEASE)


def ports(service: Manifest) -> set[int]:
    """Ports of a Service."""
    return {port["port"] for port in service["spec"]["ports"]}


@pytest.mark.parametrize("path", ["flagger/canary.yaml", "argo/rollout.yaml", "argo/analysis.yaml"])
def test_it_is_for_the_release_that_docs_install(path: str) -> None:
    """In the namespace of k8s/namespace."""
    assert read(path)["metadata"]["namespace"] == NAMESPACE
    assert read(path)["metadata"]["name"].startswith(RELEASE)


@pytest.mark.parametrize("engine", ["flagger", "argo"])
def test_what_it_works_on_is_there(engine: str) -> None:
    """The Deployment and, for Flagger, its autoscaler."""
    manifests = release(engine)
    spec = read("flagger/canary.yaml" if engine == "flagger" else "argo/rollout.yaml")["spec"]
    named = [spec[key] for key in ("targetRef", "workloadRef", "autoscalerRef") if key in spec]
    assert named
    for reference in named:
        found = one(manifests, reference["kind"], reference["name"])
        assert found["apiVersion"] == reference["apiVersion"]


def urls() -> list[str]:
    """Addresses of the judge, wherever they are."""
    hooks = read("flagger/canary.yaml")["spec"]["analysis"]["webhooks"]
    [metric] = read("argo/analysis.yaml")["spec"]["metrics"]
    return [*(hook["url"] for hook in hooks), metric["provider"]["web"]["url"]]


@pytest.mark.parametrize("url", urls())
def test_the_judge_is_where_it_is_asked(url: str) -> None:
    """At its Service's name and port, for a weight."""
    where = urlsplit(url)
    judge = one(release("argo"), "Service", f"{RELEASE}-judge")
    assert where.hostname == f"{judge['metadata']['name']}.{NAMESPACE}"
    assert {where.port} == ports(judge)
    assert re.fullmatch(r"weight=(\d+|\{\{args\.weight\}\})", where.query)


def test_flagger_asks_before_every_step_and_takes_back_what_fails() -> None:
    """Its hooks are those that the judge answers, each under its own name."""
    hooks = read("flagger/canary.yaml")["spec"]["analysis"]["webhooks"]
    by_kind = {hook["type"]: urlsplit(hook["url"]).path for hook in hooks}
    assert by_kind == {
        kind: f"/flagger/{kind}"
        for kind in ("confirm-traffic-increase", "confirm-promotion", "rollback")
    }


def test_flagger_routes_the_public_paths() -> None:
    """As the chart's own route does, and no others."""
    found = [
        (kind, value)
        for match in read("flagger/canary.yaml")["spec"]["service"]["match"]
        for kind, value in match["uri"].items()
    ]
    shared = rendered(charts.feature("gateway-shared"))
    [rule] = one(shared, "HTTPRoute")["spec"]["rules"]
    kinds = {"Exact": "exact", "PathPrefix": "prefix"}
    assert found == [
        (kinds[match["path"]["type"]], match["path"]["value"]) for match in rule["matches"]
    ]


def test_flagger_s_services_have_the_ports_that_are_used() -> None:
    """The chart's public port, and by discovery the internal one."""
    service = read("flagger/canary.yaml")["spec"]["service"]
    [container] = charts.server(release("flagger"))["containers"]
    names = {port["name"] for port in container["ports"]}
    assert service["targetPort"] in names
    assert service["portDiscovery"] is True
    assert service["port"] == chart_docs.defaults()["service"]["port"]


def experiments() -> list[dict[str, Any]]:
    """Argo's experiments, in order."""
    steps = read("argo/rollout.yaml")["spec"]["strategy"]["canary"]["steps"]
    return [step["experiment"] for step in steps if "experiment" in step]


def test_argo_s_experiments_are_canary_and_baseline_of_one_age() -> None:
    """First beside the Service, then in it; named as the judge's expressions want them."""
    manifests = release("argo")
    template = charts.deployment(manifests)["spec"]["template"]["metadata"]["labels"]
    service = {"matchLabels": one(manifests, "Service", RELEASE)["spec"]["selector"]}
    selector = charts.deployment(manifests)["spec"]["selector"]
    for experiment, gets_clips in zip(experiments(), (False, True), strict=True):
        assert [each["specRef"] for each in experiment["templates"]] == ["canary", "stable"]
        for each in experiment["templates"]:
            labels = merged(template, each["metadata"]["labels"])
            assert each["name"] == labels["track"]
            assert selects(service, labels) is gets_clips
            assert selects(selector, labels)


def test_argo_s_experiments_end_with_a_verdict() -> None:
    """The second one's weight asks for live figures."""
    analysis = read("argo/analysis.yaml")
    weights = []
    for experiment in experiments():
        [analyses] = experiment["analyses"]
        assert analyses["templateName"] == analysis["metadata"]["name"]
        assert analyses["requiredForCompletion"] is True
        [argument] = analyses["args"]
        assert argument["name"] == analysis["spec"]["args"][0]["name"]
        weights.append(int(argument["value"]))
    assert weights[0] == 0
    assert weights[1] > 0


def test_only_pass_passes_and_only_fail_fails() -> None:
    """Neither is true of an inconclusive verdict, which Argo asks for again."""
    [metric] = read("argo/analysis.yaml")["spec"]["metrics"]
    assert metric["successCondition"] == 'result == "pass"'
    assert metric["failureCondition"] == 'result == "fail"'
    assert metric["provider"]["web"]["jsonPath"] == "{$.outcome}"
    assert metric["inconclusiveLimit"] > 1
    assert metric["consecutiveSuccessLimit"] == 1
