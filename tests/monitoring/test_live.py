"""A server that works, a Prometheus that scrapes it, and every query that rules and dashboard have.

Without a cluster: the labels that a cluster's Prometheus would add are written into its targets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.bundle import DEFAULT_BUNDLE, open_bundle
from service.metrics import Metrics
from tests.support import docs, monitoring
from tests.support.audio import encoded, speech_like
from tests.support.monitoring import RULES, prometheus
from tests.support.server import PATIENCE_S, Server, eventually, serving

SPEECH = encoded(speech_like(2.0))
CLIENTS = 4
TARGET = {
    "namespace": "audio",
    "app_kubernetes_io_instance": "audio-timbre",
    "app_kubernetes_io_part_of": "timbre",
    "track": "stable",
    "pod": "audio-timbre-1",
}


class Asked:
    """A Prometheus that answers."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def values(self, expr: str) -> list[float]:
        """What an expression gives now, without what is no number."""
        answer = self.client.get("/query", params={"query": expr})
        assert answer.status_code == 200, answer.text
        values = [float(each["value"][1]) for each in answer.json()["data"]["result"]]
        return [value for value in values if not math.isnan(value)]

    def rules(self) -> list[dict[str, Any]]:
        """How the rules fare."""
        groups = self.client.get("/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]


@contextmanager
def scraping(server: Server, folder: Path) -> Iterator[Asked]:
    """Run a Prometheus that scrapes this server each second, and has the rules."""
    targets = {"targets": [server.internal_url.removeprefix("http://")], "labels": TARGET}
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "pods", "static_configs": [targets]}],
    }
    with (
        prometheus(config, folder) as url,
        httpx.Client(base_url=f"{url}/api/v1", timeout=PATIENCE_S) as client,
    ):
        yield Asked(client)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that decodes one clip at a time, and refuses others meanwhile."""
    folder = tmp_path_factory.mktemp("server")
    settings = {"TIMBRE_DECODE_BACKLOG": 1, "TIMBRE_PRECISION": "fp32", "TIMBRE_CACHE": folder}
    with serving(open_bundle(DEFAULT_BUNDLE), folder / "log", **settings) as server:
        yield server


@pytest.fixture(scope="module")
def asked(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """A Prometheus that has seen it answer, refuse and fail to read clips."""
    with scraping(server, tmp_path_factory.mktemp("prometheus")) as asked:
        eventually(lambda: asked.values("timbre_ready") == [1.0], "scraped")
        with ThreadPoolExecutor(CLIENTS) as clients, httpx.Client(base_url=server.url) as client:

            def send(data: bytes) -> int:
                return client.post("/v1/classify", content=data).status_code

            def seen() -> bool:
                statuses.update(clients.map(send, [SPEECH] * 2 * CLIENTS + [b"no audio"]))
                return statuses >= {200, 400, 429} and all(
                    asked.values(f'rate(timbre_requests_total{{status="{status}"}}[1m]) > 0')
                    for status in statuses
                )

            statuses: set[int] = set()
            eventually(seen, "clips answered and refused are seen")
        # A rule is evaluated after the scrape that it needs, and on a busy machine well after it.
        eventually(lambda: all(map(asked.values, monitoring.records())), "rules are recorded")
        yield asked


def queries() -> Iterator[monitoring.Query]:
    """The queries, of the target."""
    return monitoring.queries("audio", "audio-timbre", interval="1m")


@pytest.mark.needs_prometheus
def test_every_query_has_data(asked: Asked) -> None:
    """But those of what has not happened; and Prometheus takes them all."""
    empty = {query.where for query in queries() if not asked.values(query.expr)}
    assert not empty & {query.where for query in queries() if query.expects_data}


@pytest.mark.needs_prometheus
def test_every_rule_is_evaluated(asked: Asked) -> None:
    """What is to be recorded is there, and none of them fails on real series."""
    assert len(asked.rules()) == len(monitoring.rules())
    assert {(rule["name"], rule["health"]) for rule in asked.rules()} == {
        (rule.get("alert") or rule["record"], "ok") for rule in monitoring.rules()
    }


@pytest.mark.needs_prometheus
def test_the_target_s_labels_are_none_of_the_service_s_own(asked: Asked) -> None:
    """But for the track, which both give, and which is the same: Prometheus renames the latter."""
    own = {label for metric in docs.metrics(Metrics()) for label in metric._labelnames}
    assert not own & (TARGET.keys() | {"job", "instance"})
    assert asked.values('timbre_model_info{track="stable",exported_track="stable"}') == [1.0]
