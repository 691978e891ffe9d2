"""Findings for others: JSON by its schema, a table at a terminal, a page that needs no other."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest
from rich.console import Console

from service.canary import drawing, plots, report
from service.canary.compare import undecided
from service.canary.findings import CheckFacts, Findings, findings, json_schema
from service.canary.observations import Observations
from service.canary.verdict import Outcome, Source
from tests.support.findings import CANDIDATE, CHECKS, LABELS, STABLE, finding

SCHEMA = Path(__file__).parents[2] / "docs" / "verdict.schema.json"
VOID = {"meta", "br", "hr", "img", "link", "input"}


@pytest.fixture(scope="module")
def told() -> Findings:
    """What was found, from every source."""
    return findings(finding())


@pytest.fixture(scope="module")
def page(told: Findings) -> str:
    """The report."""
    return report.html(told)


class TestJson:
    """What programs read."""

    def test_the_schema_is_documented(self, told: Findings) -> None:
        """docs/verdict.schema.json is what the code writes, and takes what was found."""
        assert SCHEMA.read_text(encoding="utf-8") == json_schema(), (
            'python -c "from service.canary import findings; '
            "print(findings.json_schema(), end='')\" > docs/verdict.schema.json"
        )
        schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(json.loads(told.model_dump_json()), schema)

    def test_it_counts_what_was_observed(self, told: Findings) -> None:
        """Of every source."""
        assert told.golden is not None
        assert (told.golden.clips, told.golden.speakers) == (3, 2)
        assert told.golden.stable == [[1, 0, 0], [0, 1, 1]]
        assert told.golden.candidate == [[0, 1, 0], [0, 2, 0]]
        assert told.golden.stable_quantiles_s[50] == 0.02
        assert told.shadow is not None
        assert told.shadow.clips == 18
        assert told.live is not None
        assert told.live.edges_s == [0.1, 0.5]
        candidate = told.live.candidate
        assert (candidate.pods, candidate.blocks, candidate.requests) == (1, 2, 20)
        assert (candidate.errors, candidate.restarts, candidate.seconds) == (2, 1, [8, 10, 2])
        assert (candidate.down, told.live.baseline.down) == (1, 0)

    def test_what_is_no_number_is_null(self, told: Findings) -> None:
        """JSON has no infinity."""
        (p95,) = [check for check in told.checks if check.name == "p95"]
        assert (p95.low, p95.high) == (0.99, None)
        assert json.loads(told.model_dump_json())["checks"][2]["high"] is None

    def test_without_observations_there_is_the_verdict(self) -> None:
        """Which says why."""
        told = findings(replace(finding(), verdict=undecided(0, "No pods."), observations=None))
        assert (told.outcome, told.reason) == (Outcome.INCONCLUSIVE, "No pods.")
        sources = (told.stable, told.candidate, told.golden, told.shadow, told.live)
        assert sources == (None,) * 5
        assert "No pods." in report.html(told)


class TestScreen:
    """What people read at a terminal."""

    def test_it_says_all_that_decided(self, told: Findings) -> None:
        """Verdict, sides, checks and notes, without taking a label for markup."""
        file = io.StringIO()
        Console(file=file, width=200).print(report.screen(told))
        text = file.getvalue()
        assert text.startswith("FAIL at 10%: accuracy fails: It is worse.\n")
        assert "stable: 1.0.0, aaaaaaaaaaaa, fp32, 2 pods, CPU avx2,fma" in text
        assert "1.1.0 or 1.2.0, bbbbbbbbbbbb or cccccccccccc, int8, 1 pod, CPU unknown" in text
        assert re.search(
            r"accuracy +golden +fail +-0.05 +-0.08 to -0.02 +0.02 worse +831 of 200", text
        )
        assert re.search(r"p95 +live +inconclusive +×1.040 +×0.990 to – ", text)
        assert re.search(r"sides +sides +pass +– +– +– +0 +Both", text)
        assert "Note: <i>Something</i> to know." in text


class Page(HTMLParser):
    """Reads a page, and finds what isn't closed or comes from elsewhere."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


class TestPage:
    """What people read in a browser."""

    def test_it_is_well_formed(self, page: str) -> None:
        """Every element is closed in its place; no id is there twice."""
        read = Page(page)
        assert read.open == []
        assert len(set(read.ids)) == len(read.ids)
        assert page.startswith("<!doctype html>") or page.lstrip().startswith("<!doctype html>")

    def test_it_needs_nothing_else(self, page: str) -> None:
        """No script, and no reference that leaves the file."""
        read = Page(page)
        assert not {"script", "link", "img", "iframe", "object", "base", "form"} & set(read.tags)
        references = [
            value for _, name, value in read.attributes if name in {"href", "src", "xlink:href"}
        ]
        assert all(value.startswith("#") for value in references)
        assert not any(name.startswith("on") for _, name, _ in read.attributes)
        assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))
        assert "@import" not in page

    def test_its_figures_have_words(self, page: str) -> None:
        """Each is labelled by a caption that is there; colours are the text's."""
        read = Page(page)
        labels = [
            v for tag, name, v in read.attributes if (tag, name) == ("svg", "aria-labelledby")
        ]
        assert len(labels) == read.tags.count("svg") == 4
        assert set(labels) <= set(read.ids)
        assert drawing.INK not in page
        assert "prefers-color-scheme: dark" in page

    def test_it_says_all_that_decided(self, page: str) -> None:
        """With a label's markup as text."""
        text = Page(page).text
        for said in ("FAIL", "at 10% of the traffic", "It is worse.", "1.1.0 or 1.2.0", LABELS[1]):
            assert said in text
        assert LABELS[1] not in page
        assert "<i>Something</i> to know." in text
        assert "no speech" in text

    def test_one_source_is_a_page_too(self) -> None:
        """Nothing is drawn of what wasn't asked."""
        seen = Observations(STABLE, CANDIDATE)
        text = report.html(findings(replace(finding(), observations=seen)))
        assert Page(text).open == []
        assert "Golden set" not in text
        assert "Live traffic" not in text


def fact(number: int) -> CheckFacts:
    """One of the checks."""
    return findings(finding()).checks[number]


class TestMargins:
    """Where a check is in the figure."""

    def test_worse_is_to_the_right(self) -> None:
        """In margins, whichever direction is worse."""
        assert plots.in_margins(fact(1)) == pytest.approx((2.5, 1.0, 4.0))
        effect, best, worst = plots.in_margins(fact(2)) or (0, 0, 0)
        assert (effect, best) == pytest.approx((0.8, -0.2))
        assert worst == plots.FURTHEST

    def test_without_labels_any_difference_is_to_the_right(self) -> None:
        """Of shadow pairs."""
        assert CHECKS[3].source is Source.SHADOW
        assert plots.in_margins(fact(3)) == pytest.approx((0.1, -0.1, 0.2))

    def test_what_has_no_margin_is_not_drawn(self) -> None:
        """Or a margin of nothing."""
        assert plots.in_margins(fact(0)) is None
        assert plots.in_margins(fact(1).model_copy(update={"margin": 0.0})) is None
