"""What the tests measured, for a program and for people. Pure, but for writing the two files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.report import table

Row = Mapping[str, object]


@dataclass
class Figures:
    """Sections in the order in which the tests came to them."""

    sections: dict[str, list[Row]] = field(default_factory=dict)

    def add(self, section: str, **row: object) -> None:
        """Add a row; a section's rows have the same columns, or each is a table of its own."""
        self.sections.setdefault(section, []).append(row)

    def rows(self, section: str) -> Sequence[Row]:
        """Rows of a section so far."""
        return self.sections.get(section, [])

    def total(self, section: str, column: str) -> int:
        """Sum a column of whole numbers."""
        return sum(int(str(row[column])) for row in self.rows(section))

    def save(self, folder: Path) -> None:
        """Write figures.json and report.md."""
        folder.mkdir(parents=True, exist_ok=True)
        # Strict JSON has no NaN; what was not measured is null.
        plain = {
            section: [{name: _plain(value) for name, value in row.items()} for row in rows]
            for section, rows in self.sections.items()
        }
        text = json.dumps(plain, indent=1, ensure_ascii=False, allow_nan=False)
        (folder / "figures.json").write_text(text + "\n", encoding="utf-8")
        (folder / "report.md").write_text(page(self.sections), encoding="utf-8")


def page(sections: Mapping[str, Sequence[Row]]) -> str:
    """Write the sections as Markdown; a single row is easier to read as a column."""
    parts = []
    for title, rows in sections.items():
        said = f"## {title}\n"
        for block in _blocks(rows):
            columns = list(block[0])
            cells = [[written(row[name]) for name in columns] for row in block]
            if len(block) == 1:
                said += "\n" + table(("", ""), list(zip(columns, cells[0], strict=True)))
            else:
                said += "\n" + table(columns, cells)
        parts.append(said)
    return "\n".join(parts)


def written(value: object) -> str:
    """Write a figure for people."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {written(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(written(each) for each in value) or "none"
    return str(value)


def _blocks(rows: Sequence[Row]) -> list[list[Row]]:
    """Neighbours with the same columns."""
    blocks: list[list[Row]] = []
    for row in rows:
        if blocks and list(blocks[-1][0]) == list(row):
            blocks[-1].append(row)
        else:
            blocks.append([row])
    return blocks


def _plain(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
