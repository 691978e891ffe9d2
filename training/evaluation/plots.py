"""The report's figures, every one drawn from evaluation.json's facts."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from service.canary.drawing import HUES, INK, STYLE, svg_of, themed
from training.evaluation.facts import Calibration, Evaluation, Headline, Noise, SetFigures

_DARK_CELL = 0.5
"""From this share on a cell is dark enough for white text."""


def figures(evaluation: Evaluation) -> dict[str, str]:
    """Draw every figure: SVG by the name of its file without suffix."""
    drawn: dict[str, str] = {}
    with mpl.rc_context(STYLE):
        for name, found in evaluation.sets.items():
            confusion, labels = found.confusion, evaluation.labels
            columns = (*labels, "no speech")
            counts = [[cell / max(sum(row), 1) for cell in row] for row in confusion.counts]
            text = [[str(cell) for cell in row] for row in confusion.counts]
            drawn[f"{name}-confusion-counts"] = _matrix(labels, columns, counts, text)
            for kind, shares, heads in (
                ("recall", confusion.by_row, columns),
                ("precision", confusion.by_column, labels),
            ):
                text = [[f"{100 * cell:.0f}" for cell in row] for row in shares]
                drawn[f"{name}-confusion-{kind}"] = _matrix(labels, heads, shares, text)
            drawn[f"{name}-groups"] = _groups(found)
            drawn[f"{name}-reliability"] = _reliability(found)
            drawn[f"{name}-risk-coverage"] = _risk_coverage(found, evaluation.threshold.value)
        if evaluation.noise:
            drawn["noise"] = _noise(evaluation.noise)
    return {name: themed(svg, name) for name, svg in drawn.items()}


def _matrix(
    rows: Sequence[str],
    columns: Sequence[str],
    shares: Sequence[Sequence[float]],
    text: Sequence[Sequence[str]],
) -> str:
    canvas = Canvas(figsize=(4.8, 3.9))
    axes = canvas.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for y, (cells, words) in enumerate(zip(shares, text, strict=True)):
        for x, (share, word) in enumerate(zip(cells, words, strict=True)):
            # Cells have a colour of their own in either theme, and so has what is written on them.
            ink = "white" if share >= _DARK_CELL else "#111111"
            axes.text(x, y, word, ha="center", va="center", color=ink)
    axes.set_xticks(range(len(columns)), columns, rotation=35, ha="right")
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel="label given", ylabel="label recorded")
    return svg_of(canvas)


def _groups(found: SetFigures) -> str:
    """Macro-F1 with its interval: pooled, by corpus and by speaker."""
    rows: list[tuple[str, Headline]] = [
        *(reversed(found.by_speaker.items())),
        *(reversed(found.by_corpus.items())),
        ("all", found.pooled),
    ]
    canvas = Canvas(figsize=(5.6, 0.6 + 0.24 * len(rows)))
    axes = canvas.subplots()
    for place, (name, group) in enumerate(rows):
        hue = HUES[0 if name == "all" else 1 if name in found.by_corpus else 2]
        score = group.macro_f1
        axes.plot([score.low, score.high], [place, place], color=hue, linewidth=2)
        axes.plot(score.value, place, "o", color=hue, markersize=5)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set(xlim=(0, 1), ylim=(-0.7, len(rows) - 0.3), xlabel="macro-F1, 95% interval")
    axes.grid(axis="x", alpha=0.3)
    return svg_of(canvas)


def _reliability(found: SetFigures) -> str:
    parts: dict[str, Calibration] = {"at temperature 1": found.uncalibrated, "served": found.served}
    if found.cross_fitted:
        parts["cross-fitted"] = found.cross_fitted
    canvas = Canvas(figsize=(4.8, 3.9))
    axes = canvas.subplots()
    axes.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=":")
    for (name, part), marker in zip(parts.items(), "so^", strict=False):
        axes.plot(
            [members.confidence for members in part.reliability],
            [members.accuracy for members in part.reliability],
            marker=marker,
            markersize=4,
            label=f"{name}: ECE {part.ece:.3f}",
        )
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
    axes.legend(loc="upper left")
    return svg_of(canvas)


def _risk_coverage(found: SetFigures, threshold: float) -> str:
    canvas = Canvas(figsize=(4.8, 3.9))
    axes = canvas.subplots()
    curve = found.selection.curve
    axes.plot(curve.coverage, curve.risk)
    chosen = found.selection.all
    if chosen.precision:
        risk = 1 - chosen.precision.value
        axes.plot(chosen.coverage.value, risk, "o", label=f"review threshold {threshold:g}")
        axes.legend(loc="upper left")
    _from_zero(axes)
    axes.set(xlim=(0, 1), xlabel="coverage: share accepted", ylabel="risk: share of them wrong")
    axes.grid(alpha=0.3)
    return svg_of(canvas)


def _noise(noise: Noise) -> str:
    """Macro-F1 by ratio, a line for each noise; clean is the dotted level."""
    by_kind: dict[str, list[tuple[float, float]]] = {}
    clean = 0.0
    for condition in noise.conditions:
        if condition.snr_db is None:
            clean = condition.figures.macro_f1.value
        else:
            by_kind.setdefault(condition.noise, []).append(
                (condition.snr_db, condition.figures.macro_f1.value)
            )
    canvas = Canvas(figsize=(5.6, 3.9))
    axes = canvas.subplots()
    axes.axhline(clean, color=INK, linewidth=1, linestyle=":", label="clean")
    for kind, points in sorted(by_kind.items()):
        axes.plot(*zip(*sorted(points), strict=True), marker="o", markersize=4, label=_words(kind))
    _from_zero(axes)
    axes.set(xlabel="signal-to-noise ratio over the speech, dB", ylabel="macro-F1")
    axes.legend()
    axes.grid(alpha=0.3)
    return svg_of(canvas)


def _from_zero(axes: Axes) -> None:
    axes.set_ylim(bottom=0)


def _words(name: str) -> str:
    return name.replace("_", " ")
