"""The `timbre` command.

Each subcommand is a module that is imported when it is used, so that `timbre --help` answers at
once: the engine behind `serve` and `classify` takes seconds to load.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

import service
from service.domain import TimbreError

__all__ = ["main"]

_COMMANDS: dict[str, tuple[str, str]] = {
    # name: (where the command is, its line in `timbre --help`); shown in this order.
    "serve": ("service.cli.serve:serve", "Serve a model over HTTP."),
    "classify": ("service.cli.classify:classify", "Tell the emotion of recordings."),
    "bundle": ("service.cli.bundle:bundle", "Show, verify, push and pull models."),
    "golden": ("service.cli.golden:golden", "Make and check labelled sets to compare models by."),
    "compare": ("service.cli.compare:compare", "Tell whether a new model may replace another."),
    "judge": ("service.cli.judge:judge", "Tell the same over HTTP, again and again."),
}


class _LazyGroup(click.Group):
    """Imports a subcommand when it is called, and says a TimbreError in one line, exit code 1."""

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
        except TimbreError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(service.__version__, prog_name="timbre")
def main() -> None:
    """Emotion recognition for audio.

    \b
    What do these recordings express? Here, or over HTTP:
      timbre classify clip.wav calls/
      timbre serve
    \b
    Which model is built in, and is every byte of it in order?
      timbre bundle show
      timbre bundle verify
    \b
    Fetch another one, and check it against what it promises:
      timbre bundle pull oci://registry.example/team/model:1.2.0 ./model
    \b
    Is a new version as good as the one it is to replace?
      timbre compare --golden golden.json --stable-url URL --candidate-url URL
    \b
    Each command explains itself:
      timbre bundle pull --help
    """  # noqa: D301 (\b, a backspace, is click's mark for lines to leave as they are)
