"""Decoder processes behind HTTP: in the app, and in a real server whose processes are killed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from service.bundle import Bundle
from service.runtime import cpus
from service.settings import Settings
from tests.support.asking import CLASSIFY, SPEECH, Standing, post, problem
from tests.support.misbehaving import misbehaving_pool
from tests.support.server import PATIENCE_S, Server, eventually, serving
from tests.support.stand import HereDecoder

DECODERS = 2
DRAIN_S = 5.0
"""Long enough for a request on a busy machine."""
HOSTILE = (b"segfault", b"raise", b"hang_up", b"say nonsense that is no answer", b"sleep 3600")


class TestInTheApp:
    """Only the clip that breaks a decoder is refused."""

    @pytest.mark.asyncio
    async def test_honest_clips_beside_hostile_ones_are_answered(self, make: Standing) -> None:
        """Twenty of them; each hostile one is a 422 of its own."""
        with misbehaving_pool(DECODERS, limit_s=1.0) as decoder:
            async with make(decoder=decoder, decoders=DECODERS) as stand:
                bodies = [SPEECH] * 20
                for at, hostile in enumerate(HOSTILE):
                    bodies.insert(4 * at, hostile)
                answers = [await task for task in [post(stand, body) for body in bodies]]
                for body, answer in zip(bodies, answers, strict=True):
                    if body == SPEECH:
                        assert answer.status_code == 200
                    else:
                        assert problem(answer) == "undecodable"
                assert stand.serving.alive

    @pytest.mark.asyncio
    async def test_a_clip_that_outlives_its_deadline_leaves_the_backlog(
        self, make: Standing
    ) -> None:
        """Its client has had its 504; its decoder is busy up to the clip's limit, others aren't."""
        with misbehaving_pool(DECODERS, limit_s=PATIENCE_S) as decoder:
            options = {"decoders": DECODERS, "decode_backlog": 1, "deadline_s": 1.0}
            async with make(decoder=decoder, **options) as stand:
                assert problem(await post(stand, b"sleep 3600")) == "deadline"
                assert (await post(stand)).status_code == 200

    @pytest.mark.asyncio
    async def test_a_stuck_decoder_is_no_reason_to_restart_the_server(self, make: Standing) -> None:
        """It is replaced at its limit, which a liveness of fewer seconds doesn't know."""
        with misbehaving_pool(1, limit_s=1.0) as decoder:
            async with make(decoder=decoder, decoders=1, stuck_s=0.1) as stand:
                hostile = post(stand, b"sleep 3600")
                while not hostile.done():
                    assert stand.serving.alive
                    await asyncio.sleep(0.02)
                assert problem(await hostile) == "undecodable"

    @pytest.mark.asyncio
    async def test_a_server_without_decoders_is_not_alive(self, make: Standing) -> None:
        """Where none can be started any more, the container must be."""
        async with make() as stand:
            assert isinstance(stand.decoder, HereDecoder)
            stand.decoder.alive = False
            assert not stand.serving.alive
            assert stand.serving.ready

    @pytest.mark.asyncio
    async def test_closing_closes_the_decoders(self, make: Standing) -> None:
        """After the last clip inside has been answered."""
        async with make() as stand:
            assert isinstance(stand.decoder, HereDecoder)
            stand.classifier.decoding.shut()
            inside = post(stand)
            await stand.classifier.decoding.reached()
            assert not stand.decoder.closed
            stand.let_go()
            assert (await inside).status_code == 200
            await stand.serving.close()
            assert stand.decoder.closed

    def test_there_are_as_many_as_cpus_unless_told(self) -> None:
        """One a CPU keeps all of them busy, and each costs memory."""
        assert Settings(decoders=3).decoder_processes == 3
        assert Settings().decoder_processes == cpus()


def family(server: Server) -> list[psutil.Process]:
    """All processes that a server has started, however indirectly."""
    return psutil.Process(server.process.pid).children(recursive=True)


