"""One measurement as a record: what was asked of whom, and what came of it. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal, TypeAlias

from benchmarks.peers.client import Sample
from benchmarks.peers.contenders import Contender, scores
from benchmarks.peers.figures import percentile
from benchmarks.peers.models import Model

Kind: TypeAlias = Literal["closed", "open", "overload", "bare"]


@dataclass(frozen=True, slots=True)
class Cell:
    """A contender under one load in one round."""

    model: str
    contender: str
    kind: Kind
    round: int
    load: float
    """Clients of a closed loop, share of capacity of an open one, batch of a bare engine."""
    requests: int
    answered: int
    statuses: dict[str, int]
    seconds: float
    clips_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    refused_p99_ms: float
    """Of 429 answers."""
    cpu_ms: float
    """CPU time of the server for each answered clip."""
    memory_mib: float
    ready_s: float
    labels_differ: int
    """Of `answered`, from what the model says by itself at this precision."""
    largest_difference: float
    """Of a probability."""
    others: float
    """Share of the machine that other processes had meanwhile."""
    recovered_s: float = math.nan
    """After an overload: until a clip takes no more than twice its time alone, or nan."""


def measured(
    samples: Sequence[Sample],
    *,
    model: Model,
    contender: Contender,
    kind: Kind,
    round_: int,
    load: float,
    seconds: float,
    until: float = math.inf,
    cpu_s: float,
    memory: int,
    ready_s: float,
    others: float,
    recovered_s: float = math.nan,
) -> Cell:
    """Sum up a load that took `seconds`.

    Args:
        samples: every request of it.
        until: a time of the samples' clock; answers after it don't count as throughput.
    """
    good = [sample for sample in samples if sample.ok]
    refused = [s for s in samples if s.status == HTTPStatus.TOO_MANY_REQUESTS]
    differ, largest = agreement(good, model, contender)
    latencies = [sample.latency_s * 1e3 for sample in good]
    return Cell(
        model=model.name,
        contender=contender.name,
        kind=kind,
        round=round_,
        load=load,
        requests=len(samples),
        answered=len(good),
        statuses={str(k): n for k, n in sorted(Counter(s.status for s in samples).items())},
        seconds=seconds,
        clips_per_s=sum(sample.done <= until for sample in good) / seconds,
        p50_ms=percentile(latencies, 0.5),
        p95_ms=percentile(latencies, 0.95),
        p99_ms=percentile(latencies, 0.99),
        refused_p99_ms=percentile([s.latency_s * 1e3 for s in refused], 0.99),
        cpu_ms=cpu_s * 1e3 / len(good) if good else math.nan,
        memory_mib=memory / 2**20,
        ready_s=ready_s,
        labels_differ=differ,
        largest_difference=largest,
        others=others,
        recovered_s=recovered_s,
    )


def agreement(samples: Sequence[Sample], model: Model, contender: Contender) -> tuple[int, float]:
    """Count the answers with another label than the model's own, and the largest difference.

    The model's own: torch in float32 for fp32 and bf16, for int8 the quantised weights in a bare
    OpenVINO. A stack that quantises by itself says how far it is from that.
    """
    temperature = model.temperature if contender.stack == "timbre" else 1.0
    expected = [
        probabilities(logits, temperature)
        for logits in model.logits["int8" if contender.precision == "int8" else "fp32"]
    ]
    differ, largest = 0, 0.0
    for sample in samples:
        answer = scores(sample.body)
        alone = dict(zip(model.labels, expected[sample.clip % len(expected)], strict=True))
        if not answer or max(answer, key=answer.__getitem__) != max(alone, key=alone.__getitem__):
            differ += 1
        largest = max(
            [largest, *(abs(answer.get(label, 0.0) - share) for label, share in alone.items())]
        )
    return differ, largest


def probabilities(logits: Sequence[float], temperature: float) -> list[float]:
    """Softmax of logits at a temperature."""
    highest = max(logits)
    odds = [math.exp((logit - highest) / temperature) for logit in logits]
    return [each / sum(odds) for each in odds]
