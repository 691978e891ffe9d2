"""The raw data of a session, and the figures that tables, plots and verdicts are made of. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.peers.cells import Cell
from benchmarks.peers.contenders import Contender, Layout
from benchmarks.peers.figures import Spread
from benchmarks.peers.machine import BUSY

SATURATED = 8.0


@dataclass(slots=True)
class Results:
    """Everything that a session measured, as it is written to raw.json."""

    machine: dict[str, Any]
    started: str
    """UTC, ISO 8601."""
    profile: str
    price: float
    """Dollars a vCPU-hour, as stated by whoever ran it."""
    versions: dict[str, dict[str, str]]
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    contenders: list[Contender] = field(default_factory=list)
    peaks: dict[str, float] = field(default_factory=dict)
    """GFLOPS (GOPS) of large products by precision."""
    anatomy: dict[str, dict[str, float]] = field(default_factory=dict)
    """Milliseconds of CPU by stage of Timbre's, by model."""
    cells: list[Cell] = field(default_factory=list)
    failures: list[dict[str, str]] = field(default_factory=list)

    def write(self, file: Path) -> None:
        """Write JSON; what isn't a number is null."""
        content = asdict(self)
        content["cells"] = [_finite(cell) for cell in content["cells"]]
        file.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")

    @staticmethod
    def read(file: Path) -> Results:
        """Read what `write` wrote."""
        content = json.loads(file.read_text(encoding="utf-8"))
        content["cells"] = [Cell(**_floats(cell)) for cell in content["cells"]]
        content["contenders"] = [Contender(**each) for each in content["contenders"]]
        return Results(**content)

    def rows(self, model: str) -> list[Contender]:
        """Give the contenders that were measured with a model, in the order of the tables."""
        seen = {cell.contender for cell in self.cells if cell.model == model}
        return [contender for contender in self.contenders if contender.name in seen]

    def of(self, model: str, contender: str, kind: str, load: float | None = None) -> list[Cell]:
        """Give the cells of a contender under a load, one a round."""
        return [
            cell
            for cell in self.cells
            if (cell.model, cell.contender, cell.kind) == (model, contender, kind)
            and load in {None, cell.load}
        ]

    def spread(
        self,
        model: str,
        contender: str,
        value: Callable[[Cell], float],
        *,
        kind: str = "closed",
        load: float | None = SATURATED,
    ) -> Spread:
        """Give a figure over the rounds; all nan where there is none."""
        values = [value(cell) for cell in self.of(model, contender, kind, load)]
        return Spread.of([each for each in values if not math.isnan(each)])

    def speed(self, model: str, contender: str, load: float = SATURATED) -> float:
        """Clips a second, the median of the rounds; nan where it wasn't measured."""
        return self.spread(model, contender, lambda cell: cell.clips_per_s, load=load).median

    def bare(self, model: str, contender: Contender) -> float:
        """Clips a second of a contender's engine with nothing around it; nan if not measured.

        Timbre left to itself may have either layout, so the faster one that was measured counts.
        """
        layouts = {contender.layout}
        if contender.stack == "timbre" and contender.layout == "one":
            layouts.add("many")
        speeds = [self._bare(model, contender, layout) for layout in layouts]
        return max((each for each in speeds if not math.isnan(each)), default=math.nan)

    def _bare(self, model: str, contender: Contender, layout: Layout) -> float:
        parts = ["bare", contender.engine, contender.precision]
        name = "-".join(parts + ["many"] * (layout == "many"))
        return self.spread(
            model, name, lambda cell: cell.clips_per_s, kind="bare", load=None
        ).median

    def busy(self) -> list[Cell]:
        """Give the cells during which others used more of the machine than `BUSY`."""
        return [cell for cell in self.cells if cell.others > BUSY]

    def loads(self, model: str, kind: str) -> Sequence[float]:
        """Give the loads of a kind that a model was measured under."""
        return sorted(set(self._loads(model, kind)))

    def _loads(self, model: str, kind: str) -> Iterator[float]:
        return (cell.load for cell in self.cells if (cell.model, cell.kind) == (model, kind))


def _floats(cell: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in cell.items()}


def _finite(cell: dict[str, Any]) -> dict[str, Any]:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in cell.items()
    }
