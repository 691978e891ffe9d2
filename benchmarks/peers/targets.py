"""The numbers to reach: which are met, and what limits those that aren't. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from benchmarks.peers.anatomy import HTTP, STAGES
from benchmarks.peers.contenders import Contender
from benchmarks.peers.figures import share_of_peak
from benchmarks.peers.results import Results

Status: TypeAlias = Literal["met", "missed", "not measured"]
BASE, COMPACT, TINY = "wav2vec2-base", "compact", "tiny"
THESIS = Contender("thesis", "torch", "fp32")
TIMBRE = Contender("timbre", "openvino", "fp32")
TIMBRE_INT8 = Contender("timbre", "openvino", "int8")
GOODPUT = {2.0: 0.95, 5.0: 0.95, 10.0: 0.90}
REFUSAL_MS = 50.0
RECOVERY_S = 5.0
MEMORY_MIB = 1536.0
READY_S = 5.0
FRAMEWORK_MS = 3.0
SHARE_OF_BARE = 0.92
KEPT = 0.90
TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True)
class Verdict:
    """A number to reach, and what came of it."""

    target: str
    status: Status
    measured: str
    limit: str = ""
    """What limits it, where that was measured."""


def verdicts(results: Results) -> list[Verdict]:
    """Judge every target that this benchmark measures, in the order of the design."""
    return [
        _times(results, BASE, TIMBRE_INT8, 7.0, "wav2vec2-base"),
        _times(results, BASE, TIMBRE, 2.2, "wav2vec2-base"),
        _times(results, COMPACT, _chosen(results), 40.0, "the compact model", against=BASE),
        *_ahead(results),
        *_bare(results),
        _framework(results),
        *_overloads(results),
        _highest(results),
        _below(
            "resident memory at 10× load, wav2vec2-base, ≤ 1.5 GiB",
            [c.memory_mib for c in results.of(BASE, TIMBRE.name, "overload", 10.0)],
            MEMORY_MIB,
            "MiB",
        ),
        _below(
            "ready ≤ 5 s after the process starts, compact model",
            [c.ready_s for c in results.of(COMPACT, TIMBRE.name, "closed")],
            READY_S,
            "s",
        ),
        _answers(results),
    ]


def _judged(target: str, good: bool, measured: str, limit: str = "") -> Verdict:  # noqa: FBT001
    return Verdict(target, "met" if good else "missed", measured, limit)


def _times(
    results: Results,
    model: str,
    contender: Contender,
    factor: float,
    what: str,
    *,
    against: str = "",
) -> Verdict:
    target = f"{what}, {contender.precision}, 8 clients: ≥ {factor:g}× the thesis's stack"
    ours = results.speed(model, contender.name)
    theirs = results.speed(against or model, THESIS.name)
    if math.isnan(ours) or not theirs > 0:
        return Verdict(target, "not measured", "–")
    said = f"{ours / theirs:.1f}× ({ours:.1f} against {theirs:.1f} clips/s)"
    return _judged(target, ours / theirs >= factor, said, limits(results, model, contender))


def _chosen(results: Results) -> Contender:
    """Give Timbre's fastest row of the compact model in a precision that it takes by itself."""
    gated = ("fp32", *results.models.get(COMPACT, {}).get("gated", ()))
    rows = [
        row
        for row in results.rows(COMPACT)
        if (row.stack, row.layout) == ("timbre", "one") and row.precision in gated
    ]
    return max(rows, key=lambda row: results.speed(COMPACT, row.name), default=TIMBRE)


def limits(results: Results, model: str, contender: Contender) -> str:
    """Say what bounds a contender's speed: its service, or its engine and how near its limit."""
    ours, bare = results.speed(model, contender.name), results.bare(model, contender)
    peak = results.peaks.get(contender.precision, math.nan)
    said = []
    if bare > 0:
        said.append(f"{ours / bare:.0%} of the bare engine")
    if peak > 0:
        gflop = float(results.models[model]["gflop"])
        said.append(f"{share_of_peak(ours, gflop, peak):.0%} of the GEMM peak")
    return ", ".join(said)


def _ahead(results: Results) -> Iterator[Verdict]:
    for model in (BASE, COMPACT):
        rows = results.rows(model)
        for precision in ("fp32", "bf16", "int8"):
            equal = [row for row in rows if row.precision == precision]
            yield from _best_of(results, model, equal, f"ahead of every peer at {precision}")
        yield from _best_of(results, model, rows, "ahead of every peer's best")


