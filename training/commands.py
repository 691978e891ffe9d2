"""The commands of `python -m training` that make a bundle: all stages at once, or one at a time.

Nothing here imports torch before a command has its configuration: help and a wrong argument are
answered at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec

import click

from training import config as configuration
from training import options
from training.launch import is_first

if TYPE_CHECKING:
    from training.run import Run

_Options = ParamSpec("_Options")

_out = click.option(
    "--out", type=options.FOLDER, help="Folder of the bundle.  [default: RUN/bundle]"
)
_test = click.option(
    "--test", is_flag=True, help="Also measure the test split. Do so once, when all is decided."
)
_noise = click.option(
    "--noise", is_flag=True, help="Also measure with noise mixed in, which takes minutes."
)
_replace = click.option(
    "--replace",
    is_flag=True,
    help="Remove what another configuration left in RUN, instead of refusing to start.",
)
_config = click.argument("name", metavar="CONFIG")
_set = options.changes("training.epochs=5")


def _of_a_run(
    command: Callable[Concatenate[Run, _Options], None],
) -> Callable[..., None]:
    """Give a command the arguments that name a run, and hand it the run."""

    @_config
    @options.data("the recordings, noise/ and the checkpoint's folder")
    @click.option(
        "--run",
        "--run-folder",  # torchrun takes the short one for an abbreviation of its own --run-path
        "folder",
        type=options.FOLDER,
        help="Folder of the run: each stage reads there what the one before it left.  "
        "[default: runs/NAME-VERSION]",
    )
    @_set
    @wraps(command)
    def with_run(
        name: str,
        root: Path,
        folder: Path | None,
        changes: tuple[str, ...],
        *args: _Options.args,
        **options: _Options.kwargs,
    ) -> None:
        config = configuration.load(name, changes)
        from training.run import Run  # noqa: PLC0415 - see the module's docstring

        identity = f"{config.bundle.name}-{config.bundle.version}"
        command(Run(config, root, folder or Path("runs") / identity), *args, **options)

    return with_run


@click.command()
@_of_a_run
@_out
@_test
@_noise
@_replace
def run(run: Run, *, out: Path | None, test: bool, noise: bool, replace: bool) -> None:
    """Make a bundle by CONFIG: prepare, train, evaluate and export.

    Started again after it was stopped, it goes on where it was.

    \b
      python -m training run compact --data ../data --run runs/compact
      torchrun --nproc-per-node 2 -m training run compact --data ../data \\
        --run-folder runs/compact
    """  # noqa: D301 (\b is click's mark for lines to leave as they are)
    from training import pipeline  # noqa: PLC0415 - see the module's docstring

    bundle = pipeline.make_bundle(run, out, test=test, noise=noise, replace=replace)
    if bundle:
        click.echo(f"{bundle.digest} in {bundle.folder}")


@click.command()
@_of_a_run
def prepare(run: Run) -> None:
    """Hear all recordings once, and report on them in RUN/data.html.

    The report has counts by class, corpus, speaker and length, and what the data's digests are.
    Data that would make figures false is refused: duplicates across splits, speakers in two.
    """
    from training import pipeline  # noqa: PLC0415 - see the module's docstring

    pipeline.prepare(run)


@click.command()
@_of_a_run
@_replace
def train(run: Run, *, replace: bool) -> None:
    """Train, into RUN/model.

    Resumes from the last checkpoint of the same configuration and data; a finished training is
    not done again. Figures of the steps are added to RUN/log.jsonl.

    \b
      accelerate launch -m training train compact --data ../data
    """  # noqa: D301 (\b is click's mark for lines to leave as they are)
    from training import pipeline  # noqa: PLC0415 - see the module's docstring

    pipeline.train(run, replace=replace)


@click.command()
@_of_a_run
@_test
@_noise
def evaluate(run: Run, *, test: bool, noise: bool) -> None:
    """Measure RUN/model as it will be served, into RUN/report.html.

    The weights are exported first, into RUN/draft, and whole clips go through what serves. The
    figures are in RUN/metrics.json (short) and RUN/evaluation.json (all).
    """
    if not is_first():
        return
    from training import pipeline  # noqa: PLC0415 - see the module's docstring

    pipeline.evaluate(run, test=test, noise=noise)


@click.command()
@_of_a_run
@_out
def export(run: Run, *, out: Path | None) -> None:
    """Seal what was measured, with its card, as a bundle in OUT."""
    if not is_first():
        return
    from training import pipeline  # noqa: PLC0415 - see the module's docstring

    bundle = pipeline.seal(run, out)
    click.echo(f"{bundle.digest} in {bundle.folder}")


@click.command()
@_config
@_set
def show(name: str, changes: tuple[str, ...]) -> None:
    """Print CONFIG as JSON, with every default."""
    config = configuration.load(name, changes)
    click.echo(json.dumps(config.model_dump(mode="json"), indent=2))
