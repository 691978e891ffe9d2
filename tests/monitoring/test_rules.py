"""The rules: Prometheus takes them, each alert fires when it should, a runbook says what then."""

from __future__ import annotations

import re
from itertools import chain

import pytest

from tests.support import monitoring
from tests.support.monitoring import ANY_RELEASE, CASES, RULES, RUNBOOK, cases, promtool

ALERTS = monitoring.alerts()
PAGE = RUNBOOK.read_text(encoding="utf-8")


def firing(name: str) -> list[list[str]]:
    """For each time at which the cases ask whether an alert fires, the alerts that are expected."""
    asked = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
    return [
        [sample["labels"] for sample in question["exp_samples"]]
        for case in cases()
        for question in case["promql_expr_test"]
        if question["expr"] == asked
    ]


@pytest.mark.needs_prometheus
def test_promtool_takes_the_rules() -> None:
    """Expressions, durations and the templates of annotations."""
    checked = promtool("check", "rules", str(RULES))
    assert checked.returncode == 0, checked.stdout
    assert f"{len(monitoring.rules())} rules found" in checked.stdout


@pytest.mark.needs_prometheus
def test_alerts_fire_when_they_should() -> None:
    """On series made for each, not earlier, and none on healthy ones."""
    tested = promtool("test", "rules", str(CASES))
    assert tested.returncode == 0, tested.stdout


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_a_case_in_which_it_fires_and_one_in_which_it_waits(name: str) -> None:
    """The second is on the same series, a while before."""
    expected = firing(name)
    assert any(expected)
    assert not all(expected)
    assert all(f'alertname="{name}"' in labels for labels in chain(*expected))


def test_healthy_series_are_of_all_that_rules_read() -> None:
    """An alert that is silent for lack of a series would prove nothing."""
    [healthy] = [case for case in cases() if case["name"] == "healthy"]
    made = {series["series"].partition("{")[0] for series in healthy["input_series"]}
    read = set[str]().union(*(monitoring.metric_names(rule["expr"]) for rule in monitoring.rules()))
    assert made == read - monitoring.records().keys()
    for question in healthy["promql_expr_test"]:
        if question["expr"].startswith("ALERTS"):
            assert question["exp_samples"] == []


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do(name: str) -> None:
    """Its severity, how long it waits, what it is about, and where its runbook is."""
    alert = ALERTS[name]
    assert alert["labels"] == {"severity": alert["labels"]["severity"]}
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"[1-9]\d*m", alert["for"])
    assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert page == "https://github.com/timbre-audio/timbre/blob/main/docs/alerts.md"
    assert anchor == name.lower()
    assert re.search(rf"^### {name}\n\n[A-Z]", PAGE, re.MULTILINE)


@pytest.mark.parametrize("name", ALERTS)
def test_a_description_names_labels_that_the_alert_has(name: str) -> None:
    """Prometheus prints nothing for a label that isn't there."""
    named = set(re.findall(r"\$labels\.(\w+)", ALERTS[name]["annotations"]["description"]))
    fired = [set(re.findall(r"(\w+)=", labels)) for labels in chain(*firing(name))]
    assert named
    assert any(named <= labels for labels in fired)


def test_the_runbook_lists_the_alerts() -> None:
    """With the severity, the time and the summary that they have."""
    rows = re.findall(r"^\| \[(\w+)\]\(#(\w+)\) \| (\w+) \| (\w+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert rows == [
        (
            name,
            name.lower(),
            alert["labels"]["severity"],
            alert["for"],
            alert["annotations"]["summary"],
        )
        for name, alert in ALERTS.items()
    ]
    assert re.findall(r"^### (\w+)$", PAGE, re.MULTILINE) == list(ALERTS)


def test_the_runbook_lists_what_is_recorded() -> None:
    """So that a threshold of one's own needs no reading of the rules."""
    assert set(re.findall(r"`(track:\w+:\w+)`", PAGE)) == monitoring.records().keys()


def test_every_selector_takes_any_release() -> None:
    """The chart replaces just that. cAdvisor knows no releases; its series are joined with pods."""
    for rule in monitoring.rules():
        for selector in monitoring.selectors(rule["expr"]):
            if selector.metric not in monitoring.FOREIGN:
                assert selector.matchers.startswith(f"{{{ANY_RELEASE}"), (rule, selector)
    assert RULES.read_text(encoding="utf-8").count(ANY_RELEASE) == sum(
        ANY_RELEASE in selector.matchers
        for rule in monitoring.rules()
        for selector in monitoring.selectors(rule["expr"])
    )
