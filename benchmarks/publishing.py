"""Where results are read: a report beside the raw data, and a page of docs/."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import click

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"

Results = TypeVar("Results")


class Measured(Protocol):
    """Results that say how they came to be."""

    profile: str

    def busy(self) -> list[Any]:
        """Give what was measured while others used the machine."""


@dataclass(frozen=True, slots=True)
class Page(Generic[Results]):
    """A page of docs/ whose results are between markers, with plots in a folder beside it."""

    file: Path
    plots: str
    """The folder's name."""
    title: str
    """Of a report by itself."""
    write: Callable[[Results, Sequence[str]], str]
    """Write Markdown of results, with the paths of plots as it is to name them."""
    draw: Callable[[Results, Path], Sequence[Path]]
    """Draw plots of results into a folder."""

    def save(self, results: Results, folder: Path) -> Path:
        """Write a report of its own, and its plots, into a folder."""
        report = folder / "report.md"
        report.write_text(f"# {self.title}\n\n{self._text(results, folder)}", encoding="utf-8")
        return report

    def publish(self, results: Results) -> None:
        """Put results into the page, in place of those before."""
        text = self._text(results, self.file.parent / self.plots, f"{self.plots}/")
        self.file.write_text(between(self.file.read_text(encoding="utf-8"), text), encoding="utf-8")

    def _text(self, results: Results, folder: Path, prefix: str = "") -> str:
        folder.mkdir(parents=True, exist_ok=True)
        return self.write(results, [prefix + plot.name for plot in self.draw(results, folder)])


def between(document: str, text: str) -> str:
    """Put a text between the markers of a document, in place of the one before.

    Raises:
        ValueError: the document has no markers.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"there is no {BEGIN} … {END} in it")
    return f"{before}{BEGIN}\n\n{text.strip()}\n\n{END}{after}"


def require_whole(results: Measured) -> None:
    """Refuse to publish what was only tried out.

    Raises:
        click.ClickException: it is not the full profile, or the machine was busy.
    """
    if results.busy() or results.profile != "full":
        raise click.ClickException("only the full profile of a quiet machine is published")
