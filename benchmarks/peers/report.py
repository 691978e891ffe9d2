"""Results as Markdown: tables in blocks of one precision, verdicts, warnings. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from benchmarks.peers.anatomy import HTTP, REST, STAGES
from benchmarks.peers.contenders import ENGINES, Contender
from benchmarks.peers.figures import (
    Spread,
    clips_per_vcpu_hour,
    dollars_per_million,
    share_of_peak,
)
from benchmarks.peers.machine import BUSY
from benchmarks.peers.results import SATURATED, Results
from benchmarks.peers.targets import THESIS, TIMBRE, TINY, service_ms, verdicts

PRECISIONS = ("fp32", "bf16", "int8")
PACKAGES = (
    *("openvino", "onnxruntime", "torch", "transformers", "numpy", "soundfile"),
    *("bentoml", "fastapi", "uvicorn", "flask", "gunicorn", "litserve"),
)
FEW_REQUESTS = 60
"""Of fewer, p95 says little; the table says so."""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def number(value: float, digits: int = 1) -> str:
    """Write a figure, or a dash for none."""
    return f"{value:,.{digits}f}" if math.isfinite(value) else "–"


def spread(value: Spread) -> str:
    """Write a median with its range over rounds, where there were several."""
    if not math.isfinite(value.median) or value.low == value.high:
        return number(value.median)
    return f"{number(value.median)} ({number(value.low)}–{number(value.high)})"


def page(results: Results, plots: Sequence[str] = ()) -> str:
    """Write the whole report.

    Args:
        plots: paths of images, as the page names them.
    """
    parts = [*_warnings(results), _machine(results), "## Numbers to reach\n\n" + _targets(results)]
    for name in results.models:
        parts += [f"## {name}\n\n{_facts(results, name)}", *_blocks(results, name)]
        parts += _loads(results, name)
    parts += ["## Where the CPU goes for one clip\n\n" + _anatomy(results)]
    parts += ["\n".join(f"![{plot.rpartition('/')[2]}]({plot})" for plot in plots)]
    return "\n\n".join(part.strip() for part in parts if part.strip()) + "\n"


def _warnings(results: Results) -> Iterator[str]:
    busy = results.busy()
    if busy:
        yield (
            f"**Not a result: in {len(busy)} of {len(results.cells)} measurements other processes "
            f"had more than {BUSY:.0%} of the machine. Repeat it on a quiet one.**"
        )
    if results.profile != "full":
        yield f"**Not a result: the profile `{results.profile}` is for trying things out.**"
    if results.failures:
        yield "Not measured:\n\n" + "\n".join(
            f"- {each['model']}, {each['contender']}: {each['reason']}" for each in results.failures
        )
    if differing := sorted(_other_versions(results)):
        yield f"**Timbre and the peers had other versions of {', '.join(differing)}.**"


def _other_versions(results: Results) -> set[str]:
    ours, theirs = results.versions.get("timbre", {}), results.versions.get("peers", {})
    return {
        name
        for name in ("openvino", "numpy", "soundfile")
        if name in ours and name in theirs and ours[name] != theirs[name]
    }


def _machine(results: Results) -> str:
    machine, versions = results.machine, results.versions.get("peers", {})
    peaks = ", ".join(f"{name} {number(peak, 0)}" for name, peak in results.peaks.items())
    listed = ", ".join(f"{name} {versions[name]}" for name in PACKAGES if name in versions)
    return (
        f"{results.started[:10]}, {machine['cpu']}, {machine['cpus']} vCPUs "
        f"({', '.join(machine['features']) or 'flags unknown'}), {machine['memory_gib']} GiB, "
        f"{machine['system']}, Python {machine['python']}.\n"
        f"Peaks of matrix products in GFLOPS, int8 in GOPS: {peaks or '–'}.\n"
        f"Versions: {listed or '–'}.\n"
        f"A vCPU-hour is taken to cost ${results.price:g}."
    )


def _targets(results: Results) -> str:
    return table(
        ("target", "", "measured", "what limits it"),
        [(v.target, v.status, v.measured, v.limit or "–") for v in verdicts(results)],
    )


def _facts(results: Results, model: str) -> str:
    facts = results.models[model]
    return (
        f"{facts['parameters'] / 1e6:.1f} M parameters, {facts['gflop']:.1f} GFLOP a clip. "
        f"Clips a second are medians over rounds (and their range); latencies, CPU and the "
        f"right half are of {SATURATED:g} clients."
    )


def _blocks(results: Results, model: str) -> Iterator[str]:
    rows = results.rows(model)
    for precision in PRECISIONS:
        block = [row for row in rows if row.precision == precision]
        if block:
            yield f"### {model}, {precision}\n\n{_block(results, model, block)}"
            if precision == "int8" and precision not in results.models[model]["gated"]:
                yield "int8 is ungated: quantised for speed only, its accuracy unknown."
    if best := _best(results, model, rows):
        yield f"### {model}, each one's best\n\n{_block(results, model, best)}"


def _best(results: Results, model: str, rows: Sequence[Contender]) -> list[Contender]:
    """Give each stack's fastest row with 8 clients, the fastest first."""
    speeds = {row: results.speed(model, row.name) for row in rows}
    measured = [row for row in rows if not math.isnan(speeds[row])]
    stacks = dict.fromkeys(row.stack for row in measured)
    best = [
        max((row for row in measured if row.stack == stack), key=speeds.__getitem__)
        for stack in stacks
    ]
    return sorted(best, key=lambda row: -speeds[row])


