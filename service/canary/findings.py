"""What a comparison found, as JSON: the verdict, its checks, and the figures that reports draw.

docs/verdict.schema.json is the same as JSON Schema, for programs that are not Timbre.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from service import __version__
from service.canary.compare import Finding
from service.canary.observations import NO_SPEECH, Golden, Live, LiveSide, Pairs, Side
from service.canary.verdict import Outcome, Source

FORMAT: Literal[1] = 1
"""The version of the JSON that this code writes."""
_DIGITS = 6

Count: TypeAlias = Annotated[int, Field(ge=0)]
Number: TypeAlias = Annotated[float, AfterValidator(lambda value: round(value, _DIGITS))]
Maybe: TypeAlias = Annotated[
    Number | None,
    BeforeValidator(lambda value: None if value is None or not math.isfinite(value) else value),
]
"""null where there is nothing to measure, or no bound."""
Table: TypeAlias = list[list[Count]]


class _Facts(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class CheckFacts(_Facts):
    """One question and its answer."""

    name: str
    source: Source
    outcome: Outcome
    reason: str
    unit: str
    """Of the effect, its interval and the margin."""
    effect: Maybe
    """The candidate's minus, or where unit is ratio by, stable's."""
    low: Maybe
    high: Maybe
    margin: Maybe
    """What it may be worse by."""
    samples: Count
    needed: Count


class SideFacts(_Facts):
    """What one side serves; a fact in which its pods differ has several values."""

    versions: list[str]
    digests: list[str]
    precisions: list[str]
    cpu_features: list[str]
    pods: Count


class GoldenFacts(_Facts):
    """The golden set and both sides' answers."""

    version: str
    clips: Count
    speakers: Count
    labels: list[str]
    """Rows of the tables; their columns are these and "", for no speech."""
    stable: Table
    """Clips by label recorded and label given."""
    candidate: Table
    stable_quantiles_s: list[Number]
    """Seconds of an answer, the fastest first: 101 quantiles."""
    candidate_quantiles_s: list[Number]


class ShadowFacts(_Facts):
    """Clips that both sides answered."""

    clips: Count
    labels: list[str]
    """"" is no speech."""
    table: Table
    """Clips by stable's label and the candidate's."""
    decision_names: list[str]
    decisions: Table
    difference_edges: list[Number]
    difference: list[Count]
    """Clips by the candidate's confidence minus stable's, between those edges."""


class LiveSideFacts(_Facts):
    """One side under live traffic."""

    pods: Count
    blocks: Count
    requests: Count
    errors: Count
    restarts: Count
    down: Count
    """Servers that ended and have not started again."""
    seconds: list[Count]
    """Answers by how long they took; the last is of those above all edges."""


class LiveFacts(_Facts):
    """Both sides at the same times."""

    edges_s: list[Number]
    baseline: LiveSideFacts
    candidate: LiveSideFacts


class Findings(_Facts):
    """All of it."""

    format: Literal[1]
    timbre: str
    """Version of the program that judged."""
    at: AwareDatetime
    outcome: Outcome
    weight: Annotated[int, Field(ge=0, le=100)]
    """The step that was judged, in percent of the traffic."""
    reason: str
    checks: list[CheckFacts]
    stable: SideFacts | None
    """null, like all that follows, where it could not be looked at."""
    candidate: SideFacts | None
    golden: GoldenFacts | None
    shadow: ShadowFacts | None
    live: LiveFacts | None
    notes: list[str]
    """What the reader should know of how it was gathered."""


def findings(finding: Finding) -> Findings:
    """Put a finding into its form for others."""
    verdict, seen = finding.verdict, finding.observations
    return Findings(
        format=FORMAT,
        timbre=__version__,
        at=finding.at,
        outcome=verdict.outcome,
        weight=verdict.weight,
        reason=verdict.reason,
        checks=[CheckFacts.model_validate(asdict(check)) for check in verdict.checks],
        stable=_side(seen.stable) if seen else None,
        candidate=_side(seen.candidate) if seen else None,
        golden=_golden(seen.golden) if seen and seen.golden else None,
        shadow=_shadow(seen.pairs) if seen and seen.pairs else None,
        live=_live(seen.live) if seen and seen.live else None,
        notes=list(seen.notes) if seen else [],
    )


def json_schema() -> str:
    """Give the JSON Schema as text; docs/verdict.schema.json is a copy of it."""
    return json.dumps(Findings.model_json_schema(mode="serialization"), indent=2) + "\n"


def _side(side: Side) -> SideFacts:
    return SideFacts.model_validate(asdict(side), strict=False)


def _golden(golden: Golden) -> GoldenFacts:
    columns = (*golden.labels, NO_SPEECH)
    shares = np.linspace(0, 1, 101)

    def confusion(given: Sequence[str]) -> Table:
        table = np.zeros((len(golden.labels), len(columns)), dtype=int)
        for truth, label in zip(golden.truth, given, strict=True):
            table[golden.labels.index(truth), columns.index(label)] += 1
        counts: Table = table.tolist()
        return counts

    return GoldenFacts(
        version=golden.version,
        clips=len(golden.truth),
        speakers=len(set(golden.speakers)),
        labels=list(golden.labels),
        stable=confusion(golden.stable),
        candidate=confusion(golden.candidate),
        stable_quantiles_s=np.quantile(golden.stable_s, shares).tolist(),
        candidate_quantiles_s=np.quantile(golden.candidate_s, shares).tolist(),
    )


def _shadow(pairs: Pairs) -> ShadowFacts:
    return ShadowFacts(
        clips=int(pairs.table.sum()),
        labels=list(pairs.labels),
        table=pairs.table.tolist(),
        decision_names=list(pairs.decision_names),
        decisions=pairs.decisions.tolist(),
        difference_edges=pairs.difference_edges.tolist(),
        difference=pairs.difference.tolist(),
    )


def _live(live: Live) -> LiveFacts:
    def told(side: LiveSide) -> LiveSideFacts:
        seconds = np.zeros(live.edges.size, dtype=np.int64)
        for block in side.blocks:
            seconds += block.seconds
        return LiveSideFacts(
            pods=len({block.pod for block in side.blocks}),
            blocks=len({block.start_s for block in side.blocks}),
            requests=sum(block.requests for block in side.blocks),
            errors=sum(block.errors for block in side.blocks),
            restarts=side.restarts,
            down=side.down,
            seconds=seconds.tolist(),
        )

    return LiveFacts(
        edges_s=live.edges[:-1].tolist(),  # the last is infinity, which JSON doesn't have
        baseline=told(live.baseline),
        candidate=told(live.candidate),
    )
