"""Every values file of the chart: what it renders to is valid, restricted and well named."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from typing import Any

import kubernetes_validate
import pytest
import yaml

from service.canary.pods import Names
from tests.support import charts, pod_security
from tests.support.charts import CHART, KUBERNETES, Manifest, features, rendered

CUSTOM = {
    "Gateway": "gateway.networking.k8s.io/v1",
    "HTTPRoute": "gateway.networking.k8s.io/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "ScaledObject": "keda.sh/v1alpha1",
}
"""Kinds that a cluster has only with their operators; what is in them other tests look at."""
LABELS = {
    "helm.sh/chart": r"timbre-\d+\.\d+\.\d+",
    "app.kubernetes.io/name": "timbre",
    "app.kubernetes.io/instance": charts.RELEASE,
    "app.kubernetes.io/version": r"\d+\.\d+\.\d+",
    "app.kubernetes.io/component": "server|test|compare|judge",
    "app.kubernetes.io/part-of": "timbre",
    "app.kubernetes.io/managed-by": "Helm",
}
OLDEST, NEWEST = "1.29", KUBERNETES.rpartition(".")[0]
"""Versions of Kubernetes: the oldest that the chart allows, and the one it is rendered for."""

each_feature = pytest.mark.parametrize("feature", features())


def manifests(feature: str, **options: str) -> tuple[Manifest, ...]:
    """Render a values file."""
    return rendered(charts.feature(feature), **options)


@cache
def validate(manifest: str, version: str) -> None:
    """Compare an object, as JSON, with its schema; most features share most objects."""
    assert kubernetes_validate.validate(json.loads(manifest), version, strict=True) == version


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@each_feature
def test_every_object_is_valid(feature: str, version: str) -> None:
    """By Kubernetes' own schemas, strictly: a key that Kubernetes doesn't know is refused."""
    if feature in {"bundle-volume", "compare-volume"} and version == OLDEST:
        version = "1.33"  # which the chart asks for
    for manifest in manifests(feature):
        if manifest["kind"] in CUSTOM:
            assert manifest["apiVersion"] == CUSTOM[manifest["kind"]]
            continue
        validate(json.dumps(manifest, sort_keys=True), version)


def test_an_object_with_a_key_too_many_is_not_valid() -> None:
    """So that the test above can fail."""
    service = charts.one(rendered(), "Service")
    service["spec"]["selecter"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        validate(json.dumps(service), NEWEST)


@each_feature
def test_every_pod_is_allowed_where_pod_security_is_restricted(feature: str) -> None:
    """Init containers and the pod of helm test, too; and no root can be written to."""
    pods = charts.pods(manifests(feature))
    assert len(pods) >= 2
    for pod in pods.values():
        assert pod_security.violations(pod["spec"]) == []
        for container in pod_security.containers(pod["spec"]):
            assert container["securityContext"]["readOnlyRootFilesystem"] is True


@each_feature
def test_no_pod_has_a_token_of_the_cluster(feature: str) -> None:
    """Neither by itself nor by its account."""
    for pod in charts.pods(manifests(feature)).values():
        assert pod["spec"]["automountServiceAccountToken"] is False
    for manifest in manifests(feature):
        if manifest["kind"] == "ServiceAccount":
            assert manifest["automountServiceAccountToken"] is False


@each_feature
def test_every_container_is_bounded(feature: str) -> None:
    """It asks for CPU and memory and has a limit of both, and what it writes to has one, too."""
    for pod in charts.pods(manifests(feature)).values():
        for container in pod_security.containers(pod["spec"]):
            for kind in ("requests", "limits"):
                assert container["resources"][kind].keys() == {"cpu", "memory"}
        for volume in pod["spec"]["volumes"]:
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"]


@each_feature
def test_every_mount_has_its_volume(feature: str) -> None:
    """And every volume is mounted."""
    for pod in charts.pods(manifests(feature)).values():
        mounted = {
            mount["name"]
            for container in pod_security.containers(pod["spec"])
            for mount in container["volumeMounts"]
        }
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}


@each_feature
def test_everything_has_the_recommended_labels(feature: str) -> None:
    """Objects and pods alike."""
    values = charts.feature(feature)
    pods = charts.pods(manifests(feature)).values()
    for labelled in (*manifests(feature), *pods):
        labels = labelled["metadata"]["labels"]
        for name, pattern in LABELS.items():
            assert re.fullmatch(pattern, labels[name]), name
        assert values.get("commonLabels", {}).items() <= labels.items()


@each_feature
def test_no_two_objects_have_one_name(feature: str) -> None:
    """Of one kind."""
    named = [(one["kind"], one["metadata"]["name"]) for one in manifests(feature)]
    assert len(named) == len(set(named))


@each_feature
def test_a_long_release_name_makes_names_that_kubernetes_takes(feature: str) -> None:
    """At most 63 characters, and two long names that begin alike stay two."""
    if "fullnameOverride" in charts.feature(feature):
        return
    long = "a-release-with-a-name-as-long-as-helm-lets-it-be-at-53"
    names = {
        release: {one["metadata"]["name"] for one in manifests(feature, release=release[:53])}
        for release in (long, f"{long[:52]}x")
    }
    for name in set.union(*names.values()):
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", name)
    assert set.intersection(*names.values()) == set()


def pod_name(owner: str) -> str:
    """Give the name that Kubernetes generates for a pod of a ReplicaSet."""
    return f"{owner}-"[:58] + "x2x4z"


@pytest.mark.parametrize(
    ("engine", "most", "longest"),
    [
        ("helm", 37, {"candidate": "-canary-6b86f5bbf4", "baseline": "-baseline-6b86f5bbf4"}),
        ("flagger", 37, {"candidate": "-6b86f5bbf4", "baseline": "-primary-6b86f5bbf4"}),
        (
            "argo",
            29,
            {
                "candidate": "-6b86f5bbf4-999-2-9-canary",
                "baseline": "-6b86f5bbf4-999-2-9-baseline",
            },
        ),
    ],
)
@pytest.mark.parametrize("beyond", [0, 1, 16])
def test_the_pods_of_a_long_name_are_still_known(
    engine: str, most: int, longest: dict[str, str], beyond: int
) -> None:
    """Kubernetes cuts long names, and a comparison finds each side's pods by their whole ones."""
    values = charts.feature("judge" if engine == "helm" else engine)
    long = "timbre".ljust(most + beyond, "x")
    manifests = rendered(values, release=long)
    name = charts.deployment(manifests)["metadata"]["name"]
    assert len(name) <= most
    assert (name == long) is (beyond == 0)
    [container] = charts.pods(manifests)[f"Deployment/{name}-judge"]["spec"]["containers"]
    told = dict(re.findall(r"^--(.+?)=(.*)$", "\n".join(container["args"]), re.MULTILINE))
    known = Names.of_release(told["namespace"], told["name"])
    for side, ending in longest.items():
        pattern = told.get(f"{side}-pods", getattr(known, side))
        assert re.fullmatch(pattern, pod_name(f"{name}{ending}"))


