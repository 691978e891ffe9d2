"""Results as SVG plots: what is done of what is offered, and memory over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.peers.plots import METADATA
from benchmarks.peers.targets import GOODPUT
from benchmarks.soak.results import Outcome, Results

DONE, REFUSED, LIMIT = "#4e79a7", "#e15759", "#8c8c8c"
MINUTE_S = 60


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw what there is, and give the files."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "timbre"
    overloads = [outcome for outcome in results.outcomes if outcome.trial == "overload"]
    drifts = [outcome for outcome in results.outcomes if outcome.memory]
    files = []
    if overloads:
        files.append(_goodput(overloads, folder / "goodput.svg"))
    if drifts:
        files.append(_memory(drifts, folder / "memory.svg"))
    return files


def _goodput(overloads: list[Outcome], file: Path) -> Path:
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        1,
        len(overloads),
        figsize=(1 + 4.5 * len(overloads), 3.6),
        layout="constrained",
        squeeze=False,
        sharey=True,
    )
    for axes, outcome in zip(panels[0], overloads, strict=True):
        offered = [row["offered"] for row in outcome.rows]
        good = [100 * row["goodput"] for row in outcome.rows]
        axes.plot([0, 1, *offered], [0, 100, *good], color=DONE, marker="o", label="answered")
        axes.plot([0, 1, max(offered)], [0, 100, 100], color=LIMIT, linestyle=":", label="capacity")
        targets = {share: 100 * least for share, least in GOODPUT.items() if share in offered}
        axes.plot(
            list(targets), list(targets.values()), "_", color=REFUSED, label="number to reach"
        )
        axes.set_title(f"{outcome.model}: {outcome.rows[0]['capacity clips/s']:.3g} clips/s")
        axes.set_xlabel("offered, times of capacity")
        axes.set_ylim(bottom=0)
    panels[0][0].set_ylabel("goodput, % of capacity")
    panels[0][0].legend(loc="lower right", fontsize=8)
    return _save(figure, file)


def _memory(drifts: list[Outcome], file: Path) -> Path:
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    for outcome in drifts:
        minutes = [at / MINUTE_S for at, _ in outcome.memory]
        axes.plot(minutes, [mib for _, mib in outcome.memory], label=outcome.model)
    axes.set_xlabel("minutes of honest and hostile clients")
    axes.set_ylabel("MiB, all processes")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower right", fontsize=8)
    return _save(figure, file)


def _save(figure: Any, file: Path) -> Path:  # noqa: ANN401 - matplotlib's
    from matplotlib import pyplot as plt

    figure.savefig(file, metadata=METADATA)
    plt.close(figure)
    return file
