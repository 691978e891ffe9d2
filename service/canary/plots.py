"""The report's figures: SVG that takes the colour of the page's text, for light and dark alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogFormatter

from service.canary.drawing import HUES, INK, STYLE, svg_of, themed
from service.canary.findings import CheckFacts, Findings, ShadowFacts
from service.canary.verdict import Outcome, Source

STABLE, CANDIDATE = HUES[:2]
OUTCOMES = {Outcome.PASS: "#3d9970", Outcome.FAIL: "#d0433b", Outcome.INCONCLUSIVE: "#8a6d3b"}
MARKS = {Outcome.PASS: "o", Outcome.FAIL: "X", Outcome.INCONCLUSIVE: "D"}
"""Told apart by form as well as by colour."""
FURTHEST = 4.0
"""Margins from 0; what is beyond is drawn there."""
_BETTER_HIGHER = ("accuracy", "macro_f1", "uar", "recall")
"""Beginnings of checks whose candidate is worse where its figure is lower."""


def figures(told: Findings) -> dict[str, str]:
    """Draw every figure there is something for: SVG by name."""
    drawn = {}
    with mpl.rc_context(STYLE):
        spans = ((check, in_margins(check)) for check in told.checks)
        rows = [(check, span) for check, span in spans if span is not None]
        if rows:
            drawn["checks"] = _forest(rows)
        if told.golden is not None:
            golden = told.golden
            shares = [share / 100 for share in range(101)]
            drawn["golden-latency"] = _latency(
                [(golden.stable_quantiles_s, shares), (golden.candidate_quantiles_s, shares)],
                ("stable", "candidate"),
            )
        if told.shadow is not None and any(told.shadow.difference):
            drawn["confidence"] = _confidence(told.shadow)
        if told.live is not None:
            live = told.live
            curves = [
                (live.edges_s, _cumulative(side.seconds))
                for side in (live.baseline, live.candidate)
                if any(side.seconds)
            ]
            if len(curves) > 1:
                drawn["live-latency"] = _latency(curves, ("baseline", "candidate"))
    return {name: themed(svg, name, caption=f"{name}-caption") for name, svg in drawn.items()}


def in_margins(check: CheckFacts) -> tuple[float, float, float] | None:
    """Give a check's effect, best and worst bound in margins, worse being more: fails above 1.

    Without labels there is no worse: of shadow pairs any difference counts. None where there is no
    margin or no effect; a bound that isn't there is `FURTHEST` away.
    """
    if check.effect is None or not check.margin:
        return None
    none = 1.0 if check.unit == "ratio" else 0.0
    if check.source is Source.SHADOW:
        sign = math.copysign(1.0, check.effect)
    else:
        sign = -1.0 if check.name.startswith(_BETTER_HIGHER) else 1.0
    low = -FURTHEST if check.low is None else (check.low - none) / check.margin
    high = FURTHEST if check.high is None else (check.high - none) / check.margin
    bounds = sorted((sign * low, sign * high))
    return sign * (check.effect - none) / check.margin, bounds[0], bounds[1]


def _forest(rows: Sequence[tuple[CheckFacts, tuple[float, float, float]]]) -> str:
    """Draw each check's interval against its margin, the first on top."""
    canvas = Canvas(figsize=(7.0, 1.0 + 0.3 * len(rows)))
    axes = canvas.subplots()
    for place, (check, span) in enumerate(reversed(rows)):
        hue = OUTCOMES[check.outcome]
        effect, best, worst = np.clip(span, -FURTHEST, FURTHEST)
        axes.plot([best, worst], [place, place], color=hue, linewidth=2)
        axes.plot(effect, place, MARKS[check.outcome], color=hue, markersize=7, clip_on=False)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.axvline(1, color=OUTCOMES[Outcome.FAIL], linestyle="--", linewidth=1.2)
    axes.set_yticks(range(len(rows)), [check.name for check, _ in reversed(rows)])
    axes.set(
        xlim=(-FURTHEST, FURTHEST),
        ylim=(-0.7, len(rows) - 0.3),
        xlabel="difference in margins (← better, worse →)",
    )
    axes.grid(axis="x", alpha=0.3)
    return svg_of(canvas)


def _latency(
    curves: Sequence[tuple[Sequence[float], Sequence[float]]], names: tuple[str, str]
) -> str:
    """Draw the share of answers that took at most so long, both sides in one."""
    canvas = Canvas(figsize=(5.4, 3.2))
    axes = canvas.subplots()
    drawn = zip(curves, names, (STABLE, CANDIDATE), ("-", "--"), strict=True)
    for (seconds, shares), name, hue, line in drawn:
        took_ms = [1000 * each for each in seconds]
        axes.step(took_ms, shares, where="post", color=hue, linestyle=line, label=name)
    # A histogram has bounds far beyond anything that was answered.
    within = [
        1000 * x for curve in curves for x, share in zip(*curve, strict=True) if 0 < share < 1
    ]
    if within:
        axes.set_xlim(0.9 * min(within), 1.1 * max(within))
    axes.set(xscale="log", ylim=(0, 1), xlabel="milliseconds", ylabel="share of answers")
    axes.xaxis.set_major_formatter(LogFormatter())
    axes.xaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    return svg_of(canvas)


def _confidence(shadow: ShadowFacts) -> str:
    canvas = Canvas(figsize=(5.4, 3.2))
    axes = canvas.subplots()
    edges = shadow.difference_edges
    axes.stairs(shadow.difference, edges, fill=True, color=CANDIDATE, alpha=0.8)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set(xlabel="candidate's confidence minus stable's", ylabel="clips")
    return svg_of(canvas)


def _cumulative(counts: Sequence[int]) -> list[float]:
    """Give the share of answers up to each edge but the last, infinity."""
    return [upto / sum(counts) for upto in accumulate(counts[:-1])]
