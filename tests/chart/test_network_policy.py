"""Network policies as a table of flows: what passes, and that everything else doesn't."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import charts
from tests.support.charts import NAMESPACE, RELEASE, Values, one, pods, rendered
from tests.support.flows import Address, Pod, Protocol, allowed, selects
from tests.support.layers import merged

HTTP, INTERNAL, JUDGE_PORT, DNS = 3000, 3001, 3002, 53
PEERS: dict[str, Any] = {
    "networkPolicy": {
        "gateway": [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateway"}},
                "podSelector": {"matchLabels": {"app": "gateway"}},
            }
        ],
        "prometheus": [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
        ],
    }
}

GATEWAY = Pod("gateway", {"app": "gateway"})
BESIDE_GATEWAY = Pod("gateway", {"app": "other"})
PROMETHEUS = Pod("monitoring", {"app": "prometheus"})
CLIENT = Pod(NAMESPACE, {"app": "client"})
STRANGER = Pod("elsewhere", {"app": "gateway"})
COREDNS = Pod("kube-system", {"k8s-app": "kube-dns"})
REGISTRY = Pod("elsewhere", {"app": "registry"})
INTERNET, METADATA = Address("203.0.113.9"), Address("169.254.169.254")


def made(kind: str, values: Values | None = None) -> Pod:
    """Give a pod of the release as policies see it."""
    manifests = rendered(values)
    template = pods(manifests)[kind]
    ports = {
        port["name"]: port["containerPort"]
        for container in template["spec"]["containers"]
        for port in container.get("ports", ())
    }
    return Pod(NAMESPACE, template["metadata"]["labels"], ports)


SERVER = made(f"Deployment/{RELEASE}")
TEST = made(f"Pod/{RELEASE}-test")
FOREIGN = Pod(NAMESPACE, {**SERVER.labels, "app.kubernetes.io/instance": "another"}, SERVER.ports)
"""A serving pod of another release in the same namespace."""


def policies(values: Values) -> list[dict[str, Any]]:
    """Give the policies, in the namespace that they are installed into."""
    found = [one for one in rendered(values) if one["kind"] == "NetworkPolicy"]
    for policy in found:
        policy["metadata"]["namespace"] = NAMESPACE
    return found


Flow = tuple[Pod | Address, Pod | Address, int, Protocol]

ALLOWED: dict[str, Flow] = {
    "gateway to http": (GATEWAY, SERVER, HTTP, "TCP"),
    "client of the namespace to http": (CLIENT, SERVER, HTTP, "TCP"),
    "test to http": (TEST, SERVER, HTTP, "TCP"),
    "prometheus to internal": (PROMETHEUS, SERVER, INTERNAL, "TCP"),
    "server to DNS over UDP": (SERVER, COREDNS, DNS, "UDP"),
    "server to DNS over TCP": (SERVER, COREDNS, DNS, "TCP"),
    "test to DNS over UDP": (TEST, COREDNS, DNS, "UDP"),
    "test to DNS over TCP": (TEST, COREDNS, DNS, "TCP"),
}
DENIED: dict[str, Flow] = {
    "gateway to internal": (GATEWAY, SERVER, INTERNAL, "TCP"),
    "gateway to http over UDP": (GATEWAY, SERVER, HTTP, "UDP"),
    "gateway to another port": (GATEWAY, SERVER, 22, "TCP"),
    "a pod beside the gateway to http": (BESIDE_GATEWAY, SERVER, HTTP, "TCP"),
    "client to internal": (CLIENT, SERVER, INTERNAL, "TCP"),
    "prometheus to http": (PROMETHEUS, SERVER, HTTP, "TCP"),
    "another namespace to http": (STRANGER, SERVER, HTTP, "TCP"),
    "another namespace to internal": (STRANGER, SERVER, INTERNAL, "TCP"),
    "the internet to http": (INTERNET, SERVER, HTTP, "TCP"),
    "test to internal": (TEST, SERVER, INTERNAL, "TCP"),
    "anybody to test": (CLIENT, TEST, HTTP, "TCP"),
    "server to the internet": (SERVER, INTERNET, 443, "TCP"),
    "server to the cloud's metadata": (SERVER, METADATA, 80, "TCP"),
    "server to the internet's DNS": (SERVER, INTERNET, DNS, "UDP"),
    "server to another port of DNS": (SERVER, COREDNS, 443, "TCP"),
    "server to another namespace": (SERVER, STRANGER, HTTP, "TCP"),
    "server to itself": (SERVER, SERVER, INTERNAL, "TCP"),
    "test to the internet": (TEST, INTERNET, 443, "TCP"),
    "test to another release": (TEST, FOREIGN, HTTP, "TCP"),
}


@pytest.mark.parametrize("flow", ALLOWED.values(), ids=ALLOWED)
def test_what_is_needed_passes(flow: Flow) -> None:
    """With the gateway's and Prometheus' pods named."""
    assert allowed(policies(PEERS), *flow)


@pytest.mark.parametrize("flow", DENIED.values(), ids=DENIED)
def test_everything_else_does_not(flow: Flow) -> None:
    """With the same values."""
    assert not allowed(policies(PEERS), *flow)


@pytest.mark.parametrize(
    "flow", ["gateway to http", "prometheus to internal"], ids=["gateway", "prometheus"]
)
def test_who_is_not_named_does_not_pass(flow: str) -> None:
    """By default."""
    assert not allowed(policies({}), *ALLOWED[flow])


CANARY_PEERS: Values = merged(
    PEERS,
    charts.feature("canary-shadow"),
    {
        "compare": {
            "enabled": True,
            "prometheus": {"url": "http://prometheus.monitoring:9090"},
            "golden": {"source": "pvc", "pvc": {"claimName": "golden"}},
        },
        "judge": {"enabled": True},
        "networkPolicy": {"rollouts": [{"namespaceSelector": {"matchLabels": {"team": "cd"}}}]},
    },
)
CANARY = made(f"Deployment/{RELEASE}-canary", CANARY_PEERS)
BASELINE = made(f"Deployment/{RELEASE}-baseline", CANARY_PEERS)
JUDGE = made(f"Deployment/{RELEASE}-judge", CANARY_PEERS)
COMPARE = made(f"Job/{RELEASE}-compare", CANARY_PEERS)
ENGINE = Pod("argo", {"app": "controller"}, namespace_more={"team": "cd"})

JUDGED: dict[str, Flow] = {
    "stable to the canary's internal": (SERVER, CANARY, INTERNAL, "TCP"),
    "stable to the baseline's internal": (SERVER, BASELINE, INTERNAL, "TCP"),
    "gateway to the canary": (GATEWAY, CANARY, HTTP, "TCP"),
    "gateway to the baseline": (GATEWAY, BASELINE, HTTP, "TCP"),
    "prometheus to the canary's internal": (PROMETHEUS, CANARY, INTERNAL, "TCP"),
    "prometheus to the judge": (PROMETHEUS, JUDGE, JUDGE_PORT, "TCP"),
    "an engine to the judge": (ENGINE, JUDGE, JUDGE_PORT, "TCP"),
    **{
        f"{who} to {whom}": (source, target, port, "TCP")
        for who, source in {"judge": JUDGE, "compare": COMPARE}.items()
        for whom, target, port in (
            ("stable", SERVER, HTTP),
            ("the canary", CANARY, HTTP),
            ("prometheus", PROMETHEUS, 9090),
            ("DNS over TCP", COREDNS, DNS),
        )
    },
}
NOT_JUDGED: dict[str, Flow] = {
    "stable to itself": (SERVER, SERVER, INTERNAL, "TCP"),
    "stable to the canary's http": (SERVER, CANARY, HTTP, "TCP"),
    "the canary to stable": (CANARY, SERVER, INTERNAL, "TCP"),
    "the canary to itself": (CANARY, CANARY, INTERNAL, "TCP"),
    "the canary to the baseline": (CANARY, BASELINE, INTERNAL, "TCP"),
    "the baseline to the canary": (BASELINE, CANARY, INTERNAL, "TCP"),
    "the canary to the internet": (CANARY, INTERNET, 443, "TCP"),
    "client to the canary's internal": (CLIENT, CANARY, INTERNAL, "TCP"),
    "gateway to the canary's internal": (GATEWAY, CANARY, INTERNAL, "TCP"),
    "judge to the canary's internal": (JUDGE, CANARY, INTERNAL, "TCP"),
    "judge to the internet": (JUDGE, INTERNET, 443, "TCP"),
    "judge to another port of prometheus": (JUDGE, PROMETHEUS, 9091, "TCP"),
    "judge to the engine": (JUDGE, ENGINE, 443, "TCP"),
    "client to the judge": (CLIENT, JUDGE, JUDGE_PORT, "TCP"),
    "gateway to the judge": (GATEWAY, JUDGE, JUDGE_PORT, "TCP"),
    "an engine to a server": (ENGINE, SERVER, HTTP, "TCP"),
    "anybody to compare": (CLIENT, COMPARE, HTTP, "TCP"),
    "the judge to another release": (JUDGE, FOREIGN, HTTP, "TCP"),
}


@pytest.mark.parametrize("flow", JUDGED.values(), ids=JUDGED)
def test_what_a_comparison_needs_passes(flow: Flow) -> None:
    """Where there is a canary, and both ways to judge it."""
    assert allowed(policies(CANARY_PEERS), *flow)


@pytest.mark.parametrize("flow", NOT_JUDGED.values(), ids=NOT_JUDGED)
def test_nothing_else_does_with_a_canary(flow: Flow) -> None:
    """With the same values."""
    assert not allowed(policies(CANARY_PEERS), *flow)


@pytest.mark.parametrize("flow", ALLOWED.values(), ids=ALLOWED)
def test_a_canary_takes_nothing_away(flow: Flow) -> None:
    """What passed before it still does."""
    assert allowed(policies(CANARY_PEERS), *flow)


def test_without_a_golden_set_the_servers_are_not_asked() -> None:
    """And without Prometheus, it isn't; the pods of the namespace may come in as clients."""
    no_golden = merged(CANARY_PEERS, {"compare": {"golden": {"source": ""}}})
    assert not allowed(policies(no_golden), COMPARE, SERVER, HTTP)
    assert allowed(policies(no_golden), COMPARE, PROMETHEUS, 9090)
    no_prometheus = merged(CANARY_PEERS, {"compare": {"prometheus": {"url": ""}}})
    assert allowed(policies(no_prometheus), COMPARE, SERVER, HTTP)
    assert not allowed(policies(no_prometheus), COMPARE, PROMETHEUS, 9090)


