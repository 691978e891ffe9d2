"""`python -m training`: from a folder of recordings to a sealed bundle."""

from __future__ import annotations

from pathlib import Path

import click

from service.domain import TimbreError
from training import config as configuration

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.argument("name", metavar="CONFIG", default="compact")
@click.option(
    "--data",
    "root",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    required=True,
    help="Folder with speech/manifest.csv, noise/ and the checkpoint's folder.",
)
@click.option(
    "--run",
    type=_FOLDER,
    help="Where checkpoints and figures go; a run that was stopped resumes from here.  "
    "[default: runs/NAME-VERSION]",
)
@click.option("--out", type=_FOLDER, help="Folder of the bundle.  [default: RUN/bundle]")
@click.option(
    "--test", is_flag=True, help="Also measure the test split. Do so once, when all is decided."
)
def main(name: str, root: Path, run: Path | None, out: Path | None, *, test: bool) -> None:
    r"""Prepare, train, evaluate and export a bundle by CONFIG: a name or a TOML file.

    \b
    Names: compact (the embedded default model), smoke (a minute, worth nothing).
    Example: python -m training compact --data ../data --run runs/compact
    """
    try:
        config = configuration.load(name)
        # Here, so that --help and a wrong argument don't wait ten seconds for torch.
        from training.pipeline import make_bundle  # noqa: PLC0415

        run = run or Path("runs") / f"{config.bundle.name}-{config.bundle.version}"
        bundle = make_bundle(config, root, run, out or run / "bundle", test=test)
    except (configuration.ConfigError, TimbreError) as error:
        raise click.ClickException(str(error)) from error
    for split, figures in bundle.manifest.precisions["fp32"].metrics.items():
        click.echo(f"{split}: accuracy {figures['accuracy']}, macro-F1 {figures['macro_f1']}")
    click.echo(f"{bundle.digest} in {bundle.folder}")


if __name__ == "__main__":
    main(prog_name="python -m training")
