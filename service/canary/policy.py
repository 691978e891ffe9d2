"""What a candidate has to show at each weight: policy.toml, and what a user's file changes."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.manifest import first_problem

DEFAULT_POLICY = Path(__file__).with_name("policy.toml")


class CheckName(StrEnum):
    """What can be asked of a candidate; `recall` is asked of each label."""

    SIDES = "sides"
    ACCURACY = "accuracy"
    MACRO_F1 = "macro_f1"
    UAR = "uar"
    RECALL = "recall"
    ECE = "ece"
    GOLDEN_LATENCY = "golden_latency"
    DISAGREEMENT = "disagreement"
    CLASS_PRIOR = "class_prior"
    CONFIDENCE = "confidence"
    REVIEW_RATE = "review_rate"
    ERROR_RATE = "error_rate"
    P50 = "p50"
    P95 = "p95"
    RESTARTS = "restarts"


SHARING_ALPHA = (
    *(CheckName.ACCURACY, CheckName.MACRO_F1, CheckName.UAR, CheckName.RECALL, CheckName.ECE),
    *(CheckName.ERROR_RATE, CheckName.P50, CheckName.P95),
)
"""Checks that can fail a candidate by chance, whatever the step: each may in alpha / their number
of rollouts (Bonferroni)."""


class PolicyError(Exception):
    """A policy that cannot be used; the message says what to change."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rule(_Section):
    """How much worse a candidate may be, and the clips below which nothing is said."""

    margin: Annotated[float, Field(ge=0)] = 0.0
    samples: Annotated[int, Field(ge=1)]


class Planned(_Section):
    """Clips for which sequential bounds are narrowest."""

    shadow: Annotated[int, Field(ge=1)]
    live: Annotated[int, Field(ge=1)]


class Step(_Section):
    """What has to pass from a weight on; `samples` stand in place of the rules' own."""

    requires: Annotated[tuple[CheckName, ...], Field(min_length=1)]
    samples: Mapping[CheckName, Annotated[int, Field(ge=1)]] = {}


class Policy(_Section):
    """Chances of error, rules and steps; policy.toml says what each means."""

    alpha: Annotated[float, Field(gt=0, lt=0.5)]
    false_pass: Annotated[float, Field(gt=0, lt=0.5)]
    resamples: Annotated[int, Field(ge=100, le=100_000)]
    seed: Annotated[int, Field(ge=0)]
    planned: Planned
    checks: Mapping[CheckName, Rule]
    steps: Mapping[Annotated[int, Field(ge=0, le=100)], Step]

    @model_validator(mode="after")
    def _covers_every_weight(self) -> Self:
        if 0 not in self.steps:
            raise ValueError("give the step of weight 0 as [steps.0]")
        return self

    def step(self, weight: int) -> Step:
        """Give the step with the largest weight that is no larger than `weight`, in percent."""
        return self.steps[max(least for least in self.steps if least <= weight)]

    def needed(self, check: CheckName, weight: int) -> int:
        """Clips below which a check says nothing at this weight."""
        return self.step(weight).samples.get(check, self.checks[check].samples)

    @property
    def share_of_alpha(self) -> float:
        """One-sided chance that one check ever fails a candidate that is as good."""
        return self.alpha / len(SHARING_ALPHA)


def load_policy(path: Path | None = None) -> Policy:
    """Read the default policy, with what the TOML file at `path` states in place of its own.

    Raises:
        PolicyError: one sentence, if the file cannot be read, isn't TOML or has wrong fields.
    """
    fields = tomllib.loads(DEFAULT_POLICY.read_text(encoding="utf-8"))
    if path is None:
        return Policy.model_validate(fields)
    try:
        changes = tomllib.loads(path.read_text(encoding="utf-8"))
        return Policy.model_validate(_laid_over(fields, changes))
    except OSError as error:
        raise PolicyError(f"The policy {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PolicyError(f"The policy {path} is not TOML: {error}.") from None
    except ValidationError as error:
        raise PolicyError(f"The policy {path} has a wrong field: {first_problem(error)}.") from None


def _laid_over(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Tables are merged, everything else is replaced."""
    merged = dict(fields)
    for name, change in changes.items():
        present = fields.get(name)
        if isinstance(present, dict) and isinstance(change, dict):
            change = _laid_over(present, change)  # noqa: PLW2901
        merged[name] = change
    return merged
