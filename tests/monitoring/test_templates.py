"""The chart's objects for Prometheus and Grafana, rendered by Helm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import charts, monitoring
from tests.support.charts import NAMESPACE, RELEASE, Values, one, rendered
from tests.support.monitoring import ANY_RELEASE, CASES, cases, promtool

KINDS = {"podMonitor": "PodMonitor", "rules": "PrometheusRule", "dashboard": "ConfigMap"}
ABSENT = "TimbreNothingReady, of pods that were never seen"
OWN = f'namespace="{NAMESPACE}",app_kubernetes_io_instance="{RELEASE}"'


def watching(*features: str, **more: object) -> Values:
    """Give values that switch on these features of monitoring."""
    scraped = [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}]
    return {
        "monitoring": {feature: {"enabled": True, **more} for feature in features},
        "networkPolicy": {"prometheus": scraped},
    }


def rule_file(folder: Path, **options: str) -> Path:
    """Write what the operator would give Prometheus."""
    rule = one(rendered(watching("rules"), **options), "PrometheusRule")
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump(rule["spec"]))
    return file


def promise(folder: Path, rules: Path, tests: list[dict[str, Any]]) -> None:
    """Have promtool hold rules against tests."""
    file = folder / "tests.yaml"
    file.write_text(
        yaml.safe_dump(
            {"rule_files": [str(rules)], "evaluation_interval": "1m", "tests": tests},
            sort_keys=False,
        )
    )
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout


def shown(values: Values, **options: str) -> tuple[str, dict[str, Any]]:
    """Give the file that Grafana's sidecar would write: its name and what it says."""
    manifests = rendered(values, **options)
    [config] = [
        manifest
        for manifest in manifests
        if manifest["kind"] == "ConfigMap" and manifest["metadata"]["name"].endswith("-dashboard")
    ]
    [(name, text)] = config["data"].items()
    return name, json.loads(text)


def test_nothing_is_there_unless_it_is_switched_on() -> None:
    """Most clusters don't know these kinds."""
    assert not charts.kinds(rendered()) & {"PodMonitor", "PrometheusRule"}
    names = [each["metadata"]["name"] for each in rendered() if each["kind"] == "ConfigMap"]
    assert names == [RELEASE]


@pytest.mark.parametrize("feature", KINDS)
def test_labels_are_added_by_which_others_select(feature: str) -> None:
    """Beside the ones that every object of the release has."""
    manifests = rendered(watching(feature, labels={"release": "prometheus"}))
    [found] = [
        manifest["metadata"]
        for manifest in manifests
        if manifest["kind"] == KINDS[feature] and "release" in manifest["metadata"]["labels"]
    ]
    assert found["labels"]["release"] == "prometheus"
    assert found["labels"]["app.kubernetes.io/instance"] == RELEASE
    assert found["name"].startswith(RELEASE)


def test_the_pod_monitor_finds_pods_of_every_track() -> None:
    """By what their labels have in common, on a port that they have; tests' pods are none."""
    manifests = rendered(watching("podMonitor", interval="30s"))
    spec = one(manifests, "PodMonitor")["spec"]
    wanted = spec["selector"]["matchLabels"].items()
    pods = charts.pods(manifests)
    labels = {name: pod["metadata"].get("labels", {}) for name, pod in pods.items()}
    matched = {name for name in pods if wanted <= labels[name].items()}
    assert matched == {f"Deployment/{RELEASE}"}
    assert "track" not in spec["selector"]["matchLabels"]
    [endpoint] = spec["podMetricsEndpoints"]
    assert endpoint == {"port": "internal", "path": "/metrics", "interval": "30s"}
    assert endpoint["port"] in {port["name"] for port in charts.container(manifests)["ports"]}


