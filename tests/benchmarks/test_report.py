"""What the report says of measurements."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.peers import report
from benchmarks.peers.anatomy import HTTP, STAGES
from benchmarks.peers.contenders import Contender
from benchmarks.peers.figures import Spread
from benchmarks.peers.results import Results
from benchmarks.peers.targets import THESIS, TIMBRE, TIMBRE_INT8, Verdict, verdicts
from tests.benchmarks.records import a_cell, some_results

PEER = Contender("fastapi", "openvino", "fp32")
DOCS = Path(__file__).parents[2] / "docs"


def judged(results: Results, words: str) -> Verdict:
    """Find the one verdict on a target."""
    (found,) = [verdict for verdict in verdicts(results) if words in verdict.target]
    return found


def test_rows_come_in_blocks_of_one_precision() -> None:
    """fp32 stands beside fp32, and each one's best in a block of its own, the fastest first."""
    results = some_results(
        [THESIS, PEER, TIMBRE, TIMBRE_INT8],
        [a_cell(THESIS, 1.5), a_cell(PEER, 3.5), a_cell(TIMBRE, 3.6), a_cell(TIMBRE_INT8, 10.0)],
    )
    page = report.page(results)
    fp32 = page.partition("### wav2vec2-base, fp32")[2].partition("###")[0]
    assert fp32.count("| Timbre |") == 1
    assert "OpenVINO int8" not in fp32
    best = page.partition("each one's best")[2]
    assert best.index("| Timbre |") < best.index("| FastAPI |") < best.index("| Flask, gunicorn -w")
    assert "| 6.67 |" in best


def test_int8_without_a_gate_is_said_to_be_for_speed_only() -> None:
    """And that of a model that passed one is not."""
    results = some_results([TIMBRE_INT8], [a_cell(TIMBRE_INT8, 10.0)])
    assert "int8 is ungated" in report.page(results)
    results.models["wav2vec2-base"]["gated"] = ["bf16", "int8"]
    assert "int8 is ungated" not in report.page(results)


def test_a_row_tells_its_distance_to_the_engine_and_to_the_machine() -> None:
    """3.6 of 4 clips/s of the bare engine, and 144 of 200 GFLOPS; 6,480 clips a vCPU-hour."""
    bare = [
        a_cell(f"bare-openvino-fp32{layout}", speed, kind="bare")
        for layout, speed in (("", 3.8), ("-many", 4.0))
    ]
    results = some_results([TIMBRE], [a_cell(TIMBRE, 3.6), *bare])
    results.peaks["fp32"] = 200.0
    (row,) = [line for line in report.page(results).splitlines() if line.startswith("| Timbre |")][
        :1
    ]
    assert "| 90% | 72% |" in row
    assert "| 6,480 | 7.72 |" in row


def test_rounds_are_told_as_a_median_with_its_range() -> None:
    """One round has no range."""
    assert report.spread(Spread(2.0, 1.5, 2.5)) == "2.0 (1.5–2.5)"
    assert report.spread(Spread(2.0, 2.0, 2.0)) == "2.0"
    assert report.number(math.nan) == "–"


def test_a_row_says_how_many_labels_differ_and_how_many_requests_failed() -> None:
    """Speed of wrong answers is no speed."""
    wrong = a_cell(PEER, 3.0, labels_differ=3, answered=98, statuses={"200": 98, "500": 2})
    page = report.page(some_results([PEER], [wrong]))
    assert "| 3 of 98; 2 failed |" in page


def test_refusals_are_told_apart_from_failures() -> None:
    """429 is what a server is to say to a clip that would wait too long."""
    statuses = {"200": 67, "429": 30, "503": 3}
    mixed = a_cell(TIMBRE, 3.0, answered=67, statuses=statuses)
    assert "| 0; 30 refused; 3 failed |" in report.page(some_results([TIMBRE], [mixed]))
    refused = a_cell(TIMBRE, 3.0, answered=70, statuses={"200": 70, "429": 30})
    assert "| 0; 30 refused |" in report.page(some_results([TIMBRE], [refused]))


def test_a_busy_machine_is_no_result() -> None:
    """The page begins with it."""
    busy = some_results([TIMBRE], [a_cell(TIMBRE, 3.0), a_cell(TIMBRE, 3.0, others=0.3)])
    assert report.page(busy).startswith("**Not a result: in 1 of 2 measurements")
    quiet = some_results([TIMBRE], [a_cell(TIMBRE, 3.0)])
    assert "Not a result" not in report.page(quiet)


def test_what_could_not_be_measured_is_told() -> None:
    """With the reason."""
    results = some_results([TIMBRE], [a_cell(TIMBRE, 3.0)])
    results.failures.append(
        {"model": "compact", "contender": "flask", "reason": "it exited with 1"}
    )
    assert "- compact, flask: it exited with 1" in report.page(results)


