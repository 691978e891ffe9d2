"""`python -m benchmarks canary`: how often the judge errs, and what it errs on is made of."""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path

import click
from tqdm.auto import tqdm

from benchmarks.canary import latencies, predictions
from benchmarks.canary.report import draw, page
from benchmarks.canary.results import Row, targets
from benchmarks.canary.simulation import Effect, Size, World, simulate
from benchmarks.peers.environment import ROOT
from benchmarks.publishing import Page
from service.canary.live import SETTLED_S
from service.canary.pods import Names
from service.canary.policy import load_policy
from service.canary.prometheus import Prometheus
from tests.support.audio import encoded, speech_like

DOCUMENTED = Size(golden=8000, pairs=5000, live=20_000)
SIZES = (
    Size(golden=800, pairs=500, live=2000),
    Size(golden=2000, pairs=1250, live=5000),
    Size(golden=4000, pairs=2500, live=10_000),
    DOCUMENTED,
)
ROLLOUTS, ROLLOUTS_DOCUMENTED, ROLLOUTS_QUICK = 100, 1000, 2
PAGE: Page[list[Row]] = Page(
    ROOT / "docs" / "canary-statistics.md",
    "canary",
    "Simulation",
    lambda rows, plots: page(rows, targets(rows, DOCUMENTED), plots),
    lambda rows, folder: [draw(rows, folder / "simulation.svg")],
)
CLIP_S = (1.0, 2.0, 3.0, 3.0, 4.0, 6.0)
VOICES = 4
WARM_UP_S = 30.0
"""Of load, before what is recorded."""
SECONDS = "{l_bar}{bar}| {n:.0f} of {total:.0f} s"

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


@click.command("canary")
@click.option("--quick", is_flag=True, help="A few small rollouts, to try it out.")
@click.option("--policy", type=_FILE, help="Judge by this policy instead of the default.")
@click.option(
    "--predictions",
    "answers",
    type=_FILE,
    default=predictions.PREDICTIONS,
    help="Of canary-predictions; the committed ones if not given.",
)
@click.option(
    "--latencies",
    "times",
    type=_FILE,
    default=latencies.LATENCIES,
    help="Of canary-latencies; the committed ones if not given.",
)
@click.option("--publish", is_flag=True, help="Put the results into docs/canary-statistics.md.")
def canary(*, quick: bool, policy: Path | None, answers: Path, times: Path, publish: bool) -> None:
    """Simulate rollouts of good and bad candidates, and count the verdicts.

    They are resampled from what two trained bundles said of the same clips, and from latencies of
    two servers of one bundle. It ends with 1 if a number is missed, but not with --quick.
    """
    if publish and (quick or policy):
        raise click.ClickException("only a whole run of the default policy is published")
    world = World(predictions.read(answers), latencies.read(times), load_policy(policy))
    sizes = SIZES[:2] if quick else SIZES
    plan = [
        (effect, size, _rollouts(effect, size, quick=quick)) for effect in Effect for size in sizes
    ]
    rows = []
    with tqdm(total=sum(many for _, _, many in plan), unit="rollout") as bar:
        for effect, size, many in plan:
            counts = simulate(world, effect, size, many, bar.update)
            rows.append(Row(effect, size, many, dict(counts)))
    met = targets(rows, DOCUMENTED)
    click.echo(page(rows, met))
    if publish:
        PAGE.publish(rows)
    sys.exit(not quick and not all(target.met for target in met))


def _rollouts(effect: Effect, size: Size, *, quick: bool) -> int:
    if quick:
        return ROLLOUTS_QUICK
    return ROLLOUTS_DOCUMENTED if (effect, size) == (Effect.NONE, DOCUMENTED) else ROLLOUTS


@click.command("canary-predictions")
@click.option("--data", type=_FOLDER, required=True, help="Folder with speech/manifest.csv.")
@click.option("--split", default="validation", show_default=True, help="Of the manifest.")
@click.argument("older", type=_FOLDER)
@click.argument("newer", type=_FOLDER)
def canary_predictions(*, data: Path, split: str, older: Path, newer: Path) -> None:
    """Let the bundles OLDER and NEWER hear every clip of a split, for `canary`."""
    predictions.record(data / "speech", split, (older, newer))


@click.command("canary-latencies")
@click.option("--gateway", required=True, metavar="URL", help="Of the cluster.")
@click.option("--host", required=True, help="That the release's route has.")
@click.option("--prometheus", "url", required=True, metavar="URL", help="That scrapes the pods.")
@click.option("--namespace", default="timbre", show_default=True, help="Of the release.")
@click.option("--name", default="timbre", show_default=True, help="Of stable's Deployment.")
@click.option("--rate", default=5.0, show_default=True, help="Clips a second, to both sides.")
@click.option("--blocks", default=60, show_default=True, help="Blocks of time.")
@click.option("--block-s", default=6.0, show_default=True, help="Seconds each.")
def canary_latencies(
    *,
    gateway: str,
    host: str,
    url: str,
    namespace: str,
    name: str,
    rate: float,
    blocks: int,
    block_s: float,
) -> None:
    """Load a release whose canary is what stable is, and write both sides' times for `canary`.

    Its canary and baseline have half of the clips each: canary.enabled, canary.weight=50.
    """
    clips = [
        encoded(speech_like(seconds, seed=seed), subtype="PCM_16")
        for seed in range(VOICES)
        for seconds in CLIP_S
    ]
    seconds = blocks * block_s
    with Prometheus(url) as prometheus, tqdm(total=WARM_UP_S + seconds, bar_format=SECONDS) as bar:
        load = partial(latencies.load, clips, gateway, host, rate=rate, progress=bar.update)
        load(seconds=WARM_UP_S)
        since_s = prometheus.now()
        load(seconds=seconds)
        time.sleep(SETTLED_S)
        latencies.record(prometheus, Names.of_release(namespace, name), since_s, block_s)
