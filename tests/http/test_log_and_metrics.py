"""What is left of a request: its line in the log, and its counts."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest

from service.envelope import JsonFormatter
from tests.support.asking import CLASSIFY, SPEECH, WINDOWS, Answer, Standing, post, problem
from tests.support.docs import DOCS
from tests.support.models import LABELS
from tests.support.stand import Stand

pytestmark = pytest.mark.asyncio


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[dict[str, Any]]]:
    """Read the log's lines of requests, as they are written."""
    caplog.set_level(logging.INFO, "timbre.requests")

    def read() -> list[dict[str, Any]]:
        records = [record for record in caplog.records if record.name == "timbre.requests"]
        texts = [JsonFormatter().format(record) for record in records]
        assert not any("\n" in text for text in texts)
        return [json.loads(text) for text in texts]

    return read


Lines = Callable[[], list[dict[str, Any]]]
LIVE = {"route": CLASSIFY, "traffic": "live"}
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class TestLog:
    """One line of JSON a request: enough to find and time it, nothing of what was said."""

    async def test_a_request_is_one_line(self, make: Standing, lines: Lines) -> None:
        async with make(track="canary") as stand:
            headers = {"x-request-id": "some-id", "traceparent": TRACEPARENT}
            await stand.client.post(CLASSIFY, content=SPEECH, headers=headers)
        (line,) = lines()
        assert line["id"] == "some-id"
        assert line["traceparent"] == TRACEPARENT
        assert (line["method"], line["route"], line["status"]) == ("POST", CLASSIFY, 200)
        assert (line["model"], line["version"], line["track"]) == ("tiny", "1.0.0", "canary")
        assert (line["windows"], line["duration_s"]) == (WINDOWS, 2.0)
        for time in ("total_ms", "decode_ms", "queue_ms", "inference_ms"):
            assert line[time] >= 0
        assert line["level"] == "info"
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4}", line["time"])

    async def test_it_says_nothing_of_the_clip_or_the_caller(
        self, stand: Stand, lines: Lines
    ) -> None:
        """No file name, no label, no score, no query, no header but the two that find it."""
        await stand.client.post(
            CLASSIFY + "?timeline=true&name=private",
            files={"file": ("private.wav", SPEECH, "audio/private")},
            headers={"user-agent": "private", "traceparent": "private", "authorization": "private"},
        )
        await stand.client.get("/private/private.wav")
        for line in lines():
            text = json.dumps(line)
            assert "private" not in text
            assert "traceparent" not in line
            assert not {"label", "score", "probabilities", "top"} & set(line)
            assert not [label for label in LABELS if label in text]
        assert lines()[1]["route"] == "other"

    async def test_a_refusal_is_one_line_with_its_problem(self, stand: Stand, lines: Lines) -> None:
        await stand.client.post(CLASSIFY, content=b"no audio")
        (line,) = lines()
        assert (line["status"], line["problem"], line["level"]) == (400, "not-audio", "info")

    async def test_the_page_lists_every_field(self, stand: Stand, lines: Lines) -> None:
        """Of a clip, of a refusal and of a fault; and no field that no line has."""
        await stand.client.post(CLASSIFY, content=SPEECH, headers={"traceparent": TRACEPARENT})
        await stand.client.post(CLASSIFY, content=b"no audio")
        section = (DOCS / "alerts.md").read_text(encoding="utf-8").partition("## The log\n")[2]
        rows = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
        listed = [field for row in rows for field in re.findall(r"`(\w+)`", row)]
        written = {field for line in lines() for field in line}
        assert sorted(listed) == sorted(written | {"exception"})

    async def test_a_log_that_leaves_requests_out_has_none(
        self, stand: Stand, caplog: pytest.LogCaptureFixture
    ) -> None:
        """TIMBRE_LOG_LEVEL=warning is for who logs at the gateway."""
        caplog.set_level(logging.WARNING, "timbre.requests")
        await post(stand)
        assert not [record for record in caplog.records if record.name == "timbre.requests"]


