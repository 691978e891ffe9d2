"""`python -m training`: from a folder of recordings to a sealed bundle."""

from __future__ import annotations

import importlib
from typing import Any

import click

from service.domain import TimbreError
from training.config import ConfigError

_COMMANDS: dict[str, tuple[str, str]] = {
    # name: (where the command is, its line in the help); shown in this order.
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


class _LazyGroup(click.Group):
    """Imports a command when it is called, and says what is wrong in one line, exit code 1."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        try:
            return super().invoke(ctx)
        except (ConfigError, TimbreError) as error:
            raise click.ClickException(str(error)) from error


@click.group(
    cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "show_default": True}
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
    main(prog_name="python -m training")
