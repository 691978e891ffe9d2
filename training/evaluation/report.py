"""Evaluation → evaluation.json, a report to read, figures, the model card, and bundle.json's part.

All of them take their numbers from the one `Evaluation`, rounded alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from service.bundle import DataFacts
from training.config import Config
from training.evaluation import plots, selective
from training.evaluation.assess import TRAIN_SAMPLE
from training.evaluation.facts import Evaluation, Figure, Headline, SetFigures

JSON = "evaluation.json"
HTML = "report.html"
FIGURES = "figures"
TEMPLATES = Path(__file__).parent


def write(evaluation: Evaluation, folder: Path) -> None:
    """Write evaluation.json, report.html and figures/*.svg into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    text = evaluation.model_dump_json(indent=2) + "\n"
    (folder / JSON).write_text(text, encoding="utf-8")
    figures = plots.figures(evaluation)
    (folder / FIGURES).mkdir(exist_ok=True)
    for name, svg in figures.items():
        (folder / FIGURES / f"{name}.svg").write_text(svg, encoding="utf-8")
    (folder / HTML).write_text(page(evaluation, figures), encoding="utf-8")


def read(folder: Path) -> Evaluation:
    """Read the evaluation.json that `write` left in `folder`."""
    return Evaluation.model_validate_json((folder / JSON).read_text(encoding="utf-8"))


def page(evaluation: Evaluation, figures: dict[str, str]) -> str:
    """The report, one HTML file that needs no other."""
    template = _environment(autoescape=True).get_template("report.html.j2")
    return template.render(
        evaluation=evaluation,
        figures=figures,
        fallback=selective.FALLBACK,
        train_sample=TRAIN_SAMPLE,
    )


def model_card(config: Config, evaluation: Evaluation, data: Sequence[DataFacts]) -> str:
    """The card in Markdown: what the model is for, what it was made of, its figures and limits."""
    template = _environment(autoescape=False).get_template("card.md.j2")
    return template.render(
        config=config,
        evaluation=evaluation,
        sets={name: found for name, found in evaluation.sets.items() if name != TRAIN_SAMPLE},
        data=data,
        fallback=selective.FALLBACK,
    )


def compact(evaluation: Evaluation) -> dict[str, dict[str, Any]]:
    """The part that bundle.json carries: headline figures by set, with their intervals."""
    return {name: of_set(found) for name, found in evaluation.sets.items() if name != TRAIN_SAMPLE}


def of_set(found: SetFigures) -> dict[str, Any]:
    """What bundle.json carries of one set."""
    pooled, accepted = found.pooled, found.selection.all
    metrics: dict[str, Any] = {
        "clips": pooled.clips,
        "no_speech": pooled.no_speech,
        **_values(pooled),
        "macro_f1_of_corpora": found.corpora_mean.macro_f1.value,
        "nll": found.served.nll.value,
        "brier": found.served.brier.value,
        "ece": found.served.ece,
        "ece_null_95": found.served.ece_null_95,
        "coverage": accepted.coverage.value,
        "accept_precision": accepted.precision.value if accepted.precision else None,
        "intervals": {
            name: [figure.low, figure.high]
            for name, figure in (
                ("accuracy", pooled.accuracy),
                ("macro_f1", pooled.macro_f1),
                ("uar", pooled.uar),
                ("macro_f1_of_corpora", found.corpora_mean.macro_f1),
            )
        },
        "per_class": {
            label: {
                "precision": row.precision.value,
                "recall": row.recall.value,
                "f1": row.f1.value,
                "clips": row.clips,
            }
            for label, row in found.by_class.items()
        },
        "per_corpus": {
            corpus: {"clips": group.clips, **_values(group)}
            for corpus, group in found.by_corpus.items()
        },
    }
    if crossed := found.cross_fitted:
        metrics["cross_fitted"] = {
            "nll": crossed.nll.value,
            "ece": crossed.ece,
            "ece_null_95": crossed.ece_null_95,
        }
    return metrics


def _values(group: Headline) -> dict[str, float]:
    return {
        "accuracy": group.accuracy.value,
        "macro_f1": group.macro_f1.value,
        "uar": group.uar.value,
    }


def _environment(*, autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=autoescape,  # noqa: S701 - off for Markdown of our own facts
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    environment.filters["percent"] = _percent
    return environment


def _figure(figure: Figure | None) -> str:
    """Value and interval, as `0.720 (0.677–0.762)`."""
    if figure is None:
        return "–"
    return f"{figure.value:.3f} ({figure.low:.3f}–{figure.high:.3f})"


def _percent(figure: Figure | None) -> str:
    """Value and interval in percent, as `72% (68–76)`."""
    if figure is None:
        return "–"
    return f"{100 * figure.value:.0f}% ({100 * figure.low:.0f}–{100 * figure.high:.0f})"