class TestMetrics:
    """What Prometheus sees."""

    async def test_requests_are_counted_by_route_and_status(self, stand: Stand) -> None:
        await post(stand)
        await post(stand, b"no audio")
        for status, count in (("200", 1), ("400", 1)):
            labels = {"route": CLASSIFY, "status": status, "traffic": "live"}
            assert stand.sample("timbre_requests_total", **labels) == count
        assert stand.sample("timbre_problems_total", type="not-audio") == 1
        # How long answers take is told of clips that were classified.
        assert stand.sample("timbre_request_seconds_count", **LIVE) == 1

    async def test_a_client_cannot_make_series(self, stand: Stand) -> None:
        """Paths, methods, ids and content types that nobody knows leave no label behind."""
        await post(stand)
        await stand.client.get("/none")
        before = self._series(await stand.internal.get("/metrics"))
        for number in range(20):
            await stand.client.get(f"/none/{number}")
            await stand.client.request(f"METHOD{number}", "/none", content=b"")
            await stand.client.get("/web/" + "x" * number + ".js")
            await stand.client.get(f"/v1/model/{number}?a={number}")
            await stand.internal.get(f"/none/{number}")
        after = self._series(await stand.internal.get("/metrics"))
        assert {series for series in after - before if 'route="/metrics"' not in series} == set()

    @staticmethod
    def _series(answer: Answer) -> set[str]:
        return {
            line.rpartition(" ")[0] for line in answer.text.splitlines() if not line.startswith("#")
        }

    @pytest.mark.parametrize(
        ("sent", "traffic"),
        [
            *(("stable", "forced"), ("canary", "forced"), ("baseline", "forced")),
            *(("", "live"), ("Canary", "live"), ("x" * 100, "live")),
        ],
    )
    async def test_a_request_that_names_its_track_is_counted_apart(
        self, stand: Stand, sent: str, traffic: str
    ) -> None:
        """Who tries a version is no sample of who uses it; what is no track counts as not sent."""
        headers = {"x-timbre-track": sent}
        answer = (await stand.client.post(CLASSIFY, content=SPEECH, headers=headers)).json()
        await stand.client.post(CLASSIFY, content=b"no audio", headers=headers)
        for status in ("200", "400"):
            labels = {"route": CLASSIFY, "status": status, "traffic": traffic}
            assert stand.sample("timbre_requests_total", **labels) == 1
        route = {"route": CLASSIFY, "traffic": traffic}
        assert stand.sample("timbre_request_seconds_count", **route) == 1
        decided = {"decision": answer["decision"], "label": answer["label"], "traffic": traffic}
        assert stand.sample("timbre_decisions_total", **decided) == 1
        assert stand.sample("timbre_confidence_count", traffic=traffic) == 1

    async def test_a_clip_is_measured_on_its_way(self, stand: Stand) -> None:
        label = (await post(stand)).json()
        decided = {"decision": label["decision"], "label": label["label"], "traffic": "live"}
        assert stand.sample("timbre_decisions_total", **decided) == 1
        assert stand.sample("timbre_confidence_count", traffic="live") == 1
        for name in ("clip_seconds", "decode_seconds", "queue_seconds"):
            assert stand.sample(f"timbre_{name}_count") == 1, name
        assert stand.sample("timbre_batch_windows_sum") == WINDOWS
        assert stand.sample("timbre_admitted_windows_total") == WINDOWS
        assert stand.sample("timbre_in_flight_windows") == 0

    async def test_demand_is_what_is_asked_for_by_what_the_engine_makes(
        self, make: Standing
    ) -> None:
        """0 until a window has been made; then refused clips raise it, and time brings it down."""
        async with make(queue_windows=1) as stand:
            assert stand.sample("timbre_demand") == 0
            await post(stand)
            batcher, admission = stand.serving._batcher, stand.serving.admission
            served = stand.sample("timbre_demand")
            assert 0 < served < 1
            stand.runner.gate.shut()
            first = post(stand)
            await stand.runner.gate.reached()
            for _ in range(98):
                assert problem(await post(stand)) == "overloaded"
            assert stand.sample("timbre_demand") == pytest.approx(100 * served, rel=0.1)
            expected = admission.asked_per_s / batcher.items_per_s
            assert stand.sample("timbre_demand") == pytest.approx(expected, rel=0.01)
            stand.let_go()
            await first
            stand.serving.skipped_s += 3600
            assert stand.sample("timbre_demand") == pytest.approx(0)

    async def test_refusals_are_timed_apart_from_answers(self, make: Standing) -> None:
        """Else the more are refused, the faster a server would seem."""
        async with make(queue_windows=1) as stand:
            stand.runner.gate.shut()
            first = post(stand)
            await stand.runner.gate.reached()
            assert problem(await post(stand)) == "overloaded"
            stand.let_go()
            await first
            assert problem(await post(stand, b"no audio")) == "not-audio"
            assert stand.sample("timbre_refusal_seconds_count") == 1
            assert stand.sample("timbre_request_seconds_count", **LIVE) == 1
