"""k8s/monitoring and k8s/metrics-adapter as a cluster would get them."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support import charts, monitoring
from tests.support.charts import Manifest
from tests.support.monitoring import ROOT, RULES, promtool
from tests.support.tools import find

FOLDERS = ("monitoring", "metrics-adapter")
PROMETHEUS = ROOT / "k8s" / "monitoring" / "prometheus.yml"
ADAPTER = ROOT / "k8s" / "metrics-adapter"


@cache
def built(folder: str) -> dict[tuple[str, str], Manifest]:
    """What kubectl would apply, by kind and name; a ConfigMap's without its contents' hash."""
    done = subprocess.run(
        [find("kubectl"), "kustomize", str(ROOT / "k8s" / folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    objects: dict[tuple[str, str], Manifest] = {}
    for one in yaml.safe_load_all(done.stdout):
        kind, name = one["kind"], one["metadata"]["name"]
        objects[kind, name.rpartition("-")[0] if kind == "ConfigMap" else name] = one
    return objects


def pod(folder: str) -> Manifest:
    """The specification of its one pod."""
    [deployment] = [one for (kind, _), one in built(folder).items() if kind == "Deployment"]
    spec: Manifest = deployment["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_object_is_one_that_kubernetes_knows(folder: str) -> None:
    """By its schemas, and without a field that they don't have."""
    version = charts.KUBERNETES.rpartition(".")[0]
    for one in built(folder).values():
        assert kubernetes_validate.validate(one, version, strict=True) == version


@pytest.mark.parametrize("folder", FOLDERS)
def test_everything_is_in_the_namespace_monitoring(folder: str) -> None:
    """But what belongs to the cluster, and the role by which an API of its own reads who asks."""
    whole = {"Namespace", "ClusterRole", "ClusterRoleBinding", "APIService"}
    for (kind, name), one in built(folder).items():
        expected = None if kind in whole else "monitoring"
        if name == "timbre-metrics-adapter-auth-reader":
            expected = "kube-system"
        assert one["metadata"].get("namespace") == expected, (kind, name)


