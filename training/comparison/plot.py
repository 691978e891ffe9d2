"""A comparison as a figure: where recipes differ, and by how much seeds do."""

from __future__ import annotations

from itertools import cycle

import matplotlib as mpl
from matplotlib.figure import Figure as Canvas

from service.canary.drawing import HUES, STYLE, svg_of, themed
from training.comparison.figures import Comparison

_SPREAD = 0.6
"""Of a row's height, that its recipes share."""


def figure(found: Comparison) -> str:
    """SVG: a row for each fold, a dot for each seed; the mean below them with its interval."""
    recipes = found.recipes
    folds = list(next(iter(recipes.values())).folds)
    rows = [*folds, "mean"]
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(5.6, 1.0 + 0.18 * len(rows) * (1 + len(recipes))))
        axes = canvas.subplots()
        for number, ((name, recipe), hue) in enumerate(zip(recipes.items(), cycle(HUES))):
            below = _SPREAD * ((number + 0.5) / len(recipes) - 0.5)
            for row, fold in enumerate(folds):
                seeds = recipe.folds[fold].macro_f1
                axes.plot(seeds, [row + below] * len(seeds), "o", color=hue, alpha=0.6)
            mean, place = recipe.macro_f1, len(folds) + below
            axes.plot([mean.low, mean.high], [place, place], color=hue, linewidth=2)
            axes.plot(mean.value, place, "D", color=hue, label=name)
        axes.set_yticks(range(len(rows)), rows)
        axes.invert_yaxis()
        axes.set(xlabel="macro-F1 of each seed; 95% interval of the mean over speakers")
        axes.grid(axis="x", alpha=0.3)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
        return themed(svg_of(canvas), "comparison")
