"""Findings, told to people: a table at a terminal, a page in HTML."""

from __future__ import annotations

from pathlib import Path

import jinja2
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from service.canary import plots
from service.canary.findings import CheckFacts, Findings, SideFacts
from service.canary.verdict import Outcome

STYLES = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.INCONCLUSIVE: "yellow"}
_NOTHING = "–"


def screen(told: Findings) -> RenderableType:
    """Lay out the verdict, its checks and the notes for a terminal."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("check", "source", "outcome"):
        table.add_column(heading, no_wrap=True)
    for heading in ("difference", "interval", "may be", "samples"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for check in told.checks:  # Text: a model's labels are never markup
        table.add_row(
            Text(check.name),
            Text(check.source),
            Text(check.outcome, STYLES[check.outcome]),
            Text(effect(check)),
            Text(interval(check)),
            Text(margin(check)),
            Text(samples(check)),
            Text(check.reason),
        )
    lines: list[RenderableType] = [
        Text.assemble(
            (told.outcome.upper(), f"bold {STYLES[told.outcome]}"),
            f" at {told.weight}%: {told.reason}",
        ),
        *(Text(f"{who}: {side(facts)}") for who, facts in sides(told).items()),
    ]
    if told.checks:
        lines += [Text(), table]
    lines += [Text(f"Note: {note}", "dim") for note in told.notes]
    return Group(*lines)


def html(told: Findings) -> str:
    """Make the page: one file that needs no other, without scripts."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "effect": effect,
        "interval": interval,
        "margin": margin,
        "samples": samples,
        "side": side,
        "label": lambda label: label or "no speech",
    }
    return environment.get_template("report.html.j2").render(
        told=told, figures=plots.figures(told), sides=sides(told)
    )


def sides(told: Findings) -> dict[str, SideFacts]:
    """Name the sides that could be looked at."""
    both = {"stable": told.stable, "candidate": told.candidate}
    return {who: facts for who, facts in both.items() if facts is not None}


def side(facts: SideFacts) -> str:
    """Tell in a line what a side serves."""
    digests = [digest.removeprefix("sha256:")[:12] for digest in facts.digests]
    pods = "1 pod" if facts.pods == 1 else f"{facts.pods} pods"
    parts = (" or ".join(values) for values in (facts.versions, digests, facts.precisions))
    return ", ".join([*parts, pods, f"CPU {' or '.join(facts.cpu_features) or 'unknown'}"])


def effect(check: CheckFacts) -> str:
    """Tell by how much the candidate differs, such as `+0.012` or `×1.04`."""
    return _figure(check.effect, check.unit)


def interval(check: CheckFacts) -> str:
    """Tell within which bounds; one that isn't there is a dash."""
    if check.low is None and check.high is None:
        return _NOTHING
    return f"{_figure(check.low, check.unit)} to {_figure(check.high, check.unit)}"


def margin(check: CheckFacts) -> str:
    """Tell by how much it may be worse."""
    if check.margin is None:
        return _NOTHING
    return f"{100 * check.margin:g}% worse" if check.unit == "ratio" else f"{check.margin:g} worse"


def samples(check: CheckFacts) -> str:
    """Tell how many there are, of how many that are needed."""
    return f"{check.samples} of {check.needed}" if check.needed else str(check.samples)


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return _NOTHING
    return f"×{value:.3f}" if unit == "ratio" else f"{value:+.4g}"
