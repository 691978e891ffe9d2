"""Loading, closing, and what the probes are told meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service.http import Desk, create_app, create_internal_app
from tests.support.asking import CLASSIFY, RAW, SPEECH, Standing, checked_client, post, problem
from tests.support.stand import PATIENCE_S, Gate, Stand

pytestmark = pytest.mark.asyncio


class TestLoading:
    """Where nothing is served yet."""

    async def test_metrics_and_pages_are_there(self) -> None:
        """A start that takes long can be watched."""
        desk = Desk()
        async with checked_client(create_app(desk)) as client:
            for path in ("/", "/docs", "/openapi.json"):
                assert (await client.get(path)).status_code == 200
        async with checked_client(create_internal_app(desk)) as client:
            assert (await client.get("/metrics")).status_code == 200

    async def test_the_reference_s_own_files_are_served_where_there_are_any(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "swagger-ui.css").write_text("body {}")
        async with checked_client(create_app(Desk(), reference_assets=tmp_path)) as client:
            assert (await client.get("/reference/swagger-ui.css")).text == "body {}"
            assert problem(await client.get("/reference/none")) == "not-found"


class TestClosing:
    """Shutdown answers what is inside."""

    @pytest.mark.parametrize("where", ["decoding", "engine"])
    async def test_a_clip_inside_is_answered(self, stand: Stand, where: str) -> None:
        """Wherever it is when the server closes, and new ones are refused meanwhile."""
        gate: Gate = stand.classifier.decoding if where == "decoding" else stand.runner.gate
        gate.shut()
        inside = post(stand)
        await gate.reached()
        closed = asyncio.ensure_future(stand.serving.close())
        await asyncio.sleep(0)  # it begins
        assert problem(await post(stand)) == "not-ready"
        assert not closed.done()
        stand.let_go()
        assert (await inside).status_code == 200
        await closed

    async def test_a_stuck_engine_is_not_waited_for(self, make: Standing) -> None:
        """Its clip has had its 504, and nobody would ever come back from it."""
        async with make(deadline_s=0.05) as stand:
            stand.runner.gate.shut()
            assert problem(await post(stand)) == "deadline"
            await asyncio.wait_for(stand.serving.close(), PATIENCE_S)
            assert not stand.serving.ready
            stand.let_go()

    async def test_a_clip_still_being_sent_is_refused(self, stand: Stand) -> None:
        """It was let in before, but there is nobody left to do the work."""
        sending = asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            yield SPEECH[:100]
            sending.set()
            await stand.serving.close()
            yield SPEECH[100:]

        answer = await stand.client.post(CLASSIFY, content=body(), headers=RAW)
        assert sending.is_set()
        assert problem(answer) == "not-ready"


class TestHealth:
    """Liveness is about a stuck engine, readiness about whether new clips are taken."""

    @pytest.mark.parametrize("where", ["decoding", "engine"])
    async def test_only_a_stuck_engine_is_not_alive(self, make: Standing, where: str) -> None:
        """A call counts as stuck at the limit, not before, and no more once it ends.

        The engine also looks for speech, so a clip can stick there before it is in a batch.
        """
        async with make(stuck_s=60) as stand:
            assert stand.serving.alive
            gate: Gate = stand.classifier.decoding if where == "decoding" else stand.runner.gate
            gate.shut()
            clip = post(stand)
            await gate.reached()
            stand.serving.skipped_s = 55
            assert stand.serving.alive
            stand.serving.skipped_s = 60
            assert not stand.serving.alive
            assert stand.serving.ready
            stand.let_go()
            await clip
            assert stand.serving.alive

    async def test_overload_makes_neither_unready_nor_dead(self, make: Standing) -> None:
        """Other pods are no less busy: taking this one away would only make it worse."""
        async with make(queue_windows=1) as stand:
            stand.runner.gate.shut()
            clips = [post(stand) for _ in range(20)]
            await stand.runner.gate.reached()
            assert (stand.serving.ready, stand.serving.alive) == (True, True)
            assert stand.sample("timbre_ready") == 1
            stand.let_go()
            statuses = {(await clip).status_code for clip in clips}
            assert statuses == {200, 429}

    async def test_closing_is_not_ready(self, stand: Stand) -> None:
        await stand.serving.close()
        assert not stand.serving.ready
        assert stand.serving.alive
