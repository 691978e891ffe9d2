"""The canary's simulation: what it is made of, what it injects, and a short run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.canary import latencies, predictions
from benchmarks.canary.command import DOCUMENT, DOCUMENTED, SIZES, canary
from benchmarks.canary.report import draw, page
from benchmarks.canary.results import Row, targets
from benchmarks.canary.simulation import EVER_FAILED, Effect, Size, World, simulate, slower
from benchmarks.peers.report import publish
from service.canary.observations import Golden
from service.canary.policy import load_policy
from service.canary.statistics import quantile
from service.canary.verdict import Outcome

SMALL = Size(golden=1000, pairs=600, live=1000)


@pytest.fixture(scope="module")
def world() -> World:
    """What was recorded."""
    return World(predictions.read(), latencies.read(), load_policy())


class TestRecorded:
    """The tables that are committed."""

    def test_predictions_are_of_two_models_that_differ(self, world: World) -> None:
        """Probabilities of all validation clips; the newer is the better."""
        found = world.predictions
        assert found.probabilities.shape == (2, 831, 6)
        assert found.probabilities.sum(axis=2) == pytest.approx(1, abs=0.001)
        older, newer = (found.answers == found.truth).mean(axis=1)
        assert 0.6 < older < newer < 0.9

    def test_latencies_are_of_two_pods_in_every_block(self, world: World) -> None:
        """A histogram has as many clips as its row says."""
        assert len(world.latencies) >= 50
        for pods in world.latencies.values():
            assert len(pods) == 2
            assert all(block.seconds.sum() == block.requests for block in pods.values())


class TestInjected:
    """What is made wrong with a candidate."""

    def test_three_points_of_accuracy_are_lost_on_average(self, world: World) -> None:
        """And none without the effect: sides are swapped at random."""
        for effect, lost in ((Effect.NONE, 0.0), (Effect.ACCURACY, 0.03)):
            random = np.random.default_rng(0)
            found = [_gain(world._golden(2000, effect, random)) for _ in range(60)]
            assert np.mean(found) == pytest.approx(-lost, abs=0.005)

    def test_latencies_rise_by_a_tenth(self) -> None:
        """At every quantile, and no clip is lost."""
        random = np.random.default_rng(0)
        took = 0.1 * random.lognormal(0, 0.4, 100_000)
        edges = latencies.EDGES
        before = np.bincount(np.searchsorted(edges, took), minlength=edges.size)
        after = slower(before, random)
        assert after.sum() == before.sum()
        for share in (0.5, 0.95):
            ratio = quantile(after.astype(float), edges, share) / quantile(
                before.astype(float), edges, share
            )
            assert ratio == pytest.approx(1.1, abs=0.01)

    def test_the_same_seed_is_the_same_rollout(self, world: World) -> None:
        """Another is another."""
        first, second = (
            world.rollout(Effect.NONE, SMALL, np.random.default_rng(3)) for _ in range(2)
        )
        assert first == second


def test_what_is_grossly_wrong_fails_and_too_little_decides_nothing(world: World) -> None:
    """Errors of one point at ten times as many clips as at which it stays open."""
    few = simulate(world, Effect.ERRORS, replace(SMALL, live=500), 3)
    many = simulate(world, Effect.ERRORS, replace(SMALL, live=10_000), 3)
    assert few == {Outcome.INCONCLUSIVE: 3, EVER_FAILED: 0}
    assert many == {Outcome.FAIL: 3, EVER_FAILED: 3}


def test_numbers_to_reach_are_of_the_documented_size() -> None:
    """Met at the bound, missed beyond it."""
    good = Row(Effect.NONE, DOCUMENTED, 1000, {Outcome.PASS: 900, EVER_FAILED: 4})
    bad = Row(Effect.NONE, DOCUMENTED, 1000, {Outcome.PASS: 899, EVER_FAILED: 5})
    weak = Row(Effect.ERRORS, DOCUMENTED, 100, {Outcome.FAIL: 94})
    small = Row(Effect.ERRORS, SIZES[0], 100, {})
    assert [each.met for each in targets([good, small], DOCUMENTED)] == [True, True]
    assert [each.met for each in targets([bad, weak], DOCUMENTED)] == [False] * 3


def test_the_report_has_every_row_and_its_plot(tmp_path: Path) -> None:
    """In shares of the rollouts, between the markers of the page."""
    rows = [
        Row(effect, size, 200, {Outcome.PASS: 100, Outcome.INCONCLUSIVE: 100})
        for effect in Effect
        for size in SIZES
    ]
    plot = draw(rows, tmp_path / "simulation.svg")
    text = page(rows, targets(rows, DOCUMENTED), [plot.name])
    assert "| +10% p95 | 8,000 | 5,000 |" in text
    assert "| 50.0% | 0.0% | 50.0% | 0.0% |" in text
    assert "<svg" in plot.read_text()
    assert publish(DOCUMENT.read_text("utf-8"), text)


def test_a_short_run_prints_its_table() -> None:
    """And is never published."""
    run = CliRunner().invoke(canary, ["--quick"])
    assert run.exit_code == 0, run.output
    assert "| none (A/A) | 800 | 500 | 2,000 | 2 |" in run.output
    refused = CliRunner().invoke(canary, ["--quick", "--publish"])
    assert refused.exit_code == 1
    assert "only a whole run" in refused.output


def _gain(golden: Golden) -> float:
    truth = np.array(golden.truth)
    sides = [(np.array(side) == truth).mean() for side in (golden.candidate, golden.stable)]
    return float(sides[0] - sides[1])