def test_prometheus_may_have_another_port_than_its_service() -> None:
    """What a policy opens is the pod's, as it is said; the Service's leads to it."""
    behind = {
        "compare": {"prometheus": {"url": "http://prometheus.monitoring"}},
        "networkPolicy": {"prometheusPort": 9090},
    }
    for who in (COMPARE, JUDGE):
        assert allowed(policies(merged(CANARY_PEERS, behind)), who, PROMETHEUS, 9090)
        assert not allowed(policies(merged(CANARY_PEERS, behind)), who, PROMETHEUS, 80)


def test_the_golden_set_comes_in_where_clients_do_not() -> None:
    """Neither needs the other."""
    closed = merged(CANARY_PEERS, {"networkPolicy": {"clients": []}})
    assert allowed(policies(closed), COMPARE, CANARY, HTTP)
    assert not allowed(policies(closed), CLIENT, CANARY, HTTP)


def test_a_canary_s_bundle_may_come_from_another_store() -> None:
    """Which stable doesn't reach."""
    values = merged(PEERS, charts.feature("canary"))
    assert allowed(policies(values), CANARY, INTERNET, 5000)
    assert not allowed(policies(values), SERVER, INTERNET, 5000)
    assert not allowed(policies(values), BASELINE, INTERNET, 5000)