@pytest.mark.parametrize(
    ("release", "values", "name"),
    [
        ("timbre", {}, "timbre"),
        ("my-timbre-2", {}, "my-timbre-2"),
        ("audio", {}, "audio-timbre"),
        ("audio.v2", {}, "audio-v2-timbre"),
        ("audio", {"nameOverride": "emotions"}, "audio-emotions"),
        ("audio", {"fullnameOverride": "emotions"}, "emotions"),
    ],
)
def test_the_name_is_the_release_s_and_the_chart_s(
    release: str, values: charts.Values, name: str
) -> None:
    """The release's alone where that has the chart's in it; or another."""
    manifests = rendered(values, release=release)
    for kind in ("Deployment", "Service", "ConfigMap", "ServiceAccount"):
        assert charts.one(manifests, kind)["metadata"]["name"] == name


@each_feature
def test_helm_3_renders_what_helm_4_does(feature: str) -> None:
    """Byte by byte, once it is read; of one kind, it may be in another order."""

    def ordered(helm: str) -> list[Manifest]:
        found = manifests(feature, helm=helm)
        return sorted(found, key=lambda one: (one["kind"], one["metadata"]["name"]))

    assert ordered("helm3") == ordered("helm")


@pytest.mark.parametrize(("program", "version"), [("helm", "v4."), ("helm3", "v3.")])
def test_both_helms_find_nothing_to_complain_of(program: str, version: str) -> None:
    """`helm lint --strict` with every values file."""
    helm = charts.helm_program(program)
    told = subprocess.run([helm, "version", "--short"], check=True, capture_output=True, text=True)
    assert told.stdout.startswith(version)
    for file in features().values():
        command = [helm, "lint", "--strict", "--quiet", str(CHART), "--values", str(file)]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@each_feature
