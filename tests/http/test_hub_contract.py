"""What /v1/audio-classification takes and answers: the contract of Hugging Face's clients."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.support.asking import HUB, SPEECH, post, problem
from tests.support.audio import encoded, silence
from tests.support.stand import Stand

pytestmark = pytest.mark.asyncio


class TestHub:
    """POST /v1/audio-classification, as Hugging Face's clients use it."""

    async def test_raw_bytes(self, stand: Stand) -> None:
        """All labels, likeliest first, with the scores of /v1/classify."""
        ranked = (await post(stand, path=HUB)).json()
        expected = (await post(stand)).json()["probabilities"]
        assert {item["label"]: item["score"] for item in ranked} == pytest.approx(expected)
        scores = [item["score"] for item in ranked]
        assert scores == sorted(scores, reverse=True)

    @pytest.mark.parametrize(
        ("parameters", "labels"),
        [
            (None, 6),
            ({}, 6),
            ({"top_k": None}, 6),
            ({"top_k": 1}, 1),
            ({"top_k": 2, "function_to_apply": "softmax"}, 2),
            ({"top_k": 100}, 6),
        ],
    )
    async def test_base64_in_json(
        self, stand: Stand, parameters: dict[str, Any] | None, labels: int
    ) -> None:
        """What the client sends when there are parameters."""
        body = {"inputs": base64.b64encode(SPEECH).decode(), "parameters": parameters}
        ranked = (await stand.client.post(HUB, json=body)).json()
        whole = (await post(stand, path=HUB)).json()
        assert [item["label"] for item in ranked] == [item["label"] for item in whole[:labels]]

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"", "Invalid JSON"),
            (b"{", "Invalid JSON"),
            (b"[]", "should be an object"),
            (b"{}", "inputs: Field required"),
            (b'{"inputs": 1}', "inputs: Input should be a valid string"),
            (b'{"inputs": "!"}', "not base64"),
            ('{"inputs": "é"}'.encode(), "not base64"),
            (b'{"inputs": "UklG", "other": 1}', "other: Extra inputs"),
            (b'{"inputs": "UklG", "parameters": {"top_k": 0}}', "parameters: top_k: "),
            (b'{"inputs": "UklG", "parameters": {"top_k": "x"}}', "parameters: top_k: "),
            (
                b'{"inputs": "UklG", "parameters": {"function_to_apply": "sigmoid"}}',
                "'softmax'",
            ),
            (b'{"inputs": "UklG", "parameters": {"other": 1}}', "other: "),
            (b"\xff\xfe", "Invalid JSON"),
            (b"[" * 10_000, "JSON"),
            (b'{"inputs": "\\ud800"}', "JSON"),
        ],
    )
    async def test_json_that_is_wrong_is_refused_with_the_reason(
        self, stand: Stand, body: bytes, reason: str
    ) -> None:
        headers = {"content-type": "application/json"}
        answer = await stand.client.post(HUB, content=body, headers=headers)
        assert problem(answer) == "bad-request"
        assert reason in answer.json()["detail"]

    async def test_json_around_no_audio(self, stand: Stand) -> None:
        """base64 of nothing, too."""
        for inputs in ("", "AAAA"):
            answer = await stand.client.post(HUB, json={"inputs": inputs})
            assert problem(answer) == "not-audio"

    async def test_a_clip_without_speech_has_no_labels(self, stand: Stand) -> None:
        assert (await post(stand, encoded(silence(2.0)), path=HUB)).json() == []

    async def test_a_form_is_not_taken(self, stand: Stand) -> None:
        """The contract knows none."""
        answer = await stand.client.post(HUB, files={"file": SPEECH})
        assert problem(answer) == "unsupported-format"
