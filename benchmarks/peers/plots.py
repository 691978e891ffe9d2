"""Results as SVG plots: speed by contender, and speed and latency by clients."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers.contenders import ENGINES, Contender
from benchmarks.peers.results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {
    "thesis": "#8c8c8c",
    "flask": "#b07aa1",
    "fastapi": "#4e79a7",
    "litserve": "#f28e2b",
    "bentoml": "#59a14f",
    "timbre": "#e15759",
}
METADATA = {"Date": None, "Creator": None}
"""So that the same results give the same files."""


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw what there is, and give the files."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "timbre"
    files = []
    for model in results.models:
        rows = results.rows(model)
        files += [_bars(results, model, rows, folder / f"{model}-clips-per-second.svg")]
        swept = [row for row in rows if row.sweep]
        if len(results.loads(model, "closed")) > 2:  # noqa: PLR2004 - a line needs points
            files += [_lines(results, model, swept, folder / f"{model}-by-clients.svg")]
    return files


def _label(row: Contender) -> str:
    return f"{row.title}, {ENGINES[row.engine]} {row.precision}"


def _bars(results: Results, model: str, rows: Sequence[Contender], file: Path) -> Path:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.32 * len(rows)), layout="constrained")
    for place, row in enumerate(reversed(rows)):
        speed = results.spread(model, row.name, lambda cell: cell.clips_per_s)
        error = [[speed.median - speed.low], [speed.high - speed.median]]
        axes.barh(place, speed.median, xerr=error, color=COLOURS[row.stack], ecolor="#333333")
    axes.set_yticks(range(len(rows)), [_label(row) for row in reversed(rows)], fontsize=8)
    axes.set_xlabel("clips a second, 8 clients; bars: range over rounds")
    axes.set_title(f"{model}, 3 s clips, {results.machine['cpus']} vCPUs", fontsize=10)
    return _save(figure, file)


def _lines(results: Results, model: str, rows: Sequence[Contender], file: Path) -> Path:
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for row in rows:
        cells = [
            (load, cells)
            for load in results.loads(model, "closed")
            if (cells := results.of(model, row.name, "closed", load))
        ]
        loads = [load for load, _ in cells]
        style: dict[str, Any] = {
            "color": COLOURS[row.stack],
            "linestyle": "--" if row.precision == "int8" else "-",
            "marker": ".",
            "label": _label(row),
        }
        speeds = [results.speed(model, row.name, load) for load in loads]
        left.plot(loads, speeds, **style)
        late = [
            results.spread(model, row.name, lambda cell: cell.p95_ms, load=load).median
            for load in loads
        ]
        right.plot(loads, late, **style)
    _axes(left, "clips a second")
    _axes(right, "p95 latency, ms")
    right.set_yscale("log")
    left.legend(fontsize=7)
    figure.suptitle(model, fontsize=10)
    return _save(figure, file)


def _axes(axes: Axes, name: str) -> None:
    axes.set_xlabel("clients")
    axes.set_ylabel(name)
    axes.set_ylim(bottom=0)


def _save(figure: Any, file: Path) -> Path:  # noqa: ANN401 - matplotlib's
    from matplotlib import pyplot as plt

    figure.savefig(file, metadata=METADATA)
    plt.close(figure)
    return file
