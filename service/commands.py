"""A group of commands, each in a module that is imported when the command is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click

from service.domain import TimbreError


class LazyGroup(click.Group):
    """Helps at once, though its commands may take seconds to import; says errors in one line."""

    def __init__(
        self,
        *arguments: Any,  # noqa: ANN401 - click's own
        places: Mapping[str, tuple[str, str]],
        errors: tuple[type[Exception], ...] = (TimbreError,),
        **options: Any,  # noqa: ANN401 - click's own
    ) -> None:
        """Make it as `click.group(cls=LazyGroup, …)` does.

        Args:
            arguments: click's.
            places: by a command's name where it is, as MODULE:ATTRIBUTE, and its line in the
                group's help; they are shown in this order.
            errors: whose sentence is all that the user sees; the exit code is 1.
            options: click's.
        """
        super().__init__(*arguments, **options)
        self._places = places
        self._errors = errors

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click passes it
        """Name the commands."""
        return list(self._places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click passes it
        """Import a command; None if there is no such."""
        if cmd_name not in self._places:
            return None
        module, _, attribute = self._places[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click passes it
        """Write the commands' lines, and import none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._places.items()])

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run a command.

        Raises:
            click.ClickException: of one of the `errors`.
        """
        try:
            return super().invoke(ctx)
        except self._errors as error:
            raise click.ClickException(str(error)) from error