def test_flagger_s_primary_reaches_the_candidate_and_not_the_other_way_round() -> None:
    """By the one label that tells them apart."""
    values = charts.feature("flagger")
    candidate = made(f"Deployment/{RELEASE}", values)
    primary = Pod(NAMESPACE, {**candidate.labels, "app": f"{RELEASE}-primary"}, candidate.ports)
    assert allowed(policies(values), primary, candidate, INTERNAL)
    assert not allowed(policies(values), candidate, primary, INTERNAL)
    for pod in (primary, candidate):
        assert allowed(policies(values), Pod("gateway-system"), pod, HTTP)
        assert allowed(policies(values), PROMETHEUS, pod, INTERNAL)


def test_what_the_chart_knows_nothing_of_is_left_alone() -> None:
    """Pods of other releases in the namespace keep their own rules."""
    assert allowed(policies(PEERS), STRANGER, FOREIGN, INTERNAL)
    assert allowed(policies(PEERS), FOREIGN, INTERNET, 443)


def test_another_pod_of_the_release_is_shut_in_until_a_policy_names_it() -> None:
    """Whatever its component."""
    other = Pod(NAMESPACE, {**TEST.labels, "app.kubernetes.io/component": "other"}, {"http": HTTP})
    flows: list[tuple[Pod, Pod | Address]] = [
        (CLIENT, other),
        (other, INTERNET),
        (other, COREDNS),
    ]
    for source, target in flows:
        assert not allowed(policies(PEERS), source, target, DNS)


def test_clients_can_be_left_out() -> None:
    """The release's own test still passes."""
    values: Values = {"networkPolicy": {"clients": []}}
    assert not allowed(policies(values), CLIENT, SERVER, HTTP)
    assert allowed(policies(values), TEST, SERVER, HTTP)


