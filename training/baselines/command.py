"""`baselines`: what a model has to beat, as a table and a JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from training import launch, options
from training.config import ConfigError
from training.recording import DEVELOPMENT_SPEAKERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from training.baselines.protocol import Attempt

PROBE = "probe"
NAMES = ("majority", "duration", "log-mel", "egemaps", PROBE)


@click.command(
    "baselines", context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
)
@options.data("speech/manifest.csv")
@click.option("--only", type=click.Choice(NAMES), multiple=True, help="Not all. Can be repeated.")
@click.option(
    "--probe",
    "checkpoints",
    metavar="CHECKPOINT",
    multiple=True,
    help="A checkpoint to probe: a folder, absolute or in DATA, or with `hub:` before it a model "
    "of a hub. Can be repeated.",
)
@click.option(
    "--development",
    "speakers",
    multiple=True,
    default=DEVELOPMENT_SPEAKERS,
    help="A training speaker to choose by. Can be repeated.",
)
@click.option(
    "--run",
    type=options.FOLDER,
    default=Path("runs/baselines"),
    help="Where features and figures go; a run that was stopped resumes from here.",
)
@click.option("--trial", is_flag=True, help="Score the development speakers only.")
@click.option(
    "--test", is_flag=True, help="Also score the test split. Do so once, when all is decided."
)
def baselines(
    root: Path,
    only: tuple[str, ...],
    checkpoints: tuple[str, ...],
    speakers: tuple[str, ...],
    run: Path,
    *,
    trial: bool,
    test: bool,
) -> None:
    """Score what a model has to beat.

    \b
    majority  the most frequent label
    duration  seconds of clip, span, speech; logistic regression or boosted trees
    log-mel   mean and deviation of each mel band; logistic regression
    egemaps   openSMILE's eGeMAPSv02 functionals; SVM (needs the extra baselines)
    probe     a frozen checkpoint's layers, averaged over time; logistic regression

    Hyperparameters are chosen on the development speakers. Then all training clips are fitted, and
    validation is scored once.

    \b
    Example:
      python -m training baselines --data ../data --probe weights/a-checkpoint
    """  # noqa: D301 (\b is click's mark for lines to leave as they are)
    launch.require_one("baselines")
    if trial and test:
        raise click.UsageError("--trial and --test exclude each other.")
    if PROBE in only and not checkpoints:
        raise click.UsageError("Give the checkpoint to probe with --probe.")
    names = only or NAMES
    splits = [] if trial else ["validation", *(["test"] if test else [])]
    # Here, so that --help and a wrong argument don't wait for torch.
    from training.baselines.suite import RESULT, measure  # noqa: PLC0415

    try:
        attempts = measure(
            root,
            [name for name in names if name != PROBE],
            checkpoints if PROBE in names else (),
            speakers=speakers,
            splits=splits,
            run=run,
        )
    except ConfigError as error:
        raise click.ClickException(str(error)) from error
    for split in ("development", *splits):
        Console().print(table(attempts, split))
    click.echo(f"Figures in {run / RESULT}")


def table(attempts: Sequence[Attempt], split: str) -> Table:
    """One row for each baseline: pooled figures, macro-F1 by corpus, processor time."""
    result = Table(title=split, title_justify="left")
    result.add_column("baseline")
    corpora = list(attempts[0].figures[split]["per_corpus"])
    for name in ("accuracy", "macro-F1", "UAR", *corpora, "CPU s"):
        result.add_column(name, justify="right")
    for attempt in attempts:
        figures = attempt.figures[split]
        result.add_row(
            attempt.name,
            *(f"{figures[name]:.3f}" for name in ("accuracy", "macro_f1", "uar")),
            *(f"{figures['per_corpus'][corpus]['macro_f1']:.3f}" for corpus in corpora),
            f"{sum(attempt.cpu_s.values()):.0f}",
        )
    return result
