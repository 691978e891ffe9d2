"""What Helm prints at the end: the next command, for these values."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.support import charts
from tests.support.charts import CHART, NAMESPACE, RELEASE, Values


def notes(values: Values) -> str:
    """Give the notes of an installation that is only tried, which Helm 3 does not do alone."""
    command = [charts.helm_program(), "install", RELEASE, str(CHART), "--values", "-"]
    done = subprocess.run(
        [*command, "--namespace", NAMESPACE, "--dry-run=client"],
        input=json.dumps(values),
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.partition("NOTES:\n")[2]


def test_without_a_route_a_port_is_forwarded() -> None:
    """And helm test comes first."""
    said = notes({})
    assert f"helm test {RELEASE} --namespace {NAMESPACE} --logs" in said
    assert f"kubectl --namespace {NAMESPACE} port-forward service/{RELEASE} 3000:80 &" in said
    assert "curl --data-binary @clip.wav http://localhost:3000/v1/classify" in said
    assert f"http://{RELEASE}.{NAMESPACE}:80/v1/classify" in said


@pytest.mark.parametrize(
    ("feature", "url", "command"),
    [
        ("gateway-http", "http://ADDRESS/v1/classify", f"get gateway {RELEASE}"),
        ("gateway-https", "https://timbre.example/v1/classify", f"get gateway {RELEASE}"),
        ("gateway-shared", "https://timbre.example/v1/classify", "httpRoute.parentRefs"),
        ("ingress", "http://ADDRESS/v1/classify", f"get ingress {RELEASE}"),
        ("ingress-tls", "https://timbre.example/v1/classify", f"get ingress {RELEASE}"),
    ],
)
def test_with_a_route_its_address_is_said(feature: str, url: str, command: str) -> None:
    """By the name that it is for, if there is one."""
    said = notes(charts.feature(feature))
    assert f"curl --data-binary @clip.wav {url}" in said
    assert command in said
    assert "port-forward" not in said


def test_the_listener_of_a_shared_gateway_tells_the_scheme() -> None:
    """By its name, since nothing else of it is known."""
    route = charts.feature("gateway-shared")
    for listener, scheme in (("https", "https"), ("https-public", "https"), ("web", "http")):
        route["httpRoute"]["parentRefs"] = [{"name": "public", "sectionName": listener}]
        assert f" {scheme}://" in notes(route)


def test_a_token_is_named_where_one_is_asked_for() -> None:
    """And where none is, that is said."""
    said = notes(charts.feature("tokens"))
    assert 'curl --header "Authorization: Bearer $TIMBRE_TOKEN" --data-binary' in said
    assert "Whoever reaches it may use it" not in said
    assert charts.feature("tokens")["tokens"]["values"][0] not in said
    assert "Whoever reaches it may use it" in notes({})


def test_it_says_that_nothing_bounds_who_reaches_it() -> None:
    """Where policies are disabled."""
    assert "No network policy" in notes(charts.feature("unprotected"))
    assert "No network policy" not in notes({})


def test_a_canary_s_share_and_who_compares_it_are_said() -> None:
    """Or that nobody does."""
    canary = {"canary": {"enabled": True, "weight": 0}}
    said = notes(canary)
    assert "A canary gets 0% of the clips." in said
    assert "Nobody compares it" in said
    url = "http://prometheus.monitoring:9090"
    peers: Values = {"networkPolicy": {"prometheus": [{"namespaceSelector": {}}]}}
    compared = notes({**canary, **peers, "compare": {"enabled": True, "prometheus": {"url": url}}})
    assert f"kubectl --namespace {NAMESPACE} logs job/{RELEASE}-compare" in compared
    assert "canary" not in notes({})
