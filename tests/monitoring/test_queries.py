"""What rules, dashboard and autoscalers ask for are metrics and labels that the service has."""

from __future__ import annotations

import re

import pytest

from service.metrics import Metrics
from tests.support import charts, docs, monitoring
from tests.support.monitoring import Query, Selector

INFO_LABELS = {
    "timbre_model_info": {
        *("name", "version", "digest", "runtime", "precision"),
        *("precision_reason", "streams", "threads", "track", "cpu_features"),
    }
}
"""What app.py tells of a model; a live server is asked in test_live.py."""

JUDGE = {name: {"outcome"} for name in monitoring.OF_THE_JUDGE}

QUERIES = {query.where: query for query in monitoring.queries()}


def exposed() -> dict[str, set[str]]:
    """Name every series that /metrics can have, and its own labels."""
    metrics = Metrics()
    found: dict[str, set[str]] = {}
    for metric in docs.metrics(metrics):
        labels = set(metric._labelnames)
        name = metric._name or ""
        match metric._type:
            case "counter":
                found[f"{name}_total"] = labels
            case "histogram":
                found |= {f"{name}_sum": labels, f"{name}_count": labels}
                found[f"{name}_bucket"] = labels | {"le"}
            case "info":
                found[f"{name}_info"] = labels | INFO_LABELS.get(f"{name}_info", set())
            case _:
                found[name] = labels
    for family in metrics.registry.collect():
        if family.name.startswith("process_"):
            found |= {sample.name: set() for sample in family.samples}
    return found


EXPOSED = exposed() | {name: {"container"} for name in monitoring.FOREIGN} | {"up": set()} | JUDGE


def scaling() -> str:
    """What the chart has KEDA ask."""
    scaled = charts.one(charts.rendered(charts.feature("keda")), "ScaledObject")
    query: str = scaled["spec"]["triggers"][0]["metadata"]["query"]
    return query


def test_every_metric_is_the_service_s() -> None:
    """But for `up`, which is Prometheus' own, and what cAdvisor measures."""
    for query in QUERIES.values():
        assert monitoring.metric_names(query.expr) <= EXPOSED.keys(), query


def test_what_keda_asks_is_the_service_s() -> None:
    """By the metric's name and the labels that every scraped pod has."""
    for selector in monitoring.selectors(scaling()):
        assert selector.metric in EXPOSED
        assert selector.labels <= monitoring.TARGET_LABELS


def test_every_label_is_one_that_the_metric_has() -> None:
    """Its own, or one that scraping adds: in matchers, and in what is grouped by."""
    for query in QUERIES.values():
        selectors = monitoring.selectors(query.expr)
        for selector in selectors:
            known = EXPOSED[selector.metric] | monitoring.TARGET_LABELS
            assert selector.labels <= known, (query.where, selector)
        known = monitoring.TARGET_LABELS.union(*(EXPOSED[each.metric] for each in selectors))
        for grouping in re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", query.expr):
            assert set(re.split(r",\s*", grouping)) <= known, (query.where, grouping)


def test_every_query_is_of_one_release() -> None:
    """No two are from one place, and none sees another namespace or release."""
    assert len(QUERIES) == len(list(monitoring.queries()))
    for query in monitoring.queries("audio", "audio-timbre"):
        for selector in monitoring.selectors(query.expr):
            if selector.metric not in monitoring.FOREIGN:
                assert {"namespace", "app_kubernetes_io_instance"} <= selector.labels, query
                assert "audio-timbre" in selector.matchers
        assert "$" not in query.expr
        assert not monitoring.metric_names(query.expr) & monitoring.records().keys()


def test_nearly_every_query_has_data_in_a_healthy_release() -> None:
    """Only what happens to some, what alerts compare, and what is of candidates may be empty."""
    empty = {query.where for query in QUERIES.values() if not query.expects_data}
    assert empty == {
        *(f"alert {name}" for name in monitoring.alerts()),
        "alert TimbreCanaryFailed reads timbre_canary_verdict",
        "alert TimbreDecodersLost reads timbre_decoder_restarts_total",
        "alert TimbreMemoryNearLimit reads container_memory_working_set_bytes",
        "alert TimbreMemoryNearLimit reads container_spec_memory_limit_bytes",
        "dashboard: Confidence beside stable's [A]",
        "dashboard: Confidence beside stable's [B]",
        "dashboard: Confidence beside stable's [C]",
        "dashboard: Copies of clips [A]",
        "dashboard: Problems by type [A]",
        "dashboard: Windows [C]",
        "dashboard: Cut off and lost [A]",
        "dashboard: Cut off and lost [B]",
    }


@pytest.mark.parametrize(
    ("expr", "read"),
    [
        ("up", [("up", "")]),
        ('rate(a_total{b="c{d}",e=~"x|y"}[5m])', [("a_total", '{b="c{d}",e=~"x|y"}')]),
        (
            "sum by (a, b) (c_sum) / on (a) group_left sum(d{e='f g'})",
            [
                ("c_sum", ""),
                ("d", "{e='f g'}"),
            ],
        ),
        ("0 * t:a:b{c='d'} or vector(0) and e > bool 2", [("t:a:b", "{c='d'}"), ("e", "")]),
    ],
)
def test_selectors_are_told_out_of_an_expression(expr: str, read: list[tuple[str, str]]) -> None:
    """Not functions, groupings, words, nor what is in strings."""
    assert monitoring.selectors(expr) == [Selector(*each) for each in read]


def test_labels_are_told_out_of_matchers() -> None:
    """Whatever their strings say."""
    assert Selector("a", '{b="c=d",e!~"f",g=~\'h\'}').labels == {"b", "e", "g"}


def test_recorded_names_are_written_out() -> None:
    """All of them, the ones within others too."""
    whole = monitoring.in_full("track:timbre_errors:ratio5m{a='b'} > 1")
    assert whole.startswith("(")
    assert whole.endswith(") > 1")
    assert monitoring.metric_names(whole) == {"timbre_requests_total"}


def test_a_range_of_what_is_recorded_is_a_subquery() -> None:
    """Since ranges are of series, which it is none of when it isn't recorded."""
    whole = monitoring.in_full("last_over_time(track:timbre_ready:sum{a='b'}[1d])")
    assert whole.endswith(")[1d:])")


def test_a_query_is_what_it_says() -> None:
    """Two alike are equal, so that tests can tell them apart."""
    assert Query("a", "b", expects_data=True) == Query("a", "b", expects_data=True)
