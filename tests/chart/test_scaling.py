"""How many pods there are, who says so, and how many a drain may take."""

from __future__ import annotations

from typing import Any

import pytest

from service.metrics import Metrics
from tests.support import charts
from tests.support.charts import RELEASE, Values, kinds, one, rendered

TARGET = {"apiVersion": "apps/v1", "kind": "Deployment", "name": RELEASE}


def spec(values: Values, kind: str) -> dict[str, Any]:
    """Give an object's specification."""
    found: dict[str, Any] = one(rendered(values), kind)["spec"]
    return found


def test_pods_are_as_many_as_it_says() -> None:
    """One by default, and nothing else makes it another."""
    assert spec({}, "Deployment")["replicas"] == 1
    assert spec({"replicaCount": 3}, "Deployment")["replicas"] == 3
    assert not kinds(rendered()) & {"HorizontalPodAutoscaler", "ScaledObject"}


@pytest.mark.parametrize("feature", ["autoscaling-cpu", "keda"])
def test_what_scales_is_not_overruled_by_an_upgrade(feature: str) -> None:
    """The Deployment says nothing of replicas."""
    assert "replicas" not in spec(charts.feature(feature), "Deployment")


def test_it_scales_on_cpu() -> None:
    """By its share of the request."""
    autoscaler = spec(charts.feature("autoscaling-cpu"), "HorizontalPodAutoscaler")
    assert autoscaler["scaleTargetRef"] == TARGET
    assert (autoscaler["minReplicas"], autoscaler["maxReplicas"]) == (1, 3)
    utilization = {"type": "Utilization", "averageUtilization": 70}
    assert autoscaler["metrics"] == [
        {"type": "Resource", "resource": {"name": "cpu", "target": utilization}}
    ]


def test_it_scales_on_demand() -> None:
    """A metric that the server has, by its average over pods."""
    [metric] = spec(charts.feature("autoscaling-demand"), "HorizontalPodAutoscaler")["metrics"]
    average = {"type": "AverageValue", "averageValue": "0.7"}
    assert metric == {
        "type": "Pods",
        "pods": {"metric": {"name": "timbre_demand"}, "target": average},
    }
    assert "timbre_demand" in {family.name for family in Metrics().registry.collect()}


def test_it_scales_on_both() -> None:
    """Kubernetes takes the higher of the two."""
    autoscaler = spec(charts.feature("autoscaling-both"), "HorizontalPodAutoscaler")
    assert [metric["type"] for metric in autoscaler["metrics"]] == ["Resource", "Pods"]


def test_it_goes_up_at_once_and_down_slowly() -> None:
    """From one pod to three in one step, and down by one a minute; null leaves it to Kubernetes."""
    behavior = spec(charts.feature("autoscaling-cpu"), "HorizontalPodAutoscaler")["behavior"]
    up, down = behavior["scaleUp"], behavior["scaleDown"]
    assert up["stabilizationWindowSeconds"] == 0
    assert max(policy["value"] for policy in up["policies"] if policy["type"] == "Pods") >= 2
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 60}]
    both = spec(charts.feature("autoscaling-both"), "HorizontalPodAutoscaler")
    assert "behavior" not in both


def test_keda_asks_prometheus_for_the_demand_of_these_pods() -> None:
    """The sum over pods by the target of one; without data it stays where it is."""
    scaled = spec(charts.feature("keda"), "ScaledObject")
    assert scaled["scaleTargetRef"] == {"name": RELEASE}
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (2, 4)
    [trigger] = scaled["triggers"]
    assert (trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue")
    assert trigger["metadata"] == {
        "serverAddress": "http://prometheus.monitoring:9090",
        "query": 'sum(timbre_demand{namespace="audio",pod=~"audio-timbre-[a-z0-9]+-[a-z0-9]+"})',
        "threshold": "0.7",
        "ignoreNullValues": "false",
    }
    autoscaler = scaled["advanced"]["horizontalPodAutoscalerConfig"]
    cpu = spec(charts.feature("autoscaling-cpu"), "HorizontalPodAutoscaler")
    assert autoscaler["behavior"] == cpu["behavior"]


@pytest.mark.parametrize(
    ("values", "is_made"),
    [
        ({}, False),
        ({"replicaCount": 2}, True),
        ({"replicaCount": 2, "podDisruptionBudget": {"enabled": False}}, False),
        ({"autoscaling": {"enabled": True}}, True),
        ({"autoscaling": {"enabled": True, "minReplicas": 2}}, True),
        (charts.feature("keda"), True),
    ],
)
def test_a_budget_is_made_where_there_may_be_two_pods(
    values: Values,
    is_made: bool,  # noqa: FBT001
) -> None:
    """However few an autoscaler may leave at night."""
    assert ("PodDisruptionBudget" in kinds(rendered(values))) is is_made


def test_a_budget_keeps_all_but_one_and_no_sick_pods() -> None:
    """One that isn't ready serves nobody, and a node may be drained of it."""
    budget = spec(charts.feature("replicas"), "PodDisruptionBudget")
    assert budget["maxUnavailable"] == 1
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert budget["selector"] == spec({}, "Deployment")["selector"]
    percent = {"replicaCount": 4, "podDisruptionBudget": {"maxUnavailable": "25%"}}
    assert spec(percent, "PodDisruptionBudget")["maxUnavailable"] == "25%"