def test_no_key_is_said_twice(feature: str) -> None:
    """YAML readers differ in which of the two they take."""

    class Strict(yaml.SafeLoader):
        """Refuses a mapping that has a key twice."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
            keys = [self.construct_object(key) for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
            return super().construct_mapping(node, deep)

    text = charts.text(charts.feature(feature))
    assert len(list(yaml.load_all(text, Strict))) >= 5


def test_every_part_of_the_values_has_a_feature() -> None:
    """Each key at the top differs from its default in some values file."""
    default: Manifest = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
    touched = {key for name in features() for key in charts.feature(name)}
    assert default.keys() - touched == set()


NUMBERS: dict[str, Any] = {
    "nameOverride": "123",
    "fullnameOverride": "speech",
    "priorityClassName": "10",
    "tokens": {"existingSecret": "2024", "key": "7"},
    "serviceAccount": {"name": "1e3"},
    "canary": {"enabled": True, "weight": 1, "sticky": {"by": "header", "name": "5"}},
    "networkPolicy": {"enabled": False},
}


@pytest.mark.parametrize(
    "more",
    [
        {"bundle": {"source": "pvc", "pvc": {"claimName": "2"}}},
        {
            "bundle": {
                "source": "registry",
                "registry": {"reference": "oci://a/b:1", "credentialsSecret": "0x1"},
            }
        },
        {
            "bundle": {
                "source": "s3",
                "digest": f"sha256:{'0' * 64}",
                "s3": {"url": "s3://a/b", "region": "3", "credentialsSecret": "4"},
            }
        },
        {
            "gateway": {
                "enabled": True,
                "className": "6",
                "https": {"enabled": True, "secretName": "8"},
            }
        },
        {
            "compare": {
                "enabled": True,
                "golden": {"source": "pvc", "pvc": {"claimName": "9"}},
                "prometheus": {"url": "http://a:1"},
            }
        },
    ],
    ids=["pvc", "registry", "s3", "gateway", "compare"],
)
def test_a_name_that_looks_like_a_number_is_a_name(more: dict[str, Any]) -> None:
    """Kubernetes refuses an object that has a number in its place."""
    values = NUMBERS | {"httpRoute": {"enabled": True}} | more
    if "gateway" not in more:
        values["httpRoute"] = {"enabled": True, "parentRefs": [{"name": "public"}]}
    for manifest in rendered(values):
        assert all(isinstance(name, str) for name in _names(manifest)), manifest
    ingress = {"enabled": True, "className": "1", "tls": {"secretName": "2"}}
    [found] = [
        each
        for each in rendered({"ingress": ingress, "networkPolicy": {"enabled": False}})
        if each["kind"] == "Ingress"
    ]
    assert all(isinstance(name, str) for name in _names(found))


def _names(value: object, key: str = "") -> Iterator[object]:
    """Give what has the key of a name, and every label."""
    if isinstance(value, dict):
        for each, inner in value.items():
            yield from _names(inner, "name" if key in {"labels", "matchLabels"} else each)
    elif isinstance(value, list):
        for each in value:
            yield from _names(each)
    elif key.lower().endswith(("name", "reference")) or key in {"key", "value"}:
        yield value
