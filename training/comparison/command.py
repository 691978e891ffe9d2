"""`compare`: recipes side by side, as a table, a figure and JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from training import launch, options

if TYPE_CHECKING:
    from training.comparison.figures import Comparison
    from training.evaluation.facts import Figure

_FILE = click.Path(path_type=Path, dir_okay=False)
_PIPE_WIDTH = 160
"""Columns when nobody looks: a row is one line, for grep."""


@click.command("compare")
@click.argument("sources", metavar="CONFIG...", nargs=-1, required=True)
@options.data("the recordings, noise/ and the checkpoints' folders")
@click.option(
    "--leave-out-corpora",
    is_flag=True,
    help="Leave each corpus of the training clips out in turn, and score it. Without this, recipes "
    "are scored on the speakers or corpora that they keep for choices themselves, else on "
    "validation.",
)
@click.option(
    "--seeds", type=click.IntRange(min=1), default=1, help="Trainings of each, from seeds 0, 1 …"
)
@click.option(
    "--runs",
    type=options.FOLDER,
    default=Path("runs"),
    help="Each trial is a run in a folder of its own there; what is trained already is kept.",
)
@click.option(
    "--out",
    type=_FILE,
    default=Path("runs/comparison.json"),
    help="The figures; a plot goes beside them, as .svg.",
)
@options.changes("training.max_steps=200")
def compare(
    sources: tuple[str, ...],
    root: Path,
    runs: Path,
    out: Path,
    *,
    seeds: int,
    changes: tuple[str, ...],
    leave_out_corpora: bool,
) -> None:
    """Train recipes alike and tell which is better.

    A difference is to the first recipe, with the interval that other speakers would give it, of
    both recipes' answers about the same clips. Seeds are averaged; how far they lie apart is in
    the figure. Stopped and started again, it goes on where it was.

    \b
      python -m training compare compact runs/mine.toml --data ../data --leave-out-corpora
      python -m training compare compact --data ../data --seeds 3
    """  # noqa: D301 (\b is click's mark for lines to leave as they are)
    launch.require_one("compare")
    # Here, so that --help and a wrong argument don't wait for torch.
    from training.comparison import figures, plot, trials  # noqa: PLC0415

    planned = trials.plan(
        sources, changes, root=root, runs=runs, leave_out=leave_out_corpora, seeds=seeds
    )
    answered = []
    for number, trial in enumerate(planned, start=1):
        click.echo(f"{number} of {len(planned)}: {trial.run.folder}")
        answered.append(trials.carry_out(trial))
    found = figures.compare(answered)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(found.model_dump_json(indent=2) + "\n", encoding="utf-8")
    out.with_suffix(".svg").write_text(plot.figure(found), encoding="utf-8")
    console = Console()
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(table(found))
    click.echo(f"Figures in {out} and {out.with_suffix('.svg')}")


def table(found: Comparison) -> Table:
    """A row for each recipe: macro-F1 by fold, the mean, what it gains on the first, the cost."""
    result = Table(title="macro-F1", title_justify="left")
    result.add_column("recipe")
    folds = list(next(iter(found.recipes.values())).folds)
    for name in (*folds, "mean", "gain", "minutes"):
        result.add_column(name, justify="right")
    for name, recipe in found.recipes.items():
        means = [sum(fold.macro_f1) / len(fold.macro_f1) for fold in recipe.folds.values()]
        result.add_row(
            name,
            *(f"{mean:.3f}" for mean in means),
            _words(recipe.macro_f1),
            _words(recipe.gained["macro_f1"]) if recipe.gained else "",
            f"{recipe.train_s / 60:.0f}",
        )
    return result


def _words(figure: Figure) -> str:
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