def _best_of(
    results: Results, model: str, rows: Sequence[Contender], claim: str
) -> Iterator[Verdict]:
    speeds = {row: results.speed(model, row.name) for row in rows}
    speeds = {row: speed for row, speed in speeds.items() if not math.isnan(speed)}
    ours = [row for row in speeds if row.stack == "timbre"]
    theirs = [row for row in speeds if row.stack != "timbre"]
    if not (ours and theirs):
        if theirs:
            yield Verdict(f"{model}: {claim}", "not measured", "–")
        return
    own, other = max(ours, key=speeds.__getitem__), max(theirs, key=speeds.__getitem__)
    said = f"{speeds[own]:.1f} ({own.name}) against {speeds[other]:.1f} clips/s ({other.name})"
    ahead = speeds[own] > speeds[other]
    yield _judged(f"{model}: {claim}", ahead, said, limits(results, model, own))


def _bare(results: Results) -> Iterator[Verdict]:
    for contender in results.rows(BASE):
        if contender.stack != "timbre":
            continue
        target = f"{contender.name}: ≥ 92% of the bare runtime, wav2vec2-base"
        share = results.speed(BASE, contender.name) / results.bare(BASE, contender)
        if math.isnan(share):
            yield Verdict(target, "not measured", "–")
        else:
            yield _judged(target, share >= SHARE_OF_BARE, f"{share:.0%}")


def service_ms(results: Results, contender: Contender) -> float:
    """CPU of a request around the engine, by the model that costs almost nothing."""
    whole = results.spread(TINY, contender.name, lambda cell: cell.cpu_ms, load=1.0).median
    return whole - results.anatomy.get(TINY, {}).get("engine", math.nan)


def _framework(results: Results) -> Verdict:
    target = "framework cost ≤ 3 ms CPU a request"
    stages = results.anatomy.get(TINY, {})
    heard = sum(stages.get(name, math.nan) for name in STAGES if name != "engine")
    spent = service_ms(results, TIMBRE) - heard
    if math.isnan(spent):
        return Verdict(target, "not measured", "–")
    limit = f"{stages.get(HTTP, math.nan):.1f} ms of it are HTTP"
    return _judged(target, spent <= FRAMEWORK_MS, f"{spent:.1f} ms", limit)


def _overloads(results: Results) -> Iterator[Verdict]:
    for share, least in GOODPUT.items():
        target = (
            f"{share:g}× of capacity offered, wav2vec2-base: goodput ≥ {least:.0%}, the rest 429"
            " within 50 ms, no 5xx, recovered in 5 s"
        )
        cells = results.of(BASE, TIMBRE.name, "overload", share)
        if not cells:
            yield Verdict(target, "not measured", "–")
            continue
        cell = cells[-1]
        goodput = cell.clips_per_s / results.speed(BASE, TIMBRE.name)
        wrong = {s: n for s, n in cell.statuses.items() if s not in {"200", "429"}}
        refused = cell.refused_p99_ms
        good = (
            goodput >= least
            and not wrong
            and not refused > REFUSAL_MS
            and cell.recovered_s <= RECOVERY_S
        )
        said = (
            f"{goodput:.0%}, 429 within {refused:.0f} ms (p99), other answers: "
            f"{wrong or 'none'}, recovered in {cell.recovered_s:.1f} s"
        )
        yield _judged(target, good, said)


def _highest(results: Results) -> Verdict:
    target = "compact model: the highest overload that keeps 90% of capacity"
    capacity = results.speed(COMPACT, TIMBRE.name)
    kept = {
        share: results.of(COMPACT, TIMBRE.name, "overload", share)[-1].clips_per_s / capacity
        for share in results.loads(COMPACT, "overload")
    }
    if not kept:
        return Verdict(target, "not measured", "–")
    good = [share for share, goodput in kept.items() if goodput >= KEPT]
    said = ", ".join(f"{goodput:.0%} at {share:g}×" for share, goodput in kept.items())
    return _judged(target, bool(good), said)


def _answers(results: Results) -> Verdict:
    target = "Timbre at fp32, under every load: torch's labels, probabilities within 1e-4"
    cells = [cell for cell in results.cells if cell.contender == TIMBRE.name]
    if not cells:
        return Verdict(target, "not measured", "–")
    differ = sum(cell.labels_differ for cell in cells)
    largest = max(cell.largest_difference for cell in cells)
    answered = sum(cell.answered for cell in cells)
    said = f"{differ} of {answered} labels differ, probabilities by {largest:.1e} at most"
    return _judged(target, not differ and largest <= TOLERANCE, said)


def _below(target: str, values: Sequence[float], most: float, unit: str) -> Verdict:
    if not values:
        return Verdict(target, "not measured", "–")
    worst = max(values)
    return _judged(target, worst <= most, f"{worst:.1f} {unit} at worst")
