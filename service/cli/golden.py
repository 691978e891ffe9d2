"""`timbre golden`: labelled sets to compare versions by."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from service.canary import golden as sets
from service.canary import making

_apart = click.option(
    "--apart-from",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="FOLDER",
    help="Refuse a clip whose bytes are in this folder too, such as that of training's data.",
)


@click.group()
def golden() -> None:
    """Make and check golden sets: labelled clips that two versions are compared by.

    Take audio that neither of them was trained on or chosen by: a model knows what it has heard.
    """


@golden.command(short_help="Make a set of a folder or a CSV file.")
@click.argument("source", type=click.Path(path_type=Path, exists=True), metavar="FOLDER|CSV")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="DIR/golden.json",
    help="Where to; the clips are copied beside it.",
)
@click.option("--name", help="Of the set; that of the folder it is written to if not given.")
@click.option("--version", default="1", show_default=True, help="Another one for other clips.")
@click.option("--licence", default="", help="Of the clips.")
@click.option("--notes", default="", help="What whoever uses it should know.")
@click.option(
    "--labels",
    default="",
    help="In this order, between commas; those that clips have if not given.",
)
@_apart
def create(
    source: Path,
    *,
    out: Path,
    name: str | None,
    version: str,
    licence: str,
    notes: str,
    labels: str,
    apart_from: Path | None,
) -> None:
    """Make a golden set.

    A FOLDER has a folder for each label, with recordings in it or a folder for each speaker. CSV
    has the columns file, label and speaker, and may have corpus and split: rows of other splits
    than test are left out.

    \b
      timbre golden create calls/ --out golden/golden.json --name calls --licence internal
      timbre golden create data/manifest.csv --out golden/golden.json --apart-from data/train
    """  # noqa: D301
    found = making.listed(source)
    made = making.create(
        found,
        out,
        name=name or out.absolute().parent.name,
        version=version,
        licence=licence,
        notes=notes,
        labels=[label.strip() for label in labels.split(",") if label.strip()],
    )
    _tell(made, apart_from)
    if len({one.speaker for one in found}) == len(found) > 1:
        click.echo(
            "No two clips have one speaker. If that isn't so, say who speaks: intervals would be "
            "too narrow.",
            err=True,
        )


@golden.command(short_help="Check every clip of a set.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), metavar="golden.json")
@_apart
def verify(file: Path, *, apart_from: Path | None) -> None:
    """Check every clip of a golden set; exit code 1 and the reason if one isn't as it was.

    \b
      timbre golden verify golden/golden.json
      timbre golden verify golden/golden.json --apart-from data/train
    """  # noqa: D301
    _tell(sets.read(file), apart_from)


def _tell(opened: sets.GoldenSet, apart_from: Path | None) -> None:
    """Say what is in it, once it is known to be apart from the folder."""
    compared = sets.require_apart(opened, apart_from) if apart_from is not None else None
    clips = opened.manifest.clips
    counts = Counter(clip.label for clip in clips)
    speakers = len({clip.speaker for clip in clips})
    click.echo(
        f"OK {opened.title}: {len(clips)} clips of {speakers} speakers, "
        + ", ".join(f"{counts[label]} {label}" for label in opened.manifest.labels)
    )
    if compared is not None:
        click.echo(f"None of them is among the {compared} files of {apart_from}.")
