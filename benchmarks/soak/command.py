"""`python -m benchmarks soak` and `python -m benchmarks soak-report`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
from tqdm.auto import tqdm

import service
from benchmarks.peers import machine
from benchmarks.peers.clips import wavs
from benchmarks.peers.command import require_quiet
from benchmarks.peers.environment import ROOT
from benchmarks.peers.models import CLIPS, prepare
from benchmarks.publishing import Page, require_whole
from benchmarks.soak import plots, report
from benchmarks.soak.load import write_requests
from benchmarks.soak.plan import BASE, COMPACT, FULL, ORDER, QUICK, TINY, Plan
from benchmarks.soak.results import Results
from benchmarks.soak.stage import Stage
from benchmarks.soak.trials import TRIALS

WORK = Path("runs") / "soak"
MODELS = Path("runs") / "bench" / "models"
"""Shared with the benchmark, which makes the same."""
PAGE = Page(ROOT / "docs" / "reliability.md", "reliability", "Reliability", report.page, plots.draw)
NAMES = {"base": BASE, "compact": COMPACT, "tiny": TINY}
MINUTE_S = 60


@click.command()
@click.argument("trials", nargs=-1, type=click.Choice(ORDER))
@click.option("--quick", is_flag=True, help="A tiny model and seconds for each trial.")
@click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Choice(list(NAMES)),
    help="base is wav2vec2-base of random weights; compact is the embedded one.",
)
@click.option("--work", type=click.Path(path_type=Path), default=WORK, help="For results.")
@click.option("--made", type=click.Path(path_type=Path), default=MODELS, help="For models.")
@click.option("--publish", is_flag=True, help="Put the results into docs/reliability.md.")
def soak(
    *,
    trials: tuple[str, ...],
    quick: bool,
    models: tuple[str, ...],
    work: Path,
    made: Path,
    publish: bool,
) -> None:
    """Try Timbre beyond its capacity, with hostile clients, and over time.

    \b
    TRIALS, all of them if none is named:
      start        how soon a server is ready
      capacity     clips a second at saturation, the measure of what follows
      overload     2, 5, 10 times of it: goodput, refusals, latency, memory, recovery
      slow         500 slow headers, 500 slow bodies and 32 hoarders beside honest clients
      vanishing    clients that leave in the headers, the body, the queue, the engine
      decoder      decoders that are killed and that hang under load
      termination  SIGTERM under load, with a drain
      drift        10 minutes of honest and hostile clients: memory, threads, files

    \b
    Examples:
      python -m benchmarks soak --publish
      python -m benchmarks soak overload --model base
      python -m benchmarks soak --quick slow decoder

    It takes as long as it says when it begins; nothing else should run meanwhile. Results, logs of
    the servers and plots go into a folder of their own under --work. It ends with 1 if a number
    was missed, and with --quick only if a behaviour was.
    """  # noqa: D301 (\b is click's mark for lines to leave as they are)
    plan = QUICK if quick else FULL
    chosen = [NAMES[name] for name in models] or list(plan.trials)
    wanted = {model: _wanted(plan, model, trials) for model in chosen}
    whole = plan == FULL and wanted == {m: list(t) for m, t in FULL.trials.items()}
    if publish and not whole:
        raise click.ClickException("only a whole run is published: leave out what narrows it")
    require_quiet(busy=not publish)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    out = (work / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")).absolute()
    out.mkdir(parents=True)
    results = Results(
        machine=machine.facts(),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        profile="quick" if quick else "full" if whole else "narrowed",
        version=service.__version__,
    )
    seconds = sum(plan.seconds(model, trial) for model, names in wanted.items() for trial in names)
    click.echo(f"About {seconds / MINUTE_S:.0f} min; results go to {out}", err=True)
    try:
        _run(results, plan, wanted, out, made.absolute())
    except KeyboardInterrupt:
        raise click.ClickException(f"stopped; what was finished is in {out}") from None
    _show(results, out)
    if publish:
        require_whole(results)
        PAGE.publish(results)
    sys.exit(any(check.behaviour or not quick for check in results.missed()))


@click.command("soak-report")
@click.argument("raw", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--publish", is_flag=True, help="Put it into docs/reliability.md.")
def soak_report(raw: Path, *, publish: bool) -> None:
    """Write the report of RAW, a raw.json, anew beside it."""
    results = Results.read(raw)
    _show(results, raw.parent)
    if publish:
        require_whole(results)
        PAGE.publish(results)


def _wanted(plan: Plan, model: str, trials: Sequence[str]) -> list[str]:
    """Give the trials of a model, in their order."""
    if trials:
        return [trial for trial in ORDER if trial in trials]
    return list(plan.trials.get(model, ORDER))


def _run(results: Results, plan: Plan, wanted: dict[str, list[str]], out: Path, made: Path) -> None:
    """Run trial after trial; raw.json grows with each."""
    requests = write_requests(out / "requests", wavs(CLIPS))
    seconds = sum(plan.seconds(model, trial) for model, names in wanted.items() for trial in names)
    with tqdm(total=round(seconds), bar_format="{desc} {bar} {elapsed} of {total} s") as bar:
        for name, trials in wanted.items():
            model = prepare(name, made, None, int8=False, say=bar.write)
            stage = Stage(name, model.bundle, requests, plan, out / "logs", bar.update)
            for trial in trials:
                bar.set_description(f"{name}: {trial}")
                results.outcomes.append(TRIALS[trial](stage))
                results.write(out / "raw.json")


def _show(results: Results, folder: Path) -> None:
    """Write the report and its plots into a folder, and say what was met and what missed."""
    saved = PAGE.save(results, folder)
    for outcome in results.outcomes:
        for check in outcome.checks:
            said = f"{outcome.model}, {outcome.trial}: {check.target}: {check.measured}"
            click.echo(f"{check.status:>12}  {said}")
    click.echo(saved)
