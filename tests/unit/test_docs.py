"""The reference pages say what the code does, all of it."""

from __future__ import annotations

import re

import pytest

from service import problems
from service.metrics import Metrics
from service.settings import Settings, variable
from tests.support import docs

PAGES = docs.pages()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_what_the_code_would_write(name: str) -> None:
    """If not: `python -m tests.support.docs --write`, and read what has changed."""
    assert (docs.DOCS / name).read_text(encoding="utf-8") == PAGES[name]


def first_column(page: str) -> list[str]:
    """Name what the rows of a page's table are about."""
    return re.findall(r"^\| `([^`]+)`", PAGES[page], re.MULTILINE)


def test_every_setting_is_documented() -> None:
    """With a meaning: its docstring."""
    assert first_column("settings.md") == [variable(name) for name in Settings.model_fields]
    assert all(field.description for field in Settings.model_fields.values())


def test_every_metric_is_documented() -> None:
    """Under the name it is exposed with, and all of them begin alike."""
    exposed = {
        family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        for family in Metrics().registry.collect()
        if family.name.startswith("timbre")
    }
    assert set(first_column("metrics.md")) == exposed
    assert len(exposed) == len(docs.metrics(Metrics()))
    assert all(name.startswith("timbre_") for name in exposed)


def test_every_problem_is_documented() -> None:
    """With its status."""
    rows = re.findall(
        r"^\| (\d+) \| `urn:timbre:problem:([^`]+)`", PAGES["errors.md"], re.MULTILINE
    )
    assert {slug: int(status) for status, slug in rows} == problems.STATUS
