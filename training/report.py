"""The model card: what the model is for, what it was made of, its figures and its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from service.bundle import DataFacts
from training.config import Config
from training.data import LABELS

TEMPLATE = Path(__file__).parent / "card.md.j2"


def model_card(
    config: Config,
    *,
    parameters: int,
    temperature: float,
    metrics: Mapping[str, Any],
    data: Sequence[DataFacts],
) -> str:
    """Write the card, in Markdown, from the facts of a run; `metrics` as `evaluate.figures`."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown of our own facts, not HTML
        keep_trailing_newline=True,
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        config=config,
        parameters=parameters,
        temperature=temperature,
        metrics=metrics,
        data=data,
        labels=LABELS,
    )