@pytest.mark.parametrize(("speed", "status"), [(3.31, "met"), (3.2, "missed")])
def test_the_thesis_is_the_measure_of_speed(speed: float, status: str) -> None:
    """2.2 times 1.5 clips/s is 3.3."""
    results = some_results([THESIS, TIMBRE], [a_cell(THESIS, 1.5), a_cell(TIMBRE, speed)])
    assert judged(results, "wav2vec2-base, fp32, 8 clients").status == status


def test_a_number_that_was_not_measured_is_neither_met_nor_missed() -> None:
    """It says so."""
    results = some_results([THESIS, TIMBRE], [a_cell(THESIS, 1.5), a_cell(TIMBRE, 3.0)])
    assert judged(results, "int8, 8 clients").status == "not measured"
    assert judged(results, "framework cost").status == "not measured"


def test_the_compact_model_is_judged_in_a_precision_that_it_takes_by_itself() -> None:
    """bf16 once that has a gate; int8 is faster here, but nobody measured what it costs."""
    bf16 = replace(TIMBRE, precision="bf16")
    cells = [a_cell(THESIS, 1.0)] + [
        a_cell(row, speed, model="compact")
        for row, speed in ((TIMBRE, 30.0), (bf16, 60.0), (TIMBRE_INT8, 90.0))
    ]
    results = some_results([THESIS, TIMBRE, bf16, TIMBRE_INT8], cells)
    assert "30.0×" in judged(results, "the compact model, fp32").measured
    results.models["compact"]["gated"] = ["bf16"]
    assert "60.0×" in judged(results, "the compact model, bf16").measured


def test_the_framework_is_what_the_stages_leave() -> None:
    """10 ms a request less engine, decoding and the rest of Timbre's own stages: 10 − 1 − 4 × 2."""
    tiny = {"model": "tiny", "load": 1}
    results = some_results(
        [TIMBRE, PEER], [a_cell(c, 9.0, cpu_ms=10.0, **tiny) for c in (TIMBRE, PEER)]
    )
    results.anatomy["tiny"] = {**dict.fromkeys(STAGES, 2.0), "engine": 1.0, HTTP: 0.75}
    verdict = judged(results, "framework cost")
    assert (verdict.status, verdict.measured) == ("met", "1.0 ms")
    assert verdict.limit == "0.8 ms of it are HTTP"
    assert "| FastAPI | 9.0 |" in report.page(results)


def test_ahead_means_ahead_of_the_fastest_peer_of_that_precision() -> None:
    """And a peer's best counts whatever its precision."""
    peer8 = replace(PEER, precision="int8")
    results = some_results(
        [PEER, peer8, TIMBRE], [a_cell(PEER, 3.0), a_cell(peer8, 9.0), a_cell(TIMBRE, 3.1)]
    )
    assert judged(results, "every peer at fp32").status == "met"
    assert judged(results, "every peer's best").status == "missed"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, "met"),
        ({"clips_per_s": 2.7}, "missed"),
        ({"statuses": {"200": 30, "429": 29, "503": 1}}, "missed"),
        ({"refused_p99_ms": 80.0}, "missed"),
        ({"recovered_s": 30.0}, "missed"),
    ],
)
def test_overload_is_judged_by_goodput_refusals_and_recovery(
    changes: dict[str, object], status: str
) -> None:
    """All of them, together."""
    facts: dict[str, object] = {
        "kind": "overload",
        "load": 2.0,
        "statuses": {"200": 30, "429": 30},
        "refused_p99_ms": 10.0,
        "recovered_s": 2.0,
        "clips_per_s": 2.95,
    }
    overload = replace(a_cell(TIMBRE, 2.95), **{**facts, **changes})  # type: ignore[arg-type]
    results = some_results([TIMBRE], [a_cell(TIMBRE, 3.0), overload])
    assert judged(results, "2× of capacity").status == status


def test_raw_data_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Reports can be made anew of them, and what isn't a number is null in between."""
    results = some_results([TIMBRE], [a_cell(TIMBRE, 3.0, ready_s=math.nan)])
    file = tmp_path / "raw.json"
    results.write(file)
    assert "NaN" not in file.read_text()
    assert report.page(Results.read(file)) == report.page(results)


def test_the_answers_of_every_load_count() -> None:
    """One other label in a round is a promise broken."""
    right, wrong = a_cell(TIMBRE, 3.0), a_cell(TIMBRE, 3.0, round=1, labels_differ=1)
    assert judged(some_results([TIMBRE], [right]), "torch's labels").status == "met"
    assert judged(some_results([TIMBRE], [right, wrong]), "torch's labels").status == "missed"


def test_the_compact_model_tells_how_much_overload_it_stands() -> None:
    """Every share of it, and whether any keeps 90%."""
    compact = {"model": "compact"}
    cells = [a_cell(TIMBRE, 100.0, **compact)] + [
        a_cell(TIMBRE, speed, kind="overload", load=load, **compact)
        for load, speed in ((2.0, 95.0), (5.0, 60.0))
    ]
    verdict = judged(some_results([TIMBRE], cells), "highest overload")
    assert (verdict.status, verdict.measured) == ("met", "95% at 2×, 60% at 5×")
