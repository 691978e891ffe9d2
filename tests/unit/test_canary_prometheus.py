"""The client of Prometheus: what it asks, how it reads answers, and what it says of errors."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

import httpx
import numpy as np
import pytest

from service.canary.prometheus import Prometheus, PrometheusFailed, Sample, quoted


class Scripted:
    """A Prometheus that has one answer."""

    def __init__(self, content: Any, status: int = 200) -> None:  # noqa: ANN401
        self.asked: list[tuple[str, dict[str, list[str]]]] = []
        self._content = content
        self._status = status

    def client(self, url: str = "http://prometheus:9090") -> Prometheus:
        """Make a client of it."""
        return Prometheus(url, transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.url.path, parse_qs(request.content.decode())))
        if isinstance(self._content, Exception):
            raise self._content
        return httpx.Response(self._status, json=self._content)


def success(kind: str, result: Any) -> dict[str, Any]:  # noqa: ANN401
    """Answer as Prometheus does."""
    return {"status": "success", "data": {"resultType": kind, "result": result}}


def test_an_instant_query_gives_series_with_their_labels() -> None:
    """Posted, at the moment that was asked for; NaN and infinity are numbers."""
    values = ["1.5", "NaN", "+Inf"]
    found = [{"metric": {"pod": v}, "value": [12.0, v]} for v in values]
    script = Scripted(success("vector", found))
    with script.client("http://prometheus:9090/base/") as prometheus:
        samples = prometheus.instant("up", 12.3456)
    assert samples[0] == Sample({"pod": "1.5"}, 1.5)
    assert np.isnan(samples[1].value)
    assert np.isposinf(samples[2].value)
    assert script.asked == [("/base/api/v1/query", {"query": ["up"], "time": ["12.346"]})]


def test_a_range_query_puts_values_on_the_moments_that_were_asked_for() -> None:
    """Those that Prometheus leaves out are NaN."""
    found = [{"metric": {"pod": "a"}, "values": [[100.5, "1"], [220.5, "3"]]}]
    script = Scripted(success("matrix", found))
    with script.client() as prometheus:
        (series,) = prometheus.range("up", 100.5 + 60 * np.arange(4, dtype=np.float64))
    np.testing.assert_array_equal(series.values, [1, np.nan, 3, np.nan])
    ((path, asked),) = script.asked
    assert path == "/api/v1/query_range"
    assert asked == {"query": ["up"], "start": ["100.500"], "end": ["280.500"], "step": ["60.000"]}


def test_a_range_may_be_one_moment() -> None:
    """A step is said then too, because Prometheus wants one."""
    script = Scripted(success("matrix", []))
    with script.client() as prometheus:
        assert prometheus.range("up", np.array([5.0])) == []
    assert script.asked[0][1]["step"] == ["1.000"]


def test_samples_are_those_that_were_scraped() -> None:
    """At their own moments, in a span up to the one that was asked for."""
    found = [
        {"metric": {"pod": "a"}, "values": [[100.5, "1"], [115.5, "0"]]},
        {"metric": {"pod": "b"}, "values": [[101.25, "1"]]},
    ]
    script = Scripted(success("matrix", found))
    with script.client() as prometheus:
        both = prometheus.samples('up{pod=~".+"}', "5m", 120)
    assert [each.labels["pod"] for each in both] == ["a", "b"]
    np.testing.assert_array_equal(both[0].moments_s, [100.5, 115.5])
    np.testing.assert_array_equal(both[0].values, [1, 0])
    assert both[1].moments_s.shape == both[1].values.shape == (1,)
    assert script.asked == [
        ("/api/v1/query", {"query": ['up{pod=~".+"}[5m]'], "time": ["120.000"]})
    ]


def test_it_tells_its_time() -> None:
    """As a scalar."""
    with Scripted(success("scalar", [7.25, "7.25"])).client() as prometheus:
        assert prometheus.now() == 7.25


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        ({"status": "error", "errorType": "bad_data", "error": "parse error"}, 400, "parse error"),
        ("a page", 502, "HTTP status 502"),
        (httpx.ConnectError("refused"), 0, "refused"),
        (success("scalar", [1, "1"]), 200, "no series"),
        (success("vector", "nonsense"), 200, "no answer"),
    ],
)
def test_what_goes_wrong_is_a_sentence(content: object, status: int, said: str) -> None:
    """With the address, whoever is at fault."""
    with (
        Scripted(content, status).client() as prometheus,
        pytest.raises(PrometheusFailed, match=said) as failed,
    ):
        prometheus.instant("up", 1)
    assert "http://prometheus:9090" in str(failed.value)
    assert str(failed.value).endswith(".")


@pytest.mark.parametrize(
    "url", ["prometheus:9090", "ftp://prometheus", "http://", "http://host:port"]
)
def test_its_url_is_checked_before_it_is_asked(url: str) -> None:
    """A sentence with an example."""
    with pytest.raises(PrometheusFailed, match="such as http://prometheus:9090"):
        Prometheus(url)


def test_label_values_are_quoted() -> None:
    """Backslashes, quotes and line ends stay what they are."""
    assert quoted('a\\.b"\n') == '"a\\\\.b\\"\\n"'
