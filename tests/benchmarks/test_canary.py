"""The canary's simulation: what it is made of, what it injects, and a short run."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.canary import latencies, predictions
from benchmarks.canary.command import DOCUMENTED, PAGE, SIZES, canary
from benchmarks.canary.report import draw, page
from benchmarks.canary.results import Row, targets
from benchmarks.canary.simulation import EVER_FAILED, Effect, Size, World, simulate, slower
from benchmarks.peers.figures import poisson
from benchmarks.publishing import between
from service.canary.observations import Block, Golden, Live, LiveSide
from service.canary.policy import load_policy
from service.canary.statistics import quantile
from service.canary.verdict import Outcome

PATIENCE_S = 10.0
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

    def test_latencies_are_of_both_sides_in_every_block(self, world: World) -> None:
        """A histogram has as many clips as its row says."""
        assert len(world.latencies) >= 50
        for sides in world.latencies.values():
            assert list(sides) == ["baseline", "canary"]
            assert all(block.seconds.sum() == block.requests for block in sides.values())


class TestLatencies:
    """How they are recorded."""

    def test_pods_of_a_side_are_summed_block_by_block(self, tmp_path: Path) -> None:
        """What is read is what was written."""
        file = tmp_path / "latencies.csv"
        blocks = (_block("a", 100.0, {3: 2}), _block("b", 100.0, {3: 1, 5: 4}))
        later = _block("a", 106.0, {7: 1})
        found = Live(latencies.EDGES, LiveSide((*blocks, later), 0), LiveSide((later,), 0))
        latencies.write(found, 100.0, 6.0, file)
        read = latencies.read(file)
        assert {number: list(sides) for number, sides in read.items()} == {
            0: ["baseline"],
            1: ["baseline", "canary"],
        }
        summed = read[0]["baseline"]
        assert (summed.requests, summed.errors) == (7, 2)
        assert {place: summed.seconds[place] for place in np.flatnonzero(summed.seconds)} == {
            3: 3,
            5: 4,
        }

    def test_buckets_of_another_version_are_refused(self, tmp_path: Path) -> None:
        """Their places would mean other times."""
        found = Live(latencies.EDGES[1:], LiveSide((), 0), LiveSide((), 0))
        with pytest.raises(RuntimeError, match="other buckets"):
            latencies.write(found, 0.0, 6.0, tmp_path / "latencies.csv")

    def test_clips_arrive_on_their_own(self) -> None:
        """However long the ones before take; the route's name goes with each."""
        seconds, rate = 1.0, 20.0
        due = len(poisson(rate, seconds, 0))
        with answering(after=due) as (url, seen):
            latencies.load([b"a", b"b"], url, "audio.example", rate=rate, seconds=seconds)
        assert len(seen) == due
        assert set(seen) == {("audio.example", b"a"), ("audio.example", b"b")}

    def test_a_clip_that_is_not_answered_ends_it(self) -> None:
        """With the status."""
        with (
            answering(HTTPStatus.TOO_MANY_REQUESTS) as (url, _),
            pytest.raises(RuntimeError, match="429"),
        ):
            latencies.load([b"a"], url, "audio.example", rate=50.0, seconds=0.2)


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
    assert between(PAGE.file.read_text("utf-8"), text)


def test_a_short_run_prints_its_table() -> None:
    """And is never published."""
    run = CliRunner().invoke(canary, ["--quick"])
    assert run.exit_code == 0, run.output
    assert "| none (A/A) | 800 | 500 | 2,000 | 2 |" in run.output
    refused = CliRunner().invoke(canary, ["--quick", "--publish"])
    assert refused.exit_code == 1
    assert "only a whole run" in refused.output


@contextmanager
def answering(
    status: HTTPStatus = HTTPStatus.OK, *, after: int = 0
) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Answer no request before so many have come; the URL, and hosts and bodies seen."""
    seen: list[tuple[str, bytes]] = []
    come = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            seen.append((self.headers["host"], body))
            if len(seen) >= after:
                come.set()
            self.send_response(status if come.wait(PATIENCE_S) else HTTPStatus.GATEWAY_TIMEOUT)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", seen
        server.shutdown()
        thread.join()


def _block(pod: str, start_s: float, filled: dict[int, int]) -> Block:
    seconds = np.zeros(latencies.EDGES.size, np.int64)
    seconds[list(filled)] = list(filled.values())
    return Block(pod, start_s, int(seconds.sum()), 1, seconds)


def _gain(golden: Golden) -> float:
    truth = np.array(golden.truth)
    sides = [(np.array(side) == truth).mean() for side in (golden.candidate, golden.stable)]
    return float(sides[0] - sides[1])
