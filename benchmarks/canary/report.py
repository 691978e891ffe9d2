"""A simulation as Markdown and as a plot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.canary.results import Row, Target
from benchmarks.canary.simulation import EVER_FAILED, Effect
from benchmarks.peers.plots import METADATA
from benchmarks.peers.report import table
from service.canary.verdict import Outcome

COLOURS = {Outcome.PASS: "#4e79a7", Outcome.FAIL: "#e15759", Outcome.INCONCLUSIVE: "#bab0ac"}


def page(rows: Sequence[Row], met: Sequence[Target], plots: Sequence[str] = ()) -> str:
    """Write the numbers to reach, the plots and every row.

    Args:
        rows: of the simulation.
        met: of the documented size.
        plots: paths of images, as the page names them.
    """
    parts = [
        table(
            ("number to reach", "", "measured"),
            [(each.name, "met" if each.met else "missed", f"{each.measured:.1%}") for each in met],
        ),
        *(f"![Verdicts by size]({plot})" for plot in plots),
        table(
            (
                *("what is wrong", "golden clips", "pairs", "live clips a side", "rollouts"),
                *("pass", "fail", "inconclusive", "failed at any look"),
            ),
            [_cells(row) for row in rows],
        ),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _cells(row: Row) -> list[str]:
    size = (row.size.golden, row.size.pairs, row.size.live, row.rollouts)
    shares = [row.share(outcome) for outcome in (*COLOURS, EVER_FAILED)]
    return [row.effect, *(f"{each:,}" for each in size), *(f"{share:.1%}" for share in shares)]


def draw(rows: Sequence[Row], file: Path) -> Path:
    """Draw what rollouts come to by their size, a panel for each effect."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "timbre"
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(
        1, len(Effect), figsize=(12, 3.2), layout="constrained", sharey=True
    )
    for axes, effect in zip(panels, Effect, strict=True):
        of = [row for row in rows if row.effect is effect]
        labels = [f"{row.size.golden:,}\n{row.size.live:,}" for row in of]
        bottom = [0.0] * len(of)
        for outcome, colour in COLOURS.items():
            shares = [100 * row.share(outcome) for row in of]
            axes.bar(labels, shares, bottom=bottom, color=colour, label=outcome.value)
            bottom = [under + share for under, share in zip(bottom, shares, strict=True)]
        axes.set_title(effect.value)
        axes.tick_params(axis="x", labelsize=7)
    panels[0].set_ylabel("% of rollouts")
    figure.supxlabel("golden clips, and live clips a side", fontsize=9)
    panels[0].legend(loc="lower right", fontsize=8)
    figure.savefig(file, metadata=METADATA)
    plt.close(figure)
    return file
