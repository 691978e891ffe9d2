"""The `timbre` command.

Each subcommand is a module that is imported when it is used, so that `timbre --help` answers at
once: the engine behind `serve` and `classify` takes seconds to load.
"""

from __future__ import annotations

import click

import service
from service.commands import LazyGroup

__all__ = ["main"]

_COMMANDS: dict[str, tuple[str, str]] = {
    "serve": ("service.cli.serve:serve", "Serve a model over HTTP."),
    "classify": ("service.cli.classify:classify", "Tell the emotion of recordings."),
    "bundle": ("service.cli.bundle:bundle", "Show, verify, push and pull models."),
    "golden": ("service.cli.golden:golden", "Make and check labelled sets to compare models by."),
    "compare": ("service.cli.compare:compare", "Tell whether a new model may replace another."),
    "judge": ("service.cli.judge:judge", "Tell the same over HTTP, again and again."),
}


@click.group(
    cls=LazyGroup, places=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]}
)
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
