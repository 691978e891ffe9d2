"""The reliability suite: its arithmetic, its report, and a short run with a tiny model."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.peers.client import BROKEN, Sample
from benchmarks.soak import report
from benchmarks.soak.load import IN_A_ROW, Phase, between, recovery_s, schedule, summary
from benchmarks.soak.plan import FULL, ORDER, QUICK, TINY
from benchmarks.soak.results import Outcome, Results, behaves, reaches
from benchmarks.soak.trials import TRIALS
from benchmarks.soak.trials.drift import BLOCK_S, slope

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def a_sample(due: float, status: int = 200, latency_s: float = 0.1) -> Sample:
    """Make a request that was due then, and sent 10 ms late."""
    return Sample(0, due, due + 0.01, due + latency_s, status, b"")


class TestLoad:
    """What is offered, and what it is taken for."""

    def test_phases_follow_each_other_at_their_own_rates(self) -> None:
        """One after the other, in order; twice the rate is about twice as many."""
        times = schedule([Phase(50, 20), Phase(100, 20)])
        assert times == sorted(times)
        first = sum(time < 20 for time in times)
        assert first == pytest.approx(1000, rel=0.15)
        assert len(times) - first == pytest.approx(2000, rel=0.15)
        assert times[-1] < 40

    def test_answers_are_told_apart(self) -> None:
        """200 and 429 each have their latencies; everything else is wrong."""
        samples = [
            *(a_sample(k, latency_s=0.2) for k in range(3)),
            a_sample(3, 429, 0.02),
            a_sample(4, 503),
            a_sample(5, BROKEN),
        ]
        told = summary(samples)
        assert (told.requests, told.accepted) == (6, 3)
        assert told.wrong == {"503": 1, str(BROKEN): 1}
        assert told.p99_ms == pytest.approx(200)
        assert told.refused_p99_ms == pytest.approx(20)
        assert told.late_p99_ms == pytest.approx(10)

    def test_a_span_has_what_was_due_in_it(self) -> None:
        """Its begin is in it, its end is not."""
        samples = [a_sample(k) for k in range(5)]
        assert [sample.due for sample in between(samples, 1, 3)] == [1, 2]

    def test_recovery_is_when_a_row_of_good_answers_begins(self) -> None:
        """One more refusal in between, and it begins after that."""
        refused = [a_sample(10 + k, 429) for k in range(2)]
        good = [a_sample(12 + k) for k in range(IN_A_ROW)]
        assert recovery_s([*refused, *good], 10, 1.0) == 2
        assert recovery_s(good, 10, 1.0) == 0
        assert recovery_s([*refused, *good[1:]], 10, 1.0) == math.inf
        broken = [*refused, *good[:5], a_sample(16.5, 429), *(a_sample(20 + k) for k in range(10))]
        assert recovery_s(broken, 10, 1.0) == 10

    def test_a_late_answer_is_no_recovery(self) -> None:
        """Where it is asked for within a time."""
        late = [a_sample(10 + k, latency_s=2.0) for k in range(IN_A_ROW)]
        assert recovery_s(late, 10, 1.0) == math.inf
        assert recovery_s(late, 10, math.inf) == 0


class TestDrift:
    """The slope of memory, with what it may be."""

    def test_a_line_has_its_slope_and_no_doubt(self) -> None:
        """1 MiB in 60 s is 60 an hour."""
        times = [float(second) for second in range(300)]
        found = slope(times, [300 + time / 60 for time in times])
        assert found.per_hour == pytest.approx(60)
        assert (found.low, found.high) == pytest.approx((60, 60), abs=1e-6)

    def test_what_only_swings_is_within_its_interval(self) -> None:
        """No growth is one of the slopes it may have."""
        times = [float(second) for second in range(300)]
        found = slope(times, [300 + (second // BLOCK_S) % 3 for second in range(300)])
        assert found.low < 0 < found.high

    def test_too_little_says_nothing(self) -> None:
        """Two blocks lie on a line whatever they are."""
        assert math.isnan(slope([0.0, BLOCK_S], [1.0, 2.0]).per_hour)
        assert math.isnan(slope([], []).per_hour)


class TestReport:
    """What is written of it."""

    def results(self) -> Results:
        machine = {
            "cpu": "A CPU",
            "cpus": 2,
            "features": ["avx2"],
            "memory_gib": 8.0,
            "system": "Linux 6",
            "python": "3.12.0",
        }
        rows = [{"offered": 2.0, "goodput": 0.951, "recovered after s": math.inf}] * 2
        checks = [
            behaves("no 5xx", good=True, measured="none"),
            reaches("fast", good=False, measured="slow"),
        ]
        outcome = Outcome("overload", TINY, rows, checks)
        return Results(machine, "2026-01-02T03:04:05+00:00", "quick", "0.1.0", [outcome])

    def test_tables_have_figures_as_people_read_them(self) -> None:
        """Shares are percentages, and what isn't finite is a dash."""
        page = report.page(self.results(), ["reliability/goodput.svg"])
        assert "| 2 | 95% | – |" in page
        assert "| tiny | fast | missed | slow |" in page
        assert "![](reliability/goodput.svg)" in page
        assert "Not a result: the profile `quick`" in page

    def test_raw_data_come_back_as_they_were_written(self, tmp_path: Path) -> None:
        """Reports can be made anew of them."""
        results = self.results()
        results.write(tmp_path / "raw.json")
        again = Results.read(tmp_path / "raw.json")
        assert report.page(again) == report.page(results)
        assert [check.target for check in again.missed()] == ["fast"]

    def test_the_page_has_a_place_for_it(self) -> None:
        """And says every trial there is."""
        page = (DOCS / "reliability.md").read_text(encoding="utf-8")
        assert "results: begin" in page
        assert list(TRIALS) == list(ORDER) == list(report.TITLES)
        assert all(f"| `{trial}` |" in page for trial in ORDER)


def test_a_whole_run_takes_less_than_half_an_hour() -> None:
    """By its own estimate, which is printed before it begins."""
    for plan, minutes in ((FULL, 30), (QUICK, 3)):
        every = [(model, trial) for model, trials in plan.trials.items() for trial in trials]
        assert sum(plan.seconds(model, trial) for model, trial in every) < minutes * 60


SHORT = ("overload", "slow", "vanishing", "termination")
"""Decoders that die are in tests/http; the drift takes its time."""


# Most of it is starting servers, and the machine may be busy.
@pytest.mark.timeout(600)
def test_a_short_run_holds_what_is_promised_on_any_machine(tmp_path: Path) -> None:
    """Under 3× load, beside a thousand slow clients, with clients that leave, and on SIGTERM."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks", "soak", "--quick", *SHORT),
            *("--work", str(tmp_path / "runs"), "--made", str(tmp_path / "models")),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    (raw,) = tmp_path.glob("runs/*/raw.json")
    results = Results.read(raw)
    assert [outcome.trial for outcome in results.outcomes] == list(SHORT)
    checks = [check for outcome in results.outcomes for check in outcome.checks]
    assert all(check.status == "met" for check in checks if check.behaviour), checks
    overload, slow, vanishing, termination = (outcome.rows for outcome in results.outcomes)
    assert overload[0]["429"] > 0
    assert overload[0]["MiB"] < 1024
    assert slow[-1]["files"] > QUICK.slow
    assert sum(vanishing[0]["vanished"].values()) > 0
    assert termination[0]["answered while draining"] > 0
    assert json.loads(raw.read_text())["machine"]["cpus"] > 0
    for name in ("report.md", "goodput.svg"):
        assert (raw.parent / name).is_file()
