"""SVG that takes the colour of the page's text, for light and dark pages alike.

Text stays text, so that it can be searched, and the same facts give the same bytes.
"""

from __future__ import annotations

import io
import re
from typing import Any

from matplotlib.figure import Figure as Canvas

INK = "#010203"
"""Drawn in this, shown in the colour of the page's text."""
HUES = ("#2f6f9f", "#d9822b", "#3d9970", "#b0468e", "#8a6d3b", "#7a6fd0")
"""Readable on white and on black."""
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "timbre",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": f"cycler('color', {list(HUES)})",
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}


def themed(svg: str, name: str, caption: str | None = None) -> str:
    """The SVG alone, in the text's colour, with ids that no other figure of the page has.

    Args:
        svg: what `svg_of` gave.
        name: of the figure, by which readers of screens know it.
        caption: id of an element that says better what it shows.
    """
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    known = f'aria-labelledby="{caption}"' if caption else f'aria-label="{name}"'
    return svg.replace("<svg ", f'<svg role="img" {known} ', 1)


def svg_of(canvas: Canvas) -> str:
    """The canvas as an SVG file's text, still in `INK`."""
    file = io.StringIO()
    canvas.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return file.getvalue()
