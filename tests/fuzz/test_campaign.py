"""A short campaign with a fixed seed, and that a campaign finds what there is to be found."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from benchmarks.server import running
from service.audio import decode
from service.decoding.pool import DecoderPool
from tests.fuzz import campaign
from tests.fuzz.mutations import mutated, seeds
from tests.fuzz.requests import Sent, request
from tests.support.misbehaving import misbehaving_pool

FILES = 600
REQUESTS = 400


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Listen on a port, and say this to the first who connects."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


def test_seeds_are_whole() -> None:
    """Every accepted format is there, and decodes."""
    starts = {seed[:4] for seed in seeds()}
    assert {b"RIFF", b"fLaC", b"OggS"} <= starts
    for seed in seeds():
        assert decode(seed).samples.size


def test_a_case_can_be_made_again() -> None:
    """The same number gives the same file and the same request, and the next one another."""

    def state(number: int) -> Random:
        return campaign.random_of(campaign.Report("any", 0, Path()), number)

    cases = [(mutated(state(n)), request(state(n))) for n in (*range(20), *range(20))]
    assert cases[:20] == cases[20:]
    assert len({file for file, _ in cases}) == 20


def test_damaged_files_break_no_decoder(tmp_path: Path) -> None:
    """Some are still clips, all others are refused, in more ways than one."""
    report = campaign.Report("files", 0, tmp_path)
    pool = DecoderPool(2)
    try:
        campaign.files(report, pool, range(FILES))
    finally:
        pool.close()
    assert (report.failures, report.kept) == ([], [])
    assert report.outcomes.total() == FILES
    assert {"decoded", "not-audio", "no-samples", "not-finite"} <= set(report.outcomes)


def test_damaged_requests_harm_no_server(tmp_path: Path) -> None:
    """No 5xx, problems for all it refuses, and the same process with the same answer after it."""
    report = campaign.Report("requests", 0, tmp_path)
    with running() as server, campaign.untouched(server, report):
        campaign.requests(report, server.port, range(REQUESTS))
    assert (report.failures, report.kept) == ([], [])
    assert report.outcomes.total() == REQUESTS
    assert {"200", "400 not-audio", "400 bad-request", "not HTTP"} <= set(report.outcomes)


def test_a_file_that_breaks_a_decoder_is_kept(tmp_path: Path) -> None:
    """Under a name that says how to make it again; that is contained, and so no failure."""
    report = campaign.Report("files", 3, tmp_path / "crashes")
    with misbehaving_pool(1) as pool:
        campaign.files(report, pool, [7], make=lambda _: b"segfault")
    assert report.outcomes == {"undecodable": 1}
    (kept,) = (tmp_path / "crashes").iterdir()
    assert kept.name == "files-seed3-case7-undecodable.bin"
    assert kept.read_bytes() == b"segfault"
    assert not report.failures


@pytest.mark.parametrize(
    "answer",
    [
        b'HTTP/1.1 500 Oh\r\nContent-Type: application/problem+json\r\n\r\n{"type": "urn:x"}',
        b"HTTP/1.1 400 Oh\r\nContent-Type: text/plain\r\n\r\nno",
        b"",
    ],
)
def test_a_wrong_answer_is_a_failure(
    tmp_path: Path, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 5xx, a refusal that is no problem, or none at all to a request that was in order."""
    sent = Sent(b"GET / HTTP/1.1\r\n\r\n", "GET", lies=False)
    monkeypatch.setattr(campaign, "request", lambda _: sent)
    report = campaign.Report("requests", 0, tmp_path)
    with answering(answer) as port:
        campaign.requests(report, port, [5])
    assert len(report.failures) == 1
    assert [path.name for path in report.kept] == ["requests-seed0-case5-failure.bin"]