def decoders(server: Server) -> dict[int, psutil.Process]:
    """Find the decoder processes of a server by what they run."""
    return {
        process.pid: process
        for process in family(server)
        if "service.decoding.process" in process.cmdline()
    }


@pytest.fixture
def server(tiny: Bundle, tmp_path: Path) -> Iterator[Server]:
    """A real `timbre serve`, which must exit with 0."""
    with serving(tiny, tmp_path / "log", TIMBRE_DECODERS=DECODERS) as server:
        yield server
        server.process.terminate()
        assert server.process.wait(PATIENCE_S) == 0


class TestInARealServer:
    """Processes that really die."""

    def test_a_killed_decoder_is_replaced(self, server: Server) -> None:
        """Whether at rest or at work; the server stays the same process, and counts it."""
        with httpx.Client(base_url=server.url, timeout=PATIENCE_S) as client:
            assert client.post(CLASSIFY, content=SPEECH).status_code == 200
            before = decoders(server)
            assert len(before) == DECODERS
            (worker,) = {process.ppid() for process in before.values()}
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            for _ in range(20):
                assert client.post(CLASSIFY, content=SPEECH).status_code == 200
            eventually(lambda: len(decoders(server)) == DECODERS, "replaced")
            after = decoders(server)
            assert not set(before) & set(after)
            assert {process.ppid() for process in after.values()} == {worker}
            assert client.get("/livez").status_code == 200
            metrics = httpx.get(f"{server.internal_url}/metrics", timeout=PATIENCE_S).text
            (restarts,) = [
                metric
                for metric in text_string_to_metric_families(metrics)
                if metric.name == "timbre_decoder_restarts"
            ]
            counted = {s.labels["reason"]: s.value for s in restarts.samples if "total" in s.name}
            assert counted == {"died": DECODERS}

    def test_no_decoder_outlives_a_stopped_or_killed_server(
        self, tiny: Bundle, tmp_path: Path
    ) -> None:
        """SIGTERM ends them with the rest; a killed worker can't, so they end by themselves."""
        with serving(tiny, tmp_path / "stopped") as server:
            stopped = decoders(server)
            assert stopped
        eventually(lambda: not any(map(running_still, stopped)), "ended")

        with serving(tiny, tmp_path / "killed") as server:
            killed = decoders(server)
            for process in (*family(server), psutil.Process(server.process.pid)):
                if process.pid not in killed:
                    process.kill()
        eventually(lambda: not any(map(running_still, killed)), "ended")

    def test_a_client_that_has_left_delays_no_shutdown(self, server: Server) -> None:
        """BentoML would wait for an answer to it until its time-out of 35 s."""
        with socket.create_connection(("127.0.0.1", server.port), PATIENCE_S) as connection:
            head = f"POST {CLASSIFY} HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n"
            connection.sendall(head.encode())
            # Another request's answer shows that the server has read what came before it.
            assert httpx.get(f"{server.url}/v1/model").status_code == 200
        server.process.terminate()
        terminated = time.monotonic()
        server.process.wait(PATIENCE_S)
        assert time.monotonic() - terminated < Settings().deadline_s / 2

    def test_every_process_told_to_end_loses_no_clip(self, tiny: Bundle, tmp_path: Path) -> None:
        """A service manager's SIGTERM comes to decoders too; they stay to the end of the drain."""
        with serving(
            tiny, tmp_path / "log", TIMBRE_DRAIN_S=DRAIN_S, TIMBRE_DECODERS=DECODERS
        ) as server:
            before = set(decoders(server))
            assert len(before) == DECODERS
            for pid in before:
                os.kill(pid, signal.SIGTERM)
            server.process.send_signal(signal.SIGTERM)
            answer = httpx.post(server.url + CLASSIFY, content=SPEECH, timeout=PATIENCE_S)
            assert answer.status_code == 200
            assert set(decoders(server)) == before  # none was replaced


def running_still(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
