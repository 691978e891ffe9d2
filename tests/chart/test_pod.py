"""The serving pod: what it is told, how it is asked whether it is well, and how it ends."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

import service
from service.settings import load
from tests.support import charts
from tests.support.charts import CHART, Values, container, one, rendered, server

DIGEST = f"sha256:{'0' * 64}"


def environment(values: Values | None = None) -> dict[str, str]:
    """Give the variables that the ConfigMap sets."""
    manifests = rendered(values)
    config = one(manifests, "ConfigMap", charts.RELEASE)
    assert container(manifests)["envFrom"] == [
        {"configMapRef": {"name": config["metadata"]["name"]}}
    ]
    variables: dict[str, str] = config["data"]
    return variables


def checksum(values: Values | None = None) -> str:
    """Give the annotation that makes pods anew."""
    pod = one(rendered(values), "Deployment")["spec"]["template"]
    return str(pod["metadata"]["annotations"]["checksum/config"])


def test_settings_are_variables_that_the_server_takes() -> None:
    """Of every kind: numbers, words, switches and lists; large numbers too."""
    given = charts.feature("settings")
    settings = load(environment(given))
    for name, value in given["settings"].items():
        found = getattr(settings, name)
        assert (list(found) if isinstance(found, tuple) else found) == value
    assert settings.drain_s == given["drainSeconds"]


def test_without_values_only_the_drain_is_set() -> None:
    """Everything else is the server's own default, or the image's."""
    assert environment() == {"TIMBRE_DRAIN_S": "10"}


def test_a_setting_that_changes_makes_pods_anew() -> None:
    """Variables are read once; what is no variable leaves pods alone."""
    assert checksum() == checksum({"replicaCount": 3})
    assert checksum() != checksum({"settings": {"deadline_s": 20}})
    assert checksum() != checksum({"drainSeconds": 11})


def test_the_track_is_the_pod_s_label() -> None:
    """By the downward API."""
    track = {"fieldRef": {"fieldPath": "metadata.labels['track']"}}
    assert container(rendered())["env"][0] == {"name": "TIMBRE_TRACK", "valueFrom": track}
    pod = one(rendered(), "Deployment")["spec"]["template"]
    assert pod["metadata"]["labels"]["track"] == "stable"


def test_kubernetes_injects_no_variables() -> None:
    """TIMBRE_PORT of a Service called timbre would be one of them."""
    assert server(rendered())["enableServiceLinks"] is False


def test_the_ports_are_the_image_s() -> None:
    """The public one and the internal one, by name."""
    ports = {port["name"]: port["containerPort"] for port in container(rendered())["ports"]}
    assert ports == {"http": 3000, "internal": 3001}


def test_the_probes_mean_different_things() -> None:
    """Started and ready ask whether clips are taken, alive whether it is stuck."""
    probes = container(rendered())
    asked = {
        kind: probes[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")
    }
    assert asked == {
        "startup": {"path": "/readyz", "port": "http"},
        "readiness": {"path": "/readyz", "port": "http"},
        "liveness": {"path": "/livez", "port": "http"},
    }


def test_a_pod_may_take_its_time_to_start_and_none_to_be_found_wanting() -> None:
    """Two minutes to load; four seconds unready; half a minute dead."""
    patience = {
        kind: probe["periodSeconds"] * probe["failureThreshold"]
        for kind in ("startup", "readiness", "liveness")
        for probe in [container(rendered())[f"{kind}Probe"]]
    }
    assert patience == {"startup": 120, "readiness": 4, "liveness": 30}


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({}, 10 + 30 + 10),
        ({"drainSeconds": 0}, 0 + 30 + 10),
        ({"drainSeconds": 2.5, "settings": {"deadline_s": 45.5}}, 3 + 46 + 10),
    ],
)
def test_a_pod_is_given_the_time_to_end(values: Values, seconds: int) -> None:
    """The drain, then the last request's deadline, then ten seconds; no hook holds that up."""
    assert server(rendered(values))["terminationGracePeriodSeconds"] == seconds
    assert "lifecycle" not in container(rendered(values))


def test_readiness_is_lost_before_the_drain_ends() -> None:
    """Or clients would still be sent to a pod that has closed."""
    probe = container(rendered())["readinessProbe"]
    drain = float(environment()["TIMBRE_DRAIN_S"])
    assert probe["periodSeconds"] * probe["failureThreshold"] < drain


def test_an_update_starts_a_pod_before_it_ends_one() -> None:
    """One at a time."""
    assert one(rendered(), "Deployment")["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
    }


def test_temporary_files_have_room() -> None:
    """The root is read-only."""
    assert {"name": "temporary", "mountPath": "/tmp"} in container(rendered())["volumeMounts"]  # noqa: S108
    assert {"name": "temporary", "emptyDir": {"sizeLimit": "512Mi"}} in server(rendered())[
        "volumes"
    ]


