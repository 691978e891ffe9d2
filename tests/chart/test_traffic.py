"""How clips get in: the Service, routes, Gateways and Ingresses, and what they never pass on."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from service.access import parse
from tests.support import charts
from tests.support.charts import RELEASE, Manifest, kinds, one, rendered
from tests.support.layers import merged

EXACT = ["/", "/docs", "/openapi.json"]
PREFIXES = ["/v1", "/web", "/reference"]
GATEWAYS = ("gateway-http", "gateway-https", "gateway-both", "gateway-cert-manager")


def spec(feature: str, kind: str, name: str = RELEASE) -> dict[str, Any]:
    """Give an object's specification."""
    found: dict[str, Any] = one(rendered(charts.feature(feature)), kind, name)["spec"]
    return found


def names(manifests: tuple[Manifest, ...], kind: str) -> list[str]:
    """Name all objects of a kind."""
    return [each["metadata"]["name"] for each in manifests if each["kind"] == kind]


def attached(feature: str, name: str = RELEASE) -> list[str]:
    """Name the listeners of the release's Gateway that a route is attached to."""
    parents = spec(feature, "HTTPRoute", name)["parentRefs"]
    assert {parent["name"] for parent in parents} == {RELEASE}
    return [parent["sectionName"] for parent in parents]


def listeners(feature: str) -> dict[str, Manifest]:
    """Give the Gateway's listeners by their names."""
    return {found["name"]: found for found in spec(feature, "Gateway")["listeners"]}


def test_nothing_is_published_by_default() -> None:
    """Neither a route nor an Ingress."""
    assert not kinds(rendered()) & {"Gateway", "HTTPRoute", "Ingress"}


def test_the_service_has_the_public_port_only() -> None:
    """Of the stable track's pods."""
    manifests = rendered()
    service = one(manifests, "Service")["spec"]
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(80, "http")]
    assert service["type"] == "ClusterIP"
    assert service["selector"] == one(manifests, "Deployment")["spec"]["selector"]["matchLabels"]


