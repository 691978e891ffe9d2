"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import click

Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

FOLDER = click.Path(path_type=Path, file_okay=False)


def data(what: str) -> Decorator:
    """Ask for the folder of recordings, which the command knows as `root`; its help says `what`."""
    kind = click.Path(path_type=Path, exists=True, file_okay=False)
    return click.option("--data", "root", type=kind, required=True, help=f"Folder with {what}.")


def changes(example: str) -> Decorator:
    """Let a configuration be changed; the command knows it as `changes`."""
    return click.option(
        "--set",
        "changes",
        multiple=True,
        metavar="SECTION.FIELD=VALUE",
        help=f"Change the configuration, as in --set {example}; may be repeated.",
    )
