"""Results as Markdown: the checks of all trials, then each trial's table. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.peers.machine import BUSY
from benchmarks.peers.report import table
from benchmarks.soak.results import Outcome, Results

SHARES = frozenset({"goodput", "429"})
"""Columns of shares, which are read as percentages."""
TITLES = {
    "start": "Start",
    "capacity": "Capacity",
    "overload": "Overload",
    "slow": "Slow clients",
    "vanishing": "Clients that vanish",
    "decoder": "Decoders that die and hang",
    "termination": "Termination",
    "drift": "Drift",
}


def page(results: Results, plots: Sequence[str] = ()) -> str:
    """Write the whole report.

    Args:
        plots: paths of images, as the page names them.
    """
    parts = [*_warnings(results), _machine(results), "### Numbers to reach\n\n" + _targets(results)]
    parts += [f"![]({plot})" for plot in plots]
    parts += [_section(outcome) for outcome in results.outcomes]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def write(value: Any, *, share: bool = False) -> str:  # noqa: ANN401 - any figure
    """Write a figure for people."""
    if value is None:
        return "–"
    if isinstance(value, dict):
        return ", ".join(f"{name}: {write(each)}" for name, each in value.items()) or "none"
    if not isinstance(value, float):
        return str(value)
    if share:
        return f"{value:.0%}"
    if value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124 - nan
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004


def _warnings(results: Results) -> Iterator[str]:
    if results.profile != "full":
        yield f"**Not a result: the profile `{results.profile}` only tries things out.**"
    if busy := results.busy():
        names = ", ".join(f"{each.trial} ({each.model})" for each in busy)
        yield (f"**Not a result: others had more than {BUSY:.0%} of the machine during {names}.**")


def _machine(results: Results) -> str:
    machine = results.machine
    return (
        f"{results.started[:10]}, Timbre {results.version}, {machine['cpu']}, "
        f"{machine['cpus']} vCPUs ({', '.join(machine['features']) or 'flags unknown'}), "
        f"{machine['memory_gib']} GiB, {machine['system']}, Python {machine['python']}."
    )


def _targets(results: Results) -> str:
    return table(
        ("model", "target", "", "measured"),
        [
            (outcome.model, check.target, check.status, check.measured)
            for outcome in results.outcomes
            for check in outcome.checks
        ],
    )


def _section(outcome: Outcome) -> str:
    """One table for each run of rows that have the same columns."""
    said = f"### {TITLES[outcome.trial]}, {outcome.model}\n"
    columns: tuple[str, ...] = ()
    block: list[list[str]] = []
    for row in [*outcome.rows, {}]:
        if tuple(row) != columns:
            said += f"\n{_table(columns, block)}" if block else ""
            columns, block = tuple(row), []
        block.append([write(value, share=name in SHARES) for name, value in row.items()])
    return said


def _table(columns: Sequence[str], block: Sequence[Sequence[str]]) -> str:
    """Lay out a table; one line of many figures is easier to read as a column."""
    if len(block) == 1:
        return table(("", ""), list(zip(columns, block[0], strict=True)))
    return table(columns, block)
