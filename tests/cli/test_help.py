"""What every command says of itself."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main as benchmarks
from service.cli import main as timbre
from training.__main__ import main as training

PROGRAMS = {"timbre": timbre, "python -m training": training, "python -m benchmarks": benchmarks}


def _commands(
    command: click.Command, *path: str
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Give a command and all that are below it, by the words that reach them."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            assert below is not None
            yield from _commands(below, *path, each)


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_command_explains_itself(program: str) -> None:
    """In sentences, with a line for each option, and without marks of how it is laid out."""
    for path, command in _commands(PROGRAMS[program]):
        name = " ".join([program, *path])
        # From the top: what a command inherits is kept at its first call.
        said = CliRunner().invoke(PROGRAMS[program], [*path, "--help"], prog_name=program)
        assert said.exit_code == 0, name
        assert said.output.startswith(f"Usage: {name} "), said.output
        assert command.help, name
        assert r"\b" not in said.output, said.output
        unexplained = [
            option.name
            for option in command.params
            if isinstance(option, click.Option) and not option.hidden and not option.help
        ]
        assert unexplained == [], name
