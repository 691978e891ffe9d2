"""The benchmark of shadowing: what its arms differ in, its stub, and what its figures compare."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest

from benchmarks.shadow import ALONE, Turn, arms, at_once, figures, sending
from service.contract import ShadowAnswer
from service.settings import Settings, load


def test_arms_differ_in_where_clips_are_shadowed_to_and_how_many() -> None:
    """Each starts as a server of its own; two have no candidate."""
    settings = {
        name: load({key: str(value) for key, value in variables.items()})
        for name, variables in arms(1, 2, 3).items()
    }
    assert [name for name, own in settings.items() if own == Settings()] == [ALONE, "alone again"]
    sent = {name: (own.shadow_urls, own.shadow_sample) for name, own in settings.items()}
    assert sent["nobody there, all"] == ({"canary": "http://127.0.0.1:3"}, 1.0)
    assert sent["stub, a tenth"] == ({"canary": "http://127.0.0.1:2"}, 0.1)
    assert sent["candidate, all"] == ({"canary": "http://127.0.0.1:1"}, 1.0)


@pytest.mark.asyncio
async def test_the_stub_answers_as_a_candidate() -> None:
    """Else its clips would fail, and cost less than pairs do."""
    transport = httpx.ASGITransport(at_once)
    async with httpx.AsyncClient(transport=transport, base_url="http://stub") as client:
        answer = await client.post("/shadow", content=b"a clip")
    ShadowAnswer.model_validate_json(answer.content)


def test_a_clip_costs_next_to_nothing_where_nobody_is_there() -> None:
    """And more where it is sent."""
    costs = sending(3)
    assert 0 < costs["nobody there"] < costs["sent"]


def test_ratios_are_to_the_same_turn() -> None:
    """The median and the range over turns, whatever the machine did between them."""
    alone = [Turn(10.0, 20.0, 5.0, Counter()), Turn(100.0, 200.0, 5.0, Counter())]
    turns = [
        Turn(11.0, 20.0, 6.0, Counter(paired=3)),
        Turn(130.0, 200.0, 6.0, Counter(paired=4, busy=1)),
    ]
    told = figures(turns, alone)
    assert told["p50_ms_to_alone"] == "1.20 (1.10 to 1.30)"
    assert told["p99_ms_to_alone"] == "1.00 (1.00 to 1.00)"
    assert (told["p99_ms"], told["cpu_ms"]) == (110.0, 6.0)
    assert told["outcomes"] == {"paired": 7, "busy": 1}
