"""`python -m training`: from a folder of recordings to a sealed bundle."""

from __future__ import annotations

import signal
import sys

import click

from service.commands import LazyGroup
from service.domain import TimbreError
from training.config import ConfigError
from training.launch import ENDED

_COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("training.commands:run", "All four stages: from recordings to a bundle."),
    "prepare": ("training.commands:prepare", "1. Hear the recordings, report on them."),
    "train": ("training.commands:train", "2. Train a model."),
    "evaluate": ("training.commands:evaluate", "3. Measure it as it will be served."),
    "export": ("training.commands:export", "4. Seal it as a bundle."),
    "distil": ("training.distil.command:distil", "Teach a compact encoder, without labels."),
    "compare": ("training.comparison.command:compare", "Recipes side by side, on strangers."),
    "baselines": ("training.baselines.command:baselines", "What a model has to beat."),
    "show": ("training.commands:show", "Print a configuration with its defaults."),
}


@click.group(
    cls=LazyGroup,
    places=_COMMANDS,
    errors=(ConfigError, TimbreError),
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
def main() -> None:
    """Make a bundle: prepare, train, evaluate, export.

    \b
    The embedded default model, from recordings in ../data:
      python -m training run compact --data ../data --run runs/compact
    \b
    The same one stage at a time; each finds in the run's folder what it needs:
      python -m training prepare  compact --data ../data --run runs/compact
      python -m training train    compact --data ../data --run runs/compact
      python -m training evaluate compact --data ../data --run runs/compact
      python -m training export   compact --data ../data --run runs/compact
    \b
    Another try without another file:
      python -m training run compact --data ../data --run runs/try \\
        --set training.epochs=5 --set bundle.version=0.2.0-try

    CONFIG is a TOML file that states only what differs from the defaults, or the name of one:
    compact (the embedded model), thesis (the thesis's own recipe), smoke (a minute, worth
    nothing).
    """  # noqa: D301 (\b is click's mark for lines to leave as they are)


if __name__ == "__main__":
    # A container's first process would not be ended by it otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ENDED))
    main(prog_name="python -m training")
