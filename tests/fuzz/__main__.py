"""`make fuzz`: damaged files into decoders, then damaged requests into a real server."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.server import running
from service.decoding.pool import DecoderPool
from service.runtime import cpus
from tests.fuzz import campaign

CRASHES = Path(__file__).parents[2] / "runs" / "fuzz" / "crashes"
console = Console(stderr=True)


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option(
    "--cases", type=click.IntRange(1), default=10_000, help="Files, and as many requests."
)
@click.option("--first", type=click.IntRange(0), default=0, help="Number of the first case.")
@click.option("--seed", default=0, help="Another seed, other cases.")
@click.option("--only", type=click.Choice(["files", "requests"]), help="One kind of cases.")
@click.option("--crashes", type=click.Path(path_type=Path), default=CRASHES, help="For inputs.")
def main(cases: int, first: int, seed: int, only: str | None, crashes: Path) -> None:
    """Fuzz the decoders with damaged files and a real server with damaged requests.

    \b
    Nothing may be answered 5xx, every refusal is a problem, the server stays the same process.
    An input that breaks a decoder, or any of that, is kept; its name says what makes it again:
      python -m tests.fuzz --only files --seed 0 --first 4711 --cases 1
    """  # noqa: D301 (\b is click's mark for lines to leave as they are)
    numbers = range(first, first + cases)
    reports = []
    bars = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*bars, TimeRemainingColumn(), console=console) as progress:
        for kind, run in (("files", _files), ("requests", _requests)):
            if only in {None, kind}:
                report = campaign.Report(kind, seed, crashes)
                task = progress.add_task(kind, total=cases)
                run(report, numbers, lambda task=task: progress.advance(task))  # type: ignore[misc]
                reports.append(report)
    for report in reports:
        _show(report)
    sys.exit(any(report.failures for report in reports))


def _files(report: campaign.Report, numbers: range, progress: Callable[[], object]) -> None:
    with ExitStack() as stack:
        pool = DecoderPool(cpus(), lost=lambda why: report.outcomes.update([f"decoder {why}"]))
        stack.callback(pool.close)
        pool.wait_until_ready()
        campaign.files(report, pool, numbers, progress=progress)


def _requests(report: campaign.Report, numbers: range, progress: Callable[[], object]) -> None:
    with running(TIMBRE_LOG_LEVEL="error") as server, campaign.untouched(server, report):
        campaign.requests(report, server.port, numbers, progress=progress)


def _show(report: campaign.Report) -> None:
    table = Table("outcome", "cases", title=f"{report.kind}, seed {report.seed}")
    for outcome, count in sorted(report.outcomes.items()):
        table.add_row(outcome, f"{count:,}")
    console.print(table)
    if report.kept:
        console.print(f"{len(report.kept)} inputs kept in {report.crashes}", highlight=False)
    for failure in report.failures[:20]:
        console.print(f"FAILED: {failure}", style="red", highlight=False, markup=False)


if __name__ == "__main__":
    main(prog_name="python -m tests.fuzz")