def test_the_service_can_have_another_type_and_port() -> None:
    """And routes follow it."""
    values = merged(charts.feature("extra"), charts.feature("gateway-http"))
    manifests = rendered(values)
    service = one(manifests, "Service")
    assert service["spec"]["type"] == "LoadBalancer"
    assert service["metadata"]["annotations"] == values["service"]["annotations"]
    [rule] = one(manifests, "HTTPRoute")["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "emotions", "port": 8080}]
    assert service["spec"]["ports"][0]["port"] == 8080


@pytest.mark.parametrize("feature", [*GATEWAYS, "gateway-shared"])
def test_a_route_passes_on_the_public_paths_only(feature: str) -> None:
    """To the Service; /metrics, /livez and /readyz are no paths of it."""
    [rule] = spec(feature, "HTTPRoute")["rules"]
    assert [(match["path"]["type"], match["path"]["value"]) for match in rule["matches"]] == [
        *(("Exact", path) for path in EXACT),
        *(("PathPrefix", path) for path in PREFIXES),
    ]
    assert rule["backendRefs"] == [{"name": RELEASE, "port": 80}]


@pytest.mark.parametrize("feature", ["ingress", "ingress-tls"])
def test_an_ingress_passes_on_the_same_paths(feature: str) -> None:
    """For each host."""
    hosts = charts.feature(feature)["ingress"].get("hosts", [None])
    rules = spec(feature, "Ingress")["rules"]
    assert [rule.get("host") for rule in rules] == hosts
    for rule in rules:
        paths = rule["http"]["paths"]
        assert [(path["pathType"], path["path"]) for path in paths] == [
            *(("Exact", path) for path in EXACT),
            *(("Prefix", path) for path in PREFIXES),
        ]
        for path in paths:
            assert path["backend"] == {"service": {"name": RELEASE, "port": {"name": "http"}}}


def test_an_ingress_has_tls_where_it_has_a_certificate() -> None:
    """For all of its hosts."""
    assert "tls" not in spec("ingress", "Ingress")
    hosts = charts.feature("ingress-tls")["ingress"]["hosts"]
    assert spec("ingress-tls", "Ingress")["tls"] == [
        {"secretName": "timbre-example", "hosts": hosts}
    ]
    assert spec("ingress-tls", "Ingress")["ingressClassName"] == "example"


@pytest.mark.parametrize("feature", GATEWAYS)
def test_a_gateway_takes_routes_of_its_own_namespace_only(feature: str) -> None:
    """On every listener."""
    for listener in listeners(feature).values():
        assert listener["allowedRoutes"] == {"namespaces": {"from": "Same"}}
    assert spec(feature, "Gateway")["gatewayClassName"] == "example"


@pytest.mark.parametrize("feature", GATEWAYS)
def test_every_listener_has_a_route_and_every_route_a_listener(feature: str) -> None:
    """One for clips or one for the redirect."""
    routes = names(rendered(charts.feature(feature)), "HTTPRoute")
    sections = [section for route in routes for section in attached(feature, route)]
    assert sorted(sections) == sorted(listeners(feature))


def test_http_is_on_the_port_that_it_is_given() -> None:
    """Without TLS there is nothing else."""
    assert list(listeners("gateway-http")) == ["http"]
    assert listeners("gateway-http")["http"]["port"] == 8000
    assert attached("gateway-http") == ["http"]


def test_https_has_the_certificate_of_the_secret() -> None:
    """For the host name that the route is for."""
    https = listeners("gateway-https")["https"]
    assert (https["protocol"], https["port"], https["hostname"]) == (
        "HTTPS",
        443,
        "timbre.example",
    )
    assert https["tls"] == {"mode": "Terminate", "certificateRefs": [{"name": "timbre-example"}]}
    assert attached("gateway-https") == ["https"]


def test_who_comes_by_http_is_sent_to_https() -> None:
    """By a route of its own, that has no other way on."""
    name = f"{RELEASE}-redirect"
    assert attached("gateway-https", name) == ["http"]
    assert spec("gateway-https", "HTTPRoute", name)["hostnames"] == ["timbre.example"]
    assert spec("gateway-https", "HTTPRoute", name)["rules"] == [
        {
            "filters": [
                {
                    "type": "RequestRedirect",
                    "requestRedirect": {"scheme": "https", "statusCode": 301},
                }
            ]
        }
    ]


def test_http_and_https_can_be_side_by_side() -> None:
    """Without the redirect."""
    assert attached("gateway-both") == ["http", "https"]
    assert names(rendered(charts.feature("gateway-both")), "HTTPRoute") == [RELEASE]


def test_https_can_be_alone() -> None:
    """And then there is nobody to redirect."""
    values = charts.feature("gateway-https")
    values["gateway"]["http"] = {"enabled": False}
    manifests = rendered(values)
    assert names(manifests, "HTTPRoute") == [RELEASE]
    assert [one["name"] for one in one(manifests, "Gateway")["spec"]["listeners"]] == ["https"]


def test_cert_manager_finds_a_listener_for_each_name() -> None:
    """All with one Secret, which it makes."""
    found = listeners("gateway-cert-manager")
    assert {name: found[name].get("hostname") for name in found} == {
        "http": None,
        "https": "timbre.example",
        "https-1": "emotions.example",
    }
    for name in ("https", "https-1"):
        assert found[name]["tls"]["certificateRefs"] == [{"name": f"{RELEASE}-tls"}]
    gateway = one(rendered(charts.feature("gateway-cert-manager")), "Gateway")
    assert gateway["metadata"]["annotations"] == {"cert-manager.io/cluster-issuer": "letsencrypt"}
    assert attached("gateway-cert-manager") == ["https", "https-1"]


def test_a_gateway_that_others_use_is_named_as_it_was_given() -> None:
    """And none is made."""
    values = charts.feature("gateway-shared")
    manifests = rendered(values)
    assert "Gateway" not in kinds(manifests)
    route = one(manifests, "HTTPRoute")
    assert route["spec"]["parentRefs"] == values["httpRoute"]["parentRefs"]
    assert route["spec"]["hostnames"] == values["httpRoute"]["hostnames"]
    assert route["metadata"]["annotations"] == values["httpRoute"]["annotations"]


def test_a_route_to_another_gateway_too_leaves_the_release_s_redirect_out() -> None:
    """Who names the listeners says which of them have clips."""
    values = charts.feature("gateway-https")
    values["httpRoute"]["parentRefs"] = [{"name": "public"}, {"name": RELEASE}]
    assert names(rendered(values), "HTTPRoute") == [RELEASE]


def test_tokens_become_a_file_that_the_server_can_read() -> None:
    """One a line; without any there is no Secret."""
    values = charts.feature("tokens")
    secret = one(rendered(values), "Secret")
    tokens = parse(base64.b64decode(secret["data"]["tokens"]))
    assert [token.decode() for token in tokens] == values["tokens"]["values"]
    assert "Secret" not in kinds(rendered())
    assert "Secret" not in kinds(rendered(charts.feature("tokens-secret")))
