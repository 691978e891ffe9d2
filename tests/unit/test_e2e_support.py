"""What the end-to-end tests make of what kubectl and k6 say, without either."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e import coldstart, load, vitals
from tests.e2e.engines import Course
from tests.e2e.figures import Figures, page
from tests.e2e.summary import of_measured, read
from tests.e2e.timeline import Seen, first, parts, values, when
from tests.support.layers import merged


def counter(count: int) -> dict[str, object]:
    """A counter as k6 gives it."""
    return {"type": "counter", "contains": "default", "values": {"count": count, "rate": 1.5}}


def k6(**counts: int) -> str:
    """What k6 prints at its end."""
    spread = {"avg": 20.5, "med": 18, "p(95)": 40, "p(99)": 61.5, "max": 80}
    metrics: dict[str, object] = {name: counter(count) for name, count in counts.items()}
    metrics["answer_ms"] = {"type": "trend", "contains": "time", "values": spread}
    return json.dumps({"root_group": {}, "state": {}, "metrics": metrics})


class TestSummary:
    """A load's summary."""

    def test_counts_what_k6_counted(self) -> None:
        """Counters are read, and those that k6 leaves out because nothing was counted are 0."""
        summary = read(k6(sent=12, answered=10, failed=2, failed_once=2, opened=5))
        assert (summary.sent, summary.answered, summary.failed, summary.opened) == (12, 10, 2, 5)
        assert (summary.refused, summary.dropped, summary.gaps) == (0, 0, 0)
        assert summary.figures()["p99 ms"] == 61.5

    def test_warming_up_is_left_out(self) -> None:
        """Where a scenario was measured apart, its counts are taken."""
        summary = read(k6(sent=12, **{of_measured("sent"): 9}))
        assert summary.sent == 9

    def test_what_was_due_and_not_sent_is_a_failure(self) -> None:
        """A report counts clips that were dropped with those that failed."""
        assert read(k6(sent=3, failed=1, dropped_iterations=2)).figures()["failed"] == 3

    def test_failures_are_told_apart(self) -> None:
        """Failures are read among k6's other lines, with times in seconds."""
        told = (
            "Request Failed\n"
            'x {"started":1500,"ended":2500,"number":1,"status":502,"said":"Bad"} source=console\n'
        )
        (failure,) = read(k6(sent=1), told).failures
        assert (failure.started, failure.ended, failure.status) == (1.5, 2.5, 502)

    def test_what_the_end_cut_off_has_not_failed(self) -> None:
        """The script may still tell of it; a connection that a server reset is a failure."""
        told = [
            json.dumps({"started": 1, "ended": 2, "number": 1, "status": 0, "said": said})
            for said in ("context canceled", "read: connection reset by peer")
        ]
        summary = read(k6(sent=2, failed=1), "\n".join(told))
        assert [failure.said for failure in summary.failures] == ["read: connection reset by peer"]
        assert summary.cut == 1

    def test_no_summary(self) -> None:
        """A k6 that broke off is an error that says what it said."""
        with pytest.raises(ValueError, match="no such file"):
            read("", "no such file")


