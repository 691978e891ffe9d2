"""`python -m benchmarks peers` and `python -m benchmarks report`."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
from tqdm.auto import tqdm

from benchmarks.peers import machine, plots, report
from benchmarks.peers.contenders import every
from benchmarks.peers.environment import ROOT
from benchmarks.peers.plan import FULL, QUICK, Plan
from benchmarks.peers.results import Results
from benchmarks.peers.session import Session
from benchmarks.publishing import Page, require_whole

WORK = Path("runs") / "bench"
PAGE = Page(ROOT / "docs" / "benchmarks.md", "benchmarks", "Benchmark", report.page, plots.draw)
QUIET_S = 2.0
PRICE = 0.05
NAMES = sorted({row.name for int8 in (True, False) for row in every(int8=int8, bf16=True)})


@click.command()
@click.option("--quick", is_flag=True, help="A tiny model and short loads, to try things out.")
@click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Choice(FULL.models),
    help="All if not given.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(report.PRECISIONS),
    help="All if not given, of --quick fp32; bf16 only where the CPU has it.",
)
@click.option(
    "--contender",
    "only",
    multiple=True,
    type=click.Choice(NAMES),
    metavar="NAME",
    help="All if not given.",
)
@click.option("--clients", multiple=True, type=click.IntRange(1, 256), help="Of closed loops.")
@click.option("--rounds", type=click.IntRange(1, 20), help="Turns of all contenders.")
@click.option("--price", default=PRICE, help="Dollars of a vCPU-hour.")
@click.option("--work", type=click.Path(path_type=Path), default=WORK, help="For what is kept.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="For results; under --work if not set."
)
@click.option(
    "--python",
    "peers",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="An interpreter that has benchmarks/peers/requirements.txt; made under --work if not set.",
)
@click.option("--busy", is_flag=True, help="Go on though the machine is busy; the report says so.")
def peers(
    *,
    quick: bool,
    models: tuple[str, ...],
    precisions: tuple[str, ...],
    only: tuple[str, ...],
    clients: tuple[int, ...],
    rounds: int | None,
    price: float,
    work: Path,
    out: Path | None,
    peers: Path | None,
    busy: bool,
) -> None:
    """Timbre beside Flask, FastAPI, LitServe and BentoML with the same models, in turns.

    On 2 CPUs about 50 minutes; before that, once, about 10 for an environment of 1.5 GB and the
    models. With --quick about 2. Ctrl-C stops it and every server; models that were finished are
    in raw.json.
    """
    require_quiet(busy=busy)
    plan = QUICK if quick else FULL
    plan = replace(
        plan,
        models=models or plan.models,
        clients=tuple(sorted(clients)) or plan.clients,
        rounds=rounds or plan.rounds,
    )
    precisions = precisions or (("fp32",) if quick else report.PRECISIONS)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    session = Session(
        plan=plan,
        profile=_profile(
            plan, quick=quick, narrowed=bool(only) or set(precisions) < set(report.PRECISIONS)
        ),
        price=price,
        work=work.absolute(),
        out=(out or work / stamp).absolute(),
        only=only,
        precisions=precisions,
        peers=peers.absolute() if peers else None,
        say=(progress := _Progress()),
    )
    progress.expect(session.turns())
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    started = time.monotonic()
    progress(f"results go to {session.out}")
    try:
        results = session.run()
    except KeyboardInterrupt:
        raise click.ClickException("stopped; nothing is left running") from None
    finally:
        progress.close()
    saved = PAGE.save(results, session.out)
    minutes = (time.monotonic() - started) / 60
    click.echo(f"{saved} after {minutes:.1f} min")


@click.command("report")
@click.argument("raw", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--publish", is_flag=True, help="Put it into docs/benchmarks.md.")
def report_command(raw: Path, *, publish: bool) -> None:
    """Write the report of RAW, a raw.json, anew beside it."""
    results = Results.read(raw)
    PAGE.save(results, raw.parent)
    if publish:
        require_whole(results)
        PAGE.publish(results)


def _profile(plan: Plan, *, quick: bool, narrowed: bool) -> str:
    if quick:
        return "quick"
    return "full" if plan == FULL and not narrowed else "narrowed"


def require_quiet(*, busy: bool) -> None:
    """Refuse to begin on a machine that others use."""
    watch = machine.Watch()
    time.sleep(QUIET_S)
    others = watch.others()
    if others <= machine.BUSY:
        return
    said = f"Other processes have {others:.0%} of the machine"
    if not busy:
        raise click.ClickException(f"{said}; figures would be theirs too. Wait, or give --busy.")
    click.echo(f"{said}: what follows is not a result.", err=True)


class _Progress:
    """A bar of servers and bare engines still to be measured, and what is done now."""

    def __init__(self) -> None:
        self._bar = tqdm(unit="turn", total=0)

    def expect(self, turns: int) -> None:
        self._bar.reset(turns)

    def __call__(self, what: str) -> None:
        if ", round " in what:
            self._bar.update()
            self._bar.set_description(what)
        else:
            self._bar.write(what)

    def close(self) -> None:
        self._bar.close()