def test_the_image_is_the_chart_s_own_version() -> None:
    """Which is the service's; a tag wins over it, and a digest over that."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert chart["appVersion"] == chart["version"] == service.__version__
    for image, reference in (
        ({}, f"ghcr.io/timbre-audio/timbre:{service.__version__}"),
        ({"tag": "1.2.3"}, "ghcr.io/timbre-audio/timbre:1.2.3"),
        ({"tag": "1.2.3", "digest": DIGEST}, f"ghcr.io/timbre-audio/timbre@{DIGEST}"),
    ):
        for pod in charts.pods(rendered({"image": image})).values():
            assert [one["image"] for one in pod["spec"]["containers"]] == [reference]


@pytest.mark.parametrize(
    ("tag", "label"),
    [("1.2.3", "1.2.3"), ("_a_", "a"), ("x" * 128, "x" * 63), (f"{'x' * 62}._", "x" * 62)],
)
def test_the_version_is_a_label_whatever_the_tag(tag: str, label: str) -> None:
    """Labels are shorter than tags, and begin and end with a letter or digit."""
    labels = one(rendered({"image": {"tag": tag}}), "Deployment")["metadata"]["labels"]
    assert labels["app.kubernetes.io/version"] == label


def test_tokens_are_mounted_as_a_folder() -> None:
    """A file that is mounted alone never changes, and rotation would need a restart."""
    for values, secret, key in (
        (charts.feature("tokens"), f"{charts.RELEASE}-tokens", "tokens"),
        (charts.feature("tokens-secret"), "clients", "bearer"),
    ):
        manifests = rendered(values)
        assert environment(values)["TIMBRE_TOKEN_FILE"] == "/tokens/tokens"  # noqa: S105
        mount = {"name": "tokens", "mountPath": "/tokens", "readOnly": True}
        assert mount in container(manifests)["volumeMounts"]
        source = {"secretName": secret, "items": [{"key": key, "path": "tokens"}]}
        assert {"name": "tokens", "secret": source} in server(manifests)["volumes"]


def test_a_key_says_nothing_of_the_chart_s_own_secret() -> None:
    """It is of one that exists already."""
    values = charts.feature("tokens")
    values["tokens"]["key"] = "bearer"
    [volume] = [one for one in server(rendered(values))["volumes"] if one["name"] == "tokens"]
    assert volume["secret"]["items"] == [{"key": "tokens", "path": "tokens"}]


def test_another_token_leaves_pods_alone() -> None:
    """They read the file again when it changes."""
    values = charts.feature("tokens")
    more: dict[str, Any] = {"tokens": {"values": [*values["tokens"]["values"], "x" * 32]}}
    assert checksum(values) == checksum(more)


def test_placement_is_handed_on() -> None:
    """As it was given, to a pod of whatever kind where it decides on which nodes it can be."""
    values = charts.feature("placement")
    pod = server(rendered(values))
    for key in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert pod[key] == values[key]
    test = one(rendered(values), "Pod")["spec"]
    for key in ("nodeSelector", "tolerations"):
        assert test[key] == values[key]


def test_pods_are_spread_softly_and_by_version() -> None:
    """An update doesn't count the pods that it replaces; a selector of one's own is left alone."""
    selector = one(rendered(), "Deployment")["spec"]["selector"]
    spread = server(rendered())["topologySpreadConstraints"]
    assert [one["topologyKey"] for one in spread] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    for constraint in spread:
        assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
        assert constraint["labelSelector"] == selector
        assert constraint["matchLabelKeys"] == ["pod-template-hash"]
    given = charts.feature("placement")
    assert (
        server(rendered(given))["topologySpreadConstraints"] == given["topologySpreadConstraints"]
    )


def test_what_the_chart_has_no_word_for_can_be_added() -> None:
    """Variables, volumes, mounts, labels and annotations."""
    values = charts.feature("extra")
    manifests = rendered(values)
    pod = one(manifests, "Deployment")["spec"]["template"]
    assert container(manifests)["env"][-len(values["extraEnv"]) :] == values["extraEnv"]
    assert values["extraVolumes"][0] in pod["spec"]["volumes"]
    assert values["extraVolumeMounts"][0] in container(manifests)["volumeMounts"]
    assert values["podLabels"].items() <= pod["metadata"]["labels"].items()
    assert values["podAnnotations"].items() <= pod["metadata"]["annotations"].items()
    assert pod["spec"]["imagePullSecrets"] == values["image"]["pullSecrets"]
    assert container(manifests)["imagePullPolicy"] == "Always"


def test_an_account_of_one_s_own_is_used_and_not_made() -> None:
    """By the server and by helm test."""
    manifests = rendered(charts.feature("extra"))
    assert "ServiceAccount" not in charts.kinds(manifests)
    for pod in charts.pods(manifests).values():
        assert pod["spec"]["serviceAccountName"] == "existing"
    without = rendered({"serviceAccount": {"create": False}})
    assert server(without)["serviceAccountName"] == "default"


def test_prometheus_finds_annotated_pods() -> None:
    """On the internal port, where /metrics is."""
    pod = one(rendered(charts.feature("monitoring")), "Deployment")["spec"]["template"]
    annotations = pod["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "true"
    assert annotations["prometheus.io/path"] == "/metrics"
    ports = {port["name"]: port["containerPort"] for port in pod["spec"]["containers"][0]["ports"]}
    assert annotations["prometheus.io/port"] == str(ports["internal"])
    bare = one(rendered(), "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert not [name for name in bare if re.match("prometheus", name)]
