"""A small client of Prometheus' HTTP API: instant and range queries, errors in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Annotated, Literal, Self, TypeAlias

import httpx
import numpy as np
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from service import __version__
from service.canary.observations import Scores
from service.domain import TimbreError

TIMEOUT_S = 60.0
"""Of one query; Prometheus itself gives up after two minutes."""


class PrometheusFailed(TimbreError):
    """Prometheus cannot be reached, or doesn't answer what it is asked."""

    slug = "prometheus"
    title = "Prometheus does not answer"


@dataclass(frozen=True, slots=True)
class Sample:
    """One series at one moment."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """One series at several moments: `values` is float [moments], NaN where there is none."""

    labels: Mapping[str, str]
    values: Scores


@dataclass(frozen=True, slots=True)
class Samples:
    """One series as it was scraped: moments and values, both float [samples], oldest first."""

    labels: Mapping[str, str]
    moments_s: Scores
    values: Scores


_Point: TypeAlias = tuple[float, Annotated[float, Field(allow_inf_nan=True)]]


class _Found(BaseModel):
    metric: dict[str, str]
    value: _Point | None = None
    values: list[_Point] = Field(default_factory=list)


class _Vector(BaseModel):
    result_type: Literal["vector", "matrix"] = Field(alias="resultType")
    result: list[_Found]


class _Scalar(BaseModel):
    result_type: Literal["scalar"] = Field(alias="resultType")
    result: _Point


class _Answer(BaseModel):
    status: Literal["success", "error"]
    error: str = ""
    data: Annotated[_Vector | _Scalar, Field(discriminator="result_type")] | None = None


_ANSWER = TypeAdapter(_Answer)


class Prometheus:
    """One server. Moments are seconds since 1970, by its clock: see `now`."""

    def __init__(self, url: str, *, transport: httpx.BaseTransport | None = None) -> None:
        """Take its URL, such as http://prometheus:9090; nothing is sent yet.

        Raises:
            PrometheusFailed: it is no http or https URL.
        """
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL:
            parsed = httpx.URL()
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise PrometheusFailed(f"{url!r} is no URL, such as http://prometheus:9090.")
        self.url = url
        self._http = httpx.Client(
            base_url=parsed,
            headers={"user-agent": f"timbre/{__version__}"},
            timeout=TIMEOUT_S,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def now(self) -> float:
        """Ask what time it is: its samples have its own clock's time, not this machine's."""
        data = self._ask("query", {"query": "time()"})
        if not isinstance(data, _Scalar):
            raise self._failed("what it says of the time is no number")
        return data.result[1]

    def instant(self, expr: str, at_s: float) -> list[Sample]:
        """Give an expression's series as they are at a moment.

        Raises:
            PrometheusFailed.
        """
        found = self._vector("query", {"query": expr, "time": f"{at_s:.3f}"})
        return [Sample(one.metric, one.value[1]) for one in found if one.value is not None]

    def samples(self, selector: str, span: str, at_s: float) -> list[Samples]:
        """Give what was scraped of a selector's series in a span, such as 5m, up to a moment.

        Raises:
            PrometheusFailed.
        """
        found = self._vector("query", {"query": f"{selector}[{span}]", "time": f"{at_s:.3f}"})
        return [
            Samples(one.metric, *np.array(one.values, dtype=np.float64).T)
            for one in found
            if one.values
        ]

    def range(self, expr: str, edges_s: Scores) -> list[Series]:
        """Give an expression's series as they are at evenly spaced moments.

        Args:
            expr: in PromQL.
            edges_s: float [n]; Prometheus refuses more than 11,000.

        Raises:
            PrometheusFailed.
        """
        first, last = float(edges_s[0]), float(edges_s[-1])
        step = float(edges_s[1]) - first if edges_s.size > 1 else 1.0
        parameters = {
            "query": expr,
            "start": f"{first:.3f}",
            "end": f"{last:.3f}",
            "step": f"{step:.3f}",
        }
        return [
            Series(one.metric, _on(one.values, first, step, edges_s.size))
            for one in self._vector("query_range", parameters)
        ]

    def _vector(self, path: str, parameters: Mapping[str, str]) -> list[_Found]:
        data = self._ask(path, parameters)
        if not isinstance(data, _Vector):
            raise self._failed(f"{parameters['query']} has no series")
        return data.result

    def _ask(self, path: str, parameters: Mapping[str, str]) -> _Vector | _Scalar:
        """Post a query, because a URL has no room for a long one."""
        try:
            response = self._http.post(f"api/v1/{path}", data=dict(parameters))
        except httpx.TransportError as error:
            raise self._failed(str(error) or type(error).__name__) from error
        try:
            answer = _ANSWER.validate_json(response.content)
        except ValidationError as error:
            what = f"HTTP status {response.status_code}, and no answer of Prometheus'"
            raise self._failed(what) from error
        if answer.data is None:
            raise self._failed(f"{answer.error} (of {parameters['query']})")
        return answer.data

    def _failed(self, why: str) -> PrometheusFailed:
        return PrometheusFailed(f"Prometheus at {self.url}: {why}.")


def _on(points: Sequence[_Point], first: float, step: float, size: int) -> Scores:
    """Put points on the grid of moments; Prometheus leaves out those without a sample."""
    values = np.full(size, np.nan)
    for moment, value in points:
        values[round((moment - first) / step)] = value
    return values


def quoted(text: str) -> str:
    """Write a label's value, or a regular expression for one, as PromQL does."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
