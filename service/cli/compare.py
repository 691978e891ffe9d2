"""`timbre compare`: is a new model version as good as the one it is to replace?"""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from service.cli import canary

if TYPE_CHECKING:
    from service.canary.findings import Findings

_PIPE_WIDTH = 160
"""Columns when nobody looks: a check fits in a line or two."""


@click.command(cls=canary.Command)
@canary.sources
@canary.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Look again until it is decided, for so long.",
)
@canary.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write all that was found, in the form of docs/verdict.schema.json; - to print it.",
)
@canary.option(
    "--html",
    "html_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a report with figures: one file, no scripts.",
)
@click.pass_context
def compare(
    context: click.Context,
    /,
    *,
    wait: float,
    json_file: Path | None,
    html_file: Path | None,
    **given: Any,  # noqa: ANN401
) -> None:
    """Compare a new model version, the candidate, with stable.

    By a labelled set that both are asked about, by live clips that the candidate was let hear
    (shadow), and by live traffic, as far as there is any. What is to be shown at which --weight is
    the policy's matter.

    \b
    Two servers on a laptop, and a golden set:
      timbre compare --golden golden.json \\
        --stable-url http://localhost:3000 --candidate-url http://localhost:3001
    \b
    A canary in a cluster, before it gets traffic; wait up to half an hour for enough of it:
      timbre compare --prometheus http://prometheus:9090 --namespace audio --name timbre \\
        --golden golden.json --stable-url http://timbre-stable:3000 \\
        --candidate-url http://timbre-canary:3000 --wait 1800 --html report.html
    \b
    The same canary with a tenth of the traffic:
      timbre compare --prometheus http://prometheus:9090 --namespace audio --name timbre \\
        --weight 10 --wait 3600 --json - | jq .reason

    To servers that ask for a token, the one in the variable TIMBRE_TOKEN is sent, or the first of
    --token-file.

    Exit code: 0 the candidate may go on (pass), 1 it is worse than it may be (fail), 2 too little
    is known (inconclusive), 3 wrong usage or another error, 130 interrupted.
    """  # noqa: D301 (\b is click's mark for lines to leave as they are)
    sources = canary.checked(canary.Sources(**given))
    judge = canary.judging(sources)
    with canary.needing("compare"):
        from service.canary import compare as comparing  # noqa: PLC0415 - `--help` needs none
        from service.canary import report  # noqa: PLC0415
        from service.canary.findings import findings  # noqa: PLC0415
        from service.canary.verdict import EXIT_CODES  # noqa: PLC0415
    # At 0 nothing is judged by clients' clips, and a golden set's answers don't change.
    is_live = sources.prometheus is not None and sources.weight > 0
    with ExitStack() as stack:
        comparison = canary.comparison(sources, stack)
        found = comparing.wait(
            lambda: comparison.look(judge, sources.weight),
            wait,
            clock=time.monotonic,
            sleep=time.sleep,
            pass_after_s=comparing.own_blocks_s(sources.block) if is_live else 0.0,
        )
    told = findings(found)
    if html_file is not None:
        _write(html_file, report.html(told))
    if json_file is not None:
        _write(json_file, told.model_dump_json(indent=2) + "\n")
    _show(told, on_stderr=json_file == Path("-"))
    context.exit(EXIT_CODES[told.outcome])


def _write(file: Path, text: str) -> None:
    if file == Path("-"):
        click.echo(text, nl=False)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"Cannot write {file}: {error.strerror}.") from error


def _show(told: Findings, *, on_stderr: bool) -> None:
    from service.canary import report  # noqa: PLC0415

    console = Console(stderr=on_stderr, highlight=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    console.print(report.screen(told))