class TestLoad:
    """What k6 is told."""

    def test_arrivals_come_over_enough_connections(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """Half the clips come over connections idle for GAP_S, the others over the rest."""
        started: list[dict[str, dict[str, object]]] = []
        monkeypatch.setattr(
            load, "_start", lambda _, __, scenarios, *___, **____: started.append(scenarios)
        )
        target = load.Target("http://gateway", "host", tmp_path / "clip", "label")
        load.arriving(target, tmp_path, rate=30)
        load.arriving(target, tmp_path, rate=100)
        slow, fast = started
        assert [slow[name]["preAllocatedVUs"] for name in ("idle", "steady")] == [75, 125]
        assert [fast[name]["preAllocatedVUs"] for name in ("idle", "steady")] == [250, 250]
        assert slow["idle"]["rate"] == slow["steady"]["rate"] == 150
        assert slow["idle"]["timeUnit"] == "10s"


class TestTimeline:
    """A watch's events."""

    def test_conditions_and_values(self) -> None:
        """A condition's time is when it was first true; a value counts once while it is kept."""
        seen = [
            Seen(
                at,
                "MODIFIED",
                {
                    "spec": {"replicas": replicas} if replicas else {},
                    "status": {"conditions": [{"type": "Ready", "status": ready}]},
                },
            )
            for at, replicas, ready in (
                (1.0, 0, "False"),
                (2.0, 1, "True"),
                (3.0, 1, "False"),
                (4.0, 3, "True"),
            )
        ]
        assert first(seen, "Ready") == 2.0
        assert first(seen, "Initialized") is None
        assert values(seen, "spec", "replicas") == [0, 1, 3]
        assert when(seen, 3, "spec", "replicas") == 4.0
        assert when(seen, 2, "spec", "replicas") is None

    def test_parts_add_up(self) -> None:
        """Each part is named after the mark it ends at; an unknown mark joins two parts."""
        assert parts({"created": 10.0, "scheduled": 10.5, "pulled": None, "ready": 14.0}) == {
            "scheduled": 0.5,
            "ready": 3.5,
        }

    def test_log_times(self) -> None:
        """A log line's time is read to the microsecond, whatever the number of its digits."""
        log = [
            "2026-01-01T00:00:01.123456789Z Timbre on http://localhost",
            '2026-01-01T00:00:02.5Z {"message": "serving timbre"}',
        ]
        started, served = coldstart.said(log, "Timbre on"), coldstart.said(log, "serving ")
        assert started is not None
        assert served is not None
        assert served - started == pytest.approx(1.376544)
        assert coldstart.said(log, "never") is None


def look(outcome: str, requests: int = 0, **failed: str) -> dict[str, object]:
    """What the judge finds, with the checks that fail and their sources."""
    checks = [{"name": "sides", "source": "sides", "outcome": "pass"}]
    checks += [{"name": n, "source": s, "outcome": "fail"} for n, s in failed.items()]
    live = {"candidate": {"requests": requests}}
    return {"outcome": outcome, "reason": f"Verdict: {outcome}.", "checks": checks, "live": live}


def phases(*names: str) -> list[Seen]:
    """An engine's object as it goes through phases."""
    return [Seen(at, "MODIFIED", {"status": {"phase": name}}) for at, name in enumerate(names)]


class TestCourse:
    """What becomes of a candidate by an engine in the cluster."""

    def test_where_the_last_one_ended_is_no_end(self) -> None:
        """A phase is the candidate's once the object has had another."""
        assert Course([], phases("Failed", "Failed")).phase == ""
        assert Course([], phases("Failed", "Progressing", "Failed")).phase == "Failed"

    def test_looks_at_nobody_are_left_out(self) -> None:
        """Before the candidate's pods are there, and after."""
        nobody: dict[str, object] = {
            "outcome": "inconclusive",
            "reason": "No pods.",
            "checks": [],
            "live": None,
        }
        course = Course([nobody, look("pass", 7), nobody], [])
        assert (course.outcomes, course.reason, course.clips) == ({"pass"}, "Verdict: pass.", 7)

    def test_every_check_that_failed_counts(self) -> None:
        """At any look; the reason is that of the first that failed the candidate."""
        later = {**look("fail", p50="live"), "reason": "Later."}
        course = Course([look("pass"), look("fail", accuracy="golden"), later], [])
        assert course.failing == {"accuracy": "golden", "p50": "live"}
        assert course.reason == "Verdict: fail."

    def test_what_passed_counts_more_than_what_was_open(self) -> None:
        """At the end of a candidate that was promoted its pods go."""
        assert Course([look("pass"), look("inconclusive")], []).reason == "Verdict: pass."
        assert Course([look("inconclusive")], []).reason == "Verdict: inconclusive."

    def test_nothing_is_said_of_what_nobody_looked_at(self) -> None:
        """A candidate that never was there."""
        assert Course([], []).row() == {"ends": "", "clips of its own": 0, "because": ""}


class TestFigures:
    """The report."""

    def test_a_row_alone_is_a_column(self) -> None:
        """A section of one row lists its figures below each other, as people read them."""
        text = page({"Capacity": [{"pods": 3, "clips/s": 1234.5, "at rest": 0.01234}]})
        assert "## Capacity" in text
        assert "| pods | 3 |\n| clips/s | 1,234 |\n| at rest | 0.0123 |" in text

    def test_rows_of_other_columns_are_a_table_of_their_own(self) -> None:
        """Rows with the same columns share a table."""
        text = page({"A": [{"a": 1}, {"a": 2}, {"b": None}]})
        assert "| a |\n| --- |\n| 1 |\n| 2 |\n" in text
        assert "| b | – |" in text

    def test_files(self, tmp_path: Path) -> None:
        """Both files are written; the JSON is strict, and sums are of the rows."""
        figures = Figures()
        figures.add("Load", sent=3, p50=float("nan"), sizes=[1, 3])
        figures.add("Load", sent=4, p50=1.0, sizes=[])
        figures.save(tmp_path / "runs")
        saved = json.loads((tmp_path / "runs" / "figures.json").read_text(encoding="utf-8"))
        assert saved == {
            "Load": [
                {"sent": 3, "p50": None, "sizes": [1, 3]},
                {"sent": 4, "p50": 1.0, "sizes": []},
            ]
        }
        assert "| 3 | – | 1, 3 |" in (tmp_path / "runs" / "report.md").read_text(encoding="utf-8")
        assert figures.total("Load", "sent") == 7


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0.0), ("250m", 0.25), ("2", 2.0), ("1500000n", 0.0015), ("512Mi", 2.0**29)],
)
def test_quantities(text: str, value: float) -> None:
    """Quantities are read as Kubernetes means them."""
    assert vitals.quantity(text) == pytest.approx(value)


def test_a_quantity_that_is_none() -> None:
    """What is no quantity is an error."""
    with pytest.raises(ValueError, match="12 apples"):
        vitals.quantity("12 apples")


def test_values_merge_as_helm_merges_them() -> None:
    """Maps merge, and lists and all else are replaced; the layers stay as they were."""
    below = {"a": {"x": 1, "y": [1, 2]}, "b": 1}
    assert merged(below, {"a": {"y": [3]}, "c": {}}) == {"a": {"x": 1, "y": [3]}, "b": 1, "c": {}}
    assert below == {"a": {"x": 1, "y": [1, 2]}, "b": 1}
