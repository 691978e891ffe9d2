"""`timbre bundle quantize`: the command line of `reduce`.

`timbre` finds it by its entry point, since what serves imports nothing of training. Torch and NNCF
load when it runs, so that help is answered at once.
"""

from __future__ import annotations

from pathlib import Path

import click

from service.bundle import open_bundle
from service.domain import TimbreError
from training import config as configuration
from training import options
from training.config import ConfigError

WINDOWS = 300
"""As `calibration_set.WINDOWS`, which a test compares: that module loads the engine."""


@click.command(
    short_help="Add int8 or bf16 to a bundle, if it answers as fp32 does.",
    context_settings={"show_default": True},
)
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "precision",
    type=click.Choice(["int8", "bf16"]),
    default="int8",
    help="The precision to add.",
)
@options.data("the recordings that the bundle was trained and measured on")
@click.option(
    "--config",
    "name",
    default="compact",
    help="Configuration the bundle was made by: how the recordings are divided, and which risk "
    "the review threshold allows.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder of the new bundle; not there yet, or empty.",
)
@click.option("--version", help="Version of the new bundle.  [default: the old one's]")
@click.option(
    "--windows",
    type=click.IntRange(min=1),
    default=WINDOWS,
    help="Windows of training speakers to learn int8's ranges from.",
)
@click.option("--seed", default=0, help="Which windows those are.")
@click.option(
    "--spare",
    "spared",
    multiple=True,
    metavar="REGEX",
    help="Operations that int8 leaves in floats, by their whole names; may be repeated.  "
    "[default: those of the compact model]",
)
@click.option(
    "--ungated",
    is_flag=True,
    help="Measure nothing and let it in: for speed work only. Servers refuse such a precision "
    "unless they are told to take it.",
)
def quantize(
    folder: Path,
    *,
    precision: str,
    root: Path,
    name: str,
    out: Path,
    version: str | None,
    windows: int,
    seed: int,
    spared: tuple[str, ...],
    ungated: bool,
) -> None:
    """Write the bundle in FOLDER, with a reduced precision added, to OUT.

    int8 has weights of its own, made from fp32's with ranges learned from training speakers. bf16
    is fp32's weights, computed in bf16 where the CPU can; no weights are added, but a temperature,
    a threshold and figures.

    Either is measured on the bundle's validation clips beside fp32, as it will be served, and let
    in if macro-F1 falls by at most 0.5 points and 98% of the clips keep their label. Otherwise the
    figures are printed, nothing is written, and the exit code is 1. FOLDER is never changed.

    \b
      timbre bundle quantize ./model --to bf16 --data ../data --out ./model-bf16
      timbre bundle quantize ./model-bf16 --to int8 --data ../data --out ./model-all
      timbre bundle show ./model-all
    """  # noqa: D301 (\b is click's mark for lines to leave as they are)
    try:
        config = configuration.load(name)
        bundle = open_bundle(folder)
        from training import data  # noqa: PLC0415 - see the module's docstring
        from training.quantization import gate, int8  # noqa: PLC0415
        from training.quantization.reduce import reduce  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"This needs what trains ({error.name} is missing): "
            "in a checkout of Timbre, pip install '.[train]'."
        ) from error
    except (ConfigError, TimbreError) as error:
        raise click.ClickException(str(error)) from error
    try:
        made = reduce(
            bundle,
            "int8" if precision == "int8" else "bf16",
            data.load(config.data, root),
            out,
            config.evaluation,
            windows=windows,
            seed=seed,
            spared=spared or int8.SPARED,
            version=version,
            gated=not ungated,
        )
    except (ConfigError, TimbreError, gate.RefusedError) as error:
        raise click.ClickException(str(error)) from error
    weighed = made.manifest.precisions[precision].gate  # type: ignore[index]  # one of the choices
    click.echo(
        gate.told(weighed)
        if weighed
        else f"{precision} is ungated: its answers were not looked at. Use it for speed work only."
    )
    click.echo(f"{made.digest} in {made.folder}")