def _block(results: Results, model: str, rows: Sequence[Contender]) -> str:
    head = (
        *("stack", "engine", "clips/s, 1 client", "8 clients", "p50 ms", "p95 ms", "× thesis"),
        *("of its bare engine", "of the GEMM peak", "CPU ms a clip", "MiB"),
        *("clips a vCPU-hour", "$ a million", "other labels"),
    )
    return table(head, [_row(results, model, row) for row in rows])


def _row(results: Results, model: str, row: Contender) -> tuple[str, ...]:
    eight = results.spread(model, row.name, lambda cell: cell.clips_per_s)
    speed, vcpus = eight.median, int(results.machine["cpus"])
    peak = results.peaks.get(row.precision, math.nan)
    measured = math.isfinite(speed)
    cost = dollars_per_million(speed, vcpus, results.price) if measured else math.nan
    used = share_of_peak(speed, float(results.models[model]["gflop"]), peak)
    return (
        row.title,
        f"{ENGINES[row.engine]} {row.precision}",
        spread(results.spread(model, row.name, lambda cell: cell.clips_per_s, load=1.0)),
        spread(eight),
        number(results.spread(model, row.name, lambda cell: cell.p50_ms).median, 0),
        number(results.spread(model, row.name, lambda cell: cell.p95_ms).median, 0),
        number(speed / results.speed(model, THESIS.name), 2),
        _percent(speed / results.bare(model, row)),
        _percent(used),
        number(results.spread(model, row.name, lambda cell: cell.cpu_ms).median),
        number(results.spread(model, row.name, lambda cell: cell.memory_mib).high, 0),
        number(clips_per_vcpu_hour(speed, vcpus), 0),
        number(cost, 2),
        _differing(results, model, row),
    )


def _differing(results: Results, model: str, row: Contender) -> str:
    """Say how many answers had another label than the model's own, and what had no answer.

    A refusal (429) is no failure: the server keeps clips that would wait too long out of its queue.
    """
    cells = results.of(model, row.name, "closed")
    differ, asked, answered = (
        sum(getattr(c, name) for c in cells) for name in ("labels_differ", "requests", "answered")
    )
    refused = sum(cell.statuses.get("429", 0) for cell in cells)
    failed = asked - answered - refused
    said = [f"{differ} of {answered}" if differ else "0"]
    said += [f"{n} {what}" for n, what in ((refused, "refused"), (failed, "failed")) if n]
    return "; ".join(said)


def _percent(share: float) -> str:
    return f"{share:.0%}" if math.isfinite(share) else "–"


def _loads(results: Results, model: str) -> Iterator[str]:
    swept = [row for row in results.rows(model) if row.sweep]
    clients = results.loads(model, "closed")
    if len(clients) > 2:  # noqa: PLR2004 - those of every row are in its block
        head = ("stack", "engine", *(f"{n:g} client" + "s" * (n > 1) for n in clients))
        rows = [_line(results, model, row, "closed", clients) for row in swept]
        yield f"### {model}, clips/s and p95 by clients\n\n" + table(head, rows)
    for kind, title in (("open", "Poisson arrivals"), ("overload", "beyond capacity")):
        if shares := results.loads(model, kind):
            head = ("stack", "engine", *(f"{share:g}× of its capacity" for share in shares))
            rows = [_line(results, model, row, kind, shares) for row in swept]
            yield f"### {model}, {title}\n\n" + table(
                head, [r for r in rows if set(r[2:]) != {"–"}]
            )


def _line(
    results: Results, model: str, row: Contender, kind: str, loads: Sequence[float]
) -> list[str]:
    said = [row.title, f"{ENGINES[row.engine]} {row.precision}"]
    for load in loads:
        cells = results.of(model, row.name, kind, load)
        if not cells:
            said.append("–")
            continue
        speed = Spread.of([cell.clips_per_s for cell in cells]).median
        p50, p95 = (Spread.of([getattr(c, n) for c in cells]).median for n in ("p50_ms", "p95_ms"))
        few = "*" if sum(cell.answered for cell in cells) < FEW_REQUESTS else ""
        text = f"{number(speed)}; p50 {number(p50, 0)}, p95 {number(p95, 0)} ms{few}"
        if kind == "overload":
            refused = cells[-1].statuses.get("429", 0) / cells[-1].requests
            kept = speed / results.speed(model, row.name)
            memory = number(cells[-1].memory_mib, 0)
            text = f"{kept:.0%} goodput, {text}; {refused:.0%} refused; {memory} MiB"
        said.append(text)
    return said


def _anatomy(results: Results) -> str:
    models = list(results.anatomy)
    rows = [
        (name, *(number(results.anatomy[model].get(name, math.nan), 2) for model in models))
        for name in (*STAGES, HTTP)
    ]
    whole = {
        model: results.spread(model, TIMBRE.name, lambda cell: cell.cpu_ms, load=1.0).median
        for model in models
    }
    rest = {
        model: whole[model] - sum(results.anatomy[model].get(n, math.nan) for n in (*STAGES, HTTP))
        for model in models
    }
    rows.append((f"{REST} (the rest)", *(number(rest[model], 2) for model in models)))
    rows.append(("a request of one client", *(number(whole[model], 2) for model in models)))
    text = "Timbre at fp32, milliseconds of CPU.\n\n" + table(("", *models), rows)
    costs = [
        (row.title, number(service_ms(results, row), 1))
        for row in results.rows(TINY)
        if row.engine == "openvino"
    ]
    if costs:
        text += (
            "\nWhat a request of one client costs around the engine, by a model that costs almost "
            "nothing; decoding is in it, and in Timbre's voice activity:\n\n"
            + table(("stack", "ms of CPU"), costs)
        )
    return text + f"\n\\* of fewer than {FEW_REQUESTS} requests."
