"""Where results are put: beside the raw data, and into a page between its markers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import pytest

from benchmarks.canary.command import PAGE as CANARY
from benchmarks.peers.command import PAGE as PEERS
from benchmarks.publishing import BEGIN, END, Page, between, require_whole
from benchmarks.soak.command import PAGE as SOAK


class Results:
    """What was measured: a word."""

    def __init__(self, word: str, profile: str = "full", *, busy: bool = False) -> None:
        """Take how it came to be, too."""
        self.word = word
        self.profile = profile
        self._busy = busy

    def busy(self) -> list[str]:
        """Give what others disturbed."""
        return [self.word] * self._busy


def a_page(folder: Path) -> Page[Results]:
    """Make a page with a method around its results."""
    file = folder / "docs" / "speed.md"
    file.parent.mkdir()
    file.write_text(f"# Speed\n\nHow.\n\n{BEGIN}\n\nOld.\n\n{END}\n\nWhy.\n")

    def write(results: Results, plots: Sequence[str]) -> str:
        return "\n\n".join([results.word, *(f"![]({plot})" for plot in plots)]) + "\n"

    def draw(results: Results, into: Path) -> list[Path]:
        (into / "plot.svg").write_text(results.word)
        return [into / "plot.svg"]

    return Page(file, "speed", "A run", write, draw)


def test_results_are_published_in_place_of_those_before(tmp_path: Path) -> None:
    """With their plots, and what is around them stays."""
    page = a_page(tmp_path)
    page.publish(Results("First."))
    page.publish(Results("Second."))
    assert page.file.read_text() == (
        f"# Speed\n\nHow.\n\n{BEGIN}\n\nSecond.\n\n![](speed/plot.svg)\n\n{END}\n\nWhy.\n"
    )
    assert (tmp_path / "docs/speed/plot.svg").read_text() == "Second."


def test_a_report_stands_by_itself(tmp_path: Path) -> None:
    """It names the plots beside it, and leaves the page alone."""
    page = a_page(tmp_path)
    before = page.file.read_text()
    saved = page.save(Results("First."), tmp_path / "run")
    assert saved.read_text() == "# A run\n\nFirst.\n\n![](plot.svg)\n"
    assert (tmp_path / "run/plot.svg").exists()
    assert page.file.read_text() == before


def test_a_page_without_markers_is_no_place_for_results() -> None:
    """Nothing of it is lost."""
    with pytest.raises(ValueError, match="results: begin"):
        between("nothing", "First")


@pytest.mark.parametrize("page", [CANARY, PEERS, SOAK], ids=lambda page: page.file.stem)
def test_pages_of_the_documentation_have_their_place(page: Page[object]) -> None:
    """And the folder of their plots is there."""
    assert between(page.file.read_text(encoding="utf-8"), "First")
    assert list((page.file.parent / page.plots).glob("*.svg"))


@pytest.mark.parametrize(
    "results", [Results("", "quick"), Results("", busy=True)], ids=["quick", "busy"]
)
def test_what_was_only_tried_is_not_published(results: Results) -> None:
    """Neither a short run, nor one of a busy machine."""
    require_whole(Results(""))
    with pytest.raises(click.ClickException, match="only the full profile"):
        require_whole(results)
