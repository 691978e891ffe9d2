"""The dashboard: Grafana can show it, and every panel says whose figures it has, in what unit."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import monitoring
from tests.support.monitoring import promtool

UNITS = {"short", "none", "s", "bytes", "reqps", "ops", "percentunit"}
COLUMNS = 24
"""Of Grafana's grid."""
DASHBOARD = monitoring.dashboard()
PANELS = {panel["title"]: panel for panel in monitoring.panels()}
TARGETS = [
    pytest.param(target, id=f"{title} {target['refId']}")
    for title, panel in PANELS.items()
    for target in panel["targets"]
]


def test_panels_have_ids_of_their_own() -> None:
    """Rows too; and no two panels one title."""
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert len(PANELS) == len(monitoring.panels())


def test_panels_lie_side_by_side() -> None:
    """Within the grid, and none on another."""
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= COLUMNS, panel["title"]
        cells = itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        )
        for cell in cells:
            assert taken.setdefault(cell, panel["title"]) == panel["title"]


@pytest.mark.parametrize("title", PANELS)
def test_a_panel_says_what_it_shows(title: str) -> None:
    """In a sentence, in a unit, from the data source that was chosen."""
    panel = PANELS[title]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    assert panel["datasource"] == {"type": "prometheus", "uid": "$datasource"}
    letters = [target["refId"] for target in panel["targets"]]
    assert letters == list("ABCD")[: len(letters)]


@pytest.mark.parametrize("target", TARGETS)
def test_a_query_is_of_the_release_and_tracks_that_were_chosen(target: dict[str, Any]) -> None:
    """In each of its selectors; what rates are over is Grafana's choice."""
    chosen = "namespace='$namespace',app_kubernetes_io_instance='$release',track=~'$track'"
    for selector in monitoring.selectors(target["expr"]):
        assert selector.matchers.startswith(f"{{{chosen}")
    assert "rate(" not in target["expr"] or "[$__rate_interval]" in target["expr"]
    assert target.get("format") == "table" or target["legendFormat"]


def test_the_variables_are_chosen_from_what_there_is() -> None:
    """A data source, its namespaces with Timbre, their releases, and their tracks."""
    variables = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
    assert list(variables) == ["datasource", "namespace", "release", "track"]
    assert variables["datasource"]["query"] == "prometheus"
    for name, label in (
        ("namespace", "namespace"),
        ("release", "app_kubernetes_io_instance"),
        ("track", "track"),
    ):
        asked = variables[name]["query"].removeprefix("label_values(").removesuffix(")")
        selector, _, last = asked.rpartition(", ")
        assert last == label
        assert monitoring.metric_names(selector) == {"timbre_ready"}
        assert variables[name]["datasource"] == {"type": "prometheus", "uid": "$datasource"}
    assert variables["track"]["multi"]
    assert variables["track"]["includeAll"]


@pytest.mark.needs_prometheus
def test_promtool_takes_every_query(tmp_path: Path) -> None:
    """Each as if it were recorded, since that is what promtool reads."""
    rules = [
        {"record": f"panel:query:{number}", "expr": query.expr}
        for number, query in enumerate(monitoring.queries())
    ]
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stdout
    assert f"{len(rules)} rules found" in checked.stdout