def test_the_pod_monitor_gives_series_the_labels_that_rules_ask_for() -> None:
    """The operator adds namespace and pod itself."""
    manifests = rendered(watching("podMonitor"))
    added = one(manifests, "PodMonitor")["spec"]["podTargetLabels"]
    as_prometheus_says = {label.translate(str.maketrans("./-", "___")) for label in added}
    assert as_prometheus_says | {"namespace", "pod"} == monitoring.TARGET_LABELS
    pod = charts.pods(manifests)[f"Deployment/{RELEASE}"]
    assert set(added) <= pod["metadata"]["labels"].keys()


def test_the_rules_are_the_file_s_for_this_release() -> None:
    """Word for word but for the release, in every selector."""
    rule = one(rendered(watching("rules")), "PrometheusRule")
    text = monitoring.RULES.read_text(encoding="utf-8")
    assert rule["spec"] == yaml.safe_load(text.replace(ANY_RELEASE, OWN))


@pytest.mark.needs_prometheus
def test_the_rules_of_a_release_work(tmp_path: Path) -> None:
    """As the file's do; but pods that were never seen are missed, as there should be some."""
    tests = [case for case in cases() if case["name"] != ABSENT]
    [absent] = [case for case in cases() if case["name"] == ABSENT]
    assert absent["promql_expr_test"][1]["exp_samples"] == []
    labels = f'alertname="TimbreNothingReady",alertstate="firing",severity="critical",{OWN}'
    absent["promql_expr_test"][1]["exp_samples"] = [
        {"labels": f'ALERTS{{{labels},track="stable"}}', "value": 1}
    ]
    promise(tmp_path, rule_file(tmp_path), [*tests, absent])


@pytest.mark.needs_prometheus
@pytest.mark.parametrize(
    ("label", "own", "other"),
    [("namespace", NAMESPACE, "elsewhere"), ("app_kubernetes_io_instance", RELEASE, "other")],
)
def test_the_rules_of_a_release_say_nothing_of_another(
    label: str, own: str, other: str, tmp_path: Path
) -> None:
    """Of the same name in another namespace, or of another name in the same one."""
    text = CASES.read_text(encoding="utf-8")
    sick: list[dict[str, Any]] = yaml.safe_load(
        text.replace(f'{label}="{own}"', f'{label}="{other}"')
    )["tests"]
    fine = {"series": f'timbre_ready{{{OWN},track="stable",pod="stable-9"}}', "values": "1+0x370"}
    silent = {"expr": "ALERTS", "exp_samples": []}
    tests = [
        {
            "name": case["name"],
            "interval": "1m",
            "input_series": [*case["input_series"], fine],
            "promql_expr_test": [
                {**silent, "eval_time": question["eval_time"]}
                for question in case["promql_expr_test"]
            ],
        }
        for case in sick
    ]
    promise(tmp_path, rule_file(tmp_path), tests)


def test_the_dashboard_is_the_file_s_and_opens_on_this_release() -> None:
    """Under a name of its own, since Grafana takes neither a file nor a uid twice."""
    name, dashboard = shown(watching("dashboard"))
    assert name == f"{NAMESPACE}-{RELEASE}.json"
    assert dashboard["title"] == f"Timbre {NAMESPACE}/{RELEASE}"
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert variables["namespace"].pop("current") == {"text": NAMESPACE, "value": NAMESPACE}
    assert variables["release"].pop("current") == {"text": RELEASE, "value": RELEASE}
    as_in_the_file = {"uid": "timbre", "title": "Timbre"}
    assert dashboard | as_in_the_file == monitoring.dashboard()


def test_two_releases_have_two_dashboards() -> None:
    """Of names that Grafana tells apart, and takes: a uid has 40 characters at most."""
    first, second = (shown(watching("dashboard"), release=name) for name in (RELEASE, "b" * 53))
    assert first[0] != second[0]
    assert first[1]["uid"] != second[1]["uid"]
    assert max(len(each[1]["uid"]) for each in (first, second)) <= 40


def test_grafana_finds_the_dashboard_by_its_label() -> None:
    """The one that the sidecar looks for by default."""
    config = one(rendered(watching("dashboard")), "ConfigMap", f"{RELEASE}-dashboard")
    assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