@pytest.mark.parametrize("folder", FOLDERS)
def test_pods_are_allowed_where_pod_security_is_restricted(folder: str) -> None:
    """Which the namespace is; and their images are of one version."""
    namespace = built("monitoring")["Namespace", "monitoring"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    spec = pod(folder)
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    [container] = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"].keys() == {"memory"}
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert re.search(r":v\d+\.\d+\.\d+$", container["image"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_names_are_of_things_that_are_there(folder: str) -> None:
    """Volumes, mounts, accounts, ports and what a Service selects."""
    objects, spec = built(folder), pod(folder)
    [container] = spec["containers"]
    names = {one["metadata"]["name"] for (kind, _), one in objects.items() if kind == "ConfigMap"}
    mounted = {volume["configMap"]["name"] for volume in spec["volumes"] if "configMap" in volume}
    assert mounted == names
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in spec["volumes"]
    }
    assert ("ServiceAccount", spec["serviceAccountName"]) in objects
    [service] = [one for (kind, _), one in objects.items() if kind == "Service"]
    [deployment] = [one for (kind, _), one in objects.items() if kind == "Deployment"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert deployment["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= {
        port["name"] for port in container["ports"]
    }
    for probe in ("readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] in {port["name"] for port in container["ports"]}
    for (kind, _), one in objects.items():
        if kind.endswith("Binding"):
            assert one["subjects"] == [
                {
                    "kind": "ServiceAccount",
                    "name": spec["serviceAccountName"],
                    "namespace": "monitoring",
                }
            ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_may_be_changed_and_no_secret_read(folder: str) -> None:
    """By the roles that are made here."""
    for (kind, _), one in built(folder).items():
        if kind in {"Role", "ClusterRole"}:
            for rule in one["rules"]:
                assert set(rule["verbs"]) <= {"get", "list", "watch"}
                assert set(rule["resources"]) <= {"namespaces", "nodes", "nodes/metrics", "pods"}


def test_prometheus_has_the_chart_s_rules() -> None:
    """The very file, where its configuration looks for it."""
    rules = built("monitoring")["ConfigMap", "timbre-rules"]
    assert rules["data"] == {"alerts.yaml": RULES.read_text(encoding="utf-8")}
    config = yaml.safe_load(
        built("monitoring")["ConfigMap", "prometheus"]["data"]["prometheus.yml"]
    )
    [pattern] = config["rule_files"]
    [container] = pod("monitoring")["containers"]
    paths = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert Path(pattern).parent == Path(paths["rules"])
    assert Path("alerts.yaml").match(Path(pattern).name)
    arguments = container["args"]
    assert f"--config.file={paths['config']}/prometheus.yml" in arguments
    assert f"--storage.tsdb.path={paths['data']}" in arguments


def configuration(targets: list[dict[str, Any]], folder: Path) -> Path:
    """Write Prometheus' configuration with targets written in, in place of those it looks for.

    Debian's Prometheus is built without Kubernetes; what becomes of a target is the same.
    """
    config = yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))
    for job in config["scrape_configs"]:
        assert [set(found) for found in job.pop("kubernetes_sd_configs")] == [{"role"}]
        job["static_configs"] = targets
    file = folder / "prometheus.yml"
    file.write_text(yaml.safe_dump(config))
    return file


@pytest.mark.needs_prometheus
def test_promtool_takes_the_configuration(tmp_path: Path) -> None:
    """Without looking for the files that only a pod has."""
    file = configuration([], tmp_path)
    checked = promtool("check", "config", "--syntax-only", str(file))
    assert checked.returncode == 0, checked.stdout
    roles = [
        job["kubernetes_sd_configs"]
        for job in yaml.safe_load(PROMETHEUS.read_text(encoding="utf-8"))["scrape_configs"]
    ]
    assert roles == [[{"role": "pod"}], [{"role": "node"}]]


def found(address: str, **changes: str) -> dict[str, Any]:
    """Make a target as Prometheus finds it: a port of a pod of the chart that is annotated."""
    manifests = charts.rendered(charts.feature("monitoring"))
    metadata = charts.pods(manifests)[f"Deployment/{charts.RELEASE}"]["metadata"]
    labels = {
        "namespace": charts.NAMESPACE,
        "pod_name": "audio-timbre-1",
        "pod_phase": "Running",
        "pod_container_port_number": address.partition(":")[2],
    }
    for kind in ("annotation", "label"):
        for name, value in metadata[f"{kind}s"].items():
            labels[f"pod_{kind}_{re.sub(r'[^a-zA-Z0-9_]', '_', name)}"] = value
    labels |= changes
    return {
        "targets": [address],
        "labels": {f"__meta_kubernetes_{name}": value for name, value in labels.items()},
    }


@pytest.mark.needs_prometheus
def test_annotated_pods_are_scraped_under_the_labels_that_rules_ask_for(tmp_path: Path) -> None:
    """Once each, on the internal port, while they run; pods that don't ask for it are not."""
    targets = [
        found("10.0.0.1:3000"),
        found("10.0.0.1:3001"),
        found("10.0.0.2:3001", pod_phase="Succeeded"),
        found("10.0.0.3:3001", pod_annotation_prometheus_io_scrape="false"),
    ]
    file = configuration(targets, tmp_path)
    done = promtool("check", "service-discovery", "--timeout=1s", str(file), "pods")
    assert done.returncode == 0, done.stdout
    [labels] = [each["labels"] for each in json.loads(done.stdout) if each["labels"]]
    assert labels["__address__"] == "10.0.0.1:3001"
    assert labels["__metrics_path__"] == "/metrics"
    assert labels.keys() >= monitoring.TARGET_LABELS
    assert labels["namespace"] == charts.NAMESPACE
    assert labels["pod"] == "audio-timbre-1"
    assert labels["app_kubernetes_io_instance"] == charts.RELEASE
    assert labels["track"] == "stable"


def adapter_rule() -> dict[str, Any]:
    """The adapter's one rule."""
    config = built("metrics-adapter")["ConfigMap", "metrics-adapter"]["data"]["config.yaml"]
    rule: dict[str, Any]
    [rule] = yaml.safe_load(config)["rules"]
    return rule


def test_the_adapter_serves_the_metric_that_the_autoscaler_asks_for() -> None:
    """Under its name, of pods in their namespace."""
    scaler = charts.one(
        charts.rendered(charts.feature("autoscaling-demand")), "HorizontalPodAutoscaler"
    )
    [asked] = [
        metric["pods"]["metric"]["name"]
        for metric in scaler["spec"]["metrics"]
        if metric["type"] == "Pods"
    ]
    rule = adapter_rule()
    assert rule["name"]["as"] == asked
    assert re.search(rule["name"]["matches"], asked)
    assert monitoring.metric_names(rule["seriesQuery"]) == {asked}
    assert rule["resources"]["overrides"] == {
        "namespace": {"resource": "namespace"},
        "pod": {"resource": "pod"},
    }


@pytest.mark.needs_prometheus
def test_what_the_adapter_asks_is_a_query(tmp_path: Path) -> None:
    """Once it has put in the pods that an autoscaler asks about."""
    rule = adapter_rule()
    query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod")
    query = query.replace("<<.LabelMatchers>>", 'namespace="audio",pod=~"a|b"')
    assert query == 'max by (pod) (timbre_demand{namespace="audio",pod=~"a|b"})'
    group = {"name": "adapter", "rules": [{"record": "asked", "expr": query}]}
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [group]}))
    assert promtool("check", "rules", str(file)).returncode == 0


def test_values_for_the_adapter_s_own_chart_say_the_same() -> None:
    """The same rule, alone, and the same Prometheus."""
    values = yaml.safe_load((ADAPTER / "values.yaml").read_text(encoding="utf-8"))
    assert values["rules"] == {"default": False, "custom": [adapter_rule()]}
    url = f"{values['prometheus']['url']}:{values['prometheus']['port']}"
    [container] = pod("metrics-adapter")["containers"]
    assert f"--prometheus-url={url}" in container["args"]
    service = built("monitoring")["Service", "prometheus"]
    assert url == f"http://{service['metadata']['name']}.monitoring.svc:9090"
    assert [port["port"] for port in service["spec"]["ports"]] == [9090]


def test_the_adapter_is_the_api_of_custom_metrics() -> None:
    """At the port that its Service has."""
    api = built("metrics-adapter")["APIService", "v1beta1.custom.metrics.k8s.io"]["spec"]
    service = built("metrics-adapter")["Service", api["service"]["name"]]
    assert service["metadata"]["namespace"] == api["service"]["namespace"]
    assert [port["port"] for port in service["spec"]["ports"]] == [443]