@pytest.mark.parametrize(
    ("feature", "target", "port"),
    [
        ("bundle-registry", Address("192.0.2.77"), 5000),
        ("bundle-registry-insecure", Pod(NAMESPACE, {"app": "registry"}), 80),
        ("bundle-s3", INTERNET, 443),
        ("bundle-s3-endpoint", Pod("storage"), 9000),
    ],
)
def test_the_bundle_s_store_is_reached_by_the_port_of_its_address(
    feature: str, target: Pod | Address, port: int
) -> None:
    """And by 443, where its tokens or files may be; the default has no store and reaches none."""
    values = charts.feature(feature)
    assert allowed(policies(values), SERVER, target, port)
    assert allowed(policies(values), SERVER, target, 443)
    assert not allowed(policies(values), SERVER, target, port + 1)
    assert not allowed(policies(values), SERVER, target, port, "UDP")
    assert not allowed(policies(values), TEST, target, port)
    assert not allowed(policies({}), SERVER, target, port)


def test_a_store_s_ports_can_be_given() -> None:
    """For one behind a Service, whose pods have another than its address."""
    values = merged(
        charts.feature("bundle-s3-endpoint"), {"networkPolicy": {"registryPorts": [9090]}}
    )
    assert allowed(policies(values), SERVER, Pod("storage"), 9090)
    for port in (443, 9000):
        assert not allowed(policies(values), SERVER, Pod("storage"), port)


def test_dns_may_have_other_ports() -> None:
    """As pods have them, which is where a policy is held against."""
    values = {"networkPolicy": {"dnsPorts": [5353]}}
    for protocol in ("UDP", "TCP"):
        assert allowed(policies(values), SERVER, COREDNS, 5353, protocol)
        assert allowed(policies(values), TEST, COREDNS, 5353, protocol)
    assert not allowed(policies(values), SERVER, COREDNS, DNS, "UDP")


@pytest.mark.parametrize("feature", ["bundle-pvc", "bundle-volume", "bundle-image"])
def test_what_the_kubelet_fetches_needs_no_way_out(feature: str) -> None:
    """So there is none."""
    for port in (80, 443):
        assert not allowed(policies(charts.feature(feature)), SERVER, INTERNET, port)
        assert not allowed(policies(charts.feature(feature)), SERVER, REGISTRY, port)


@pytest.mark.parametrize(
    ("reference", "insecure", "port"),
    [
        ("oci://registry.example/a/b:1", False, 443),
        ("oci://registry.example/a/b:1", True, 80),
        ("oci://registry.example:5000/a/b:1", True, 5000),
        ("oci://registry.example:8443/a/b@sha256:0000", False, 8443),
    ],
)
def test_a_registry_s_port_is_read_from_its_reference(
    reference: str,
    insecure: bool,  # noqa: FBT001
    port: int,
) -> None:
    """What follows the last colon is a tag, or a digest."""
    registry = {"reference": reference, "insecure": insecure}
    values = {"bundle": {"source": "registry", "registry": registry}}
    assert allowed(policies(values), SERVER, INTERNET, port)
    assert not allowed(policies(values), SERVER, INTERNET, 1)


def test_further_rules_are_handed_on() -> None:
    """For the server, and not for the test."""
    values = {"networkPolicy": charts.feature("extra")["networkPolicy"]}
    assert allowed(policies(values), SERVER, Address("198.51.100.7"), 4317)
    assert not allowed(policies(values), TEST, Address("198.51.100.7"), 4317)


def test_without_policies_there_are_none() -> None:
    """For clusters that have something of their own."""
    assert policies(charts.feature("unprotected")) == []


def test_selectors_are_disjoint() -> None:
    """What serves, tests or belongs to another release is never taken for something else."""
    manifests = rendered(charts.feature("replicas"))
    selector = one(manifests, "Deployment")["spec"]["selector"]
    others = [
        TEST,
        FOREIGN,
        *(Pod(NAMESPACE, {**SERVER.labels, "track": track}) for track in ("canary", "baseline")),
        *(
            Pod(NAMESPACE, {**TEST.labels, "app.kubernetes.io/component": component})
            for component in ("judge", "compare")
        ),
    ]
    service = {"matchLabels": one(manifests, "Service")["spec"]["selector"]}
    budget = one(manifests, "PodDisruptionBudget")["spec"]["selector"]
    for found in (selector, service, budget):
        assert selects(found, SERVER.labels)
        assert not [other for other in others if selects(found, other.labels)]
