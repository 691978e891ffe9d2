"""Who is compared, and how each is asked."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import pytest

from benchmarks.peers.cells import agreement, probabilities
from benchmarks.peers.client import Sample
from benchmarks.peers.contenders import STACKS, Contender, Place, every, scores
from benchmarks.peers.models import Model

ALL = every(bf16=True) + every(int8=False)
MODEL = Model("m", Path("m"), ["a", "b"], 2.0, 1, 1.0, {"fp32": [[1.0, 0.0], [0.0, 1.0]]})


@pytest.mark.parametrize(
    "contender", list(dict.fromkeys(ALL)), ids=lambda contender: contender.name
)
def test_every_contender_uses_each_cpu_once(contender: Contender) -> None:
    """Workers times threads is the number of CPUs, but for the thesis, which is as it was."""
    given = contender.environment(MODEL, 4)
    if contender.stack == "thesis":
        assert "OMP_NUM_THREADS" not in given
    elif contender.stack == "timbre":
        assert given["TIMBRE_THREADS"] == "4"
        assert "TIMBRE_STREAMS" not in given
        many = contender.layout == "many"
        assert given["TIMBRE_PROFILE"] == ("throughput" if many else "adaptive")
        assert given["TIMBRE_PRECISION"] == contender.precision
        assert given["TIMBRE_UNGATED"] == "true"
    else:
        assert int(given["BENCH_WORKERS"]) * int(given["BENCH_THREADS"]) == 4
    assert "9999" in " ".join(contender.command(Place(Path("python"), 9999, 4)))


def test_every_stack_is_measured_with_the_engine_of_the_others() -> None:
    """So that a reader sees what the engine gives and what the service does."""
    for precision, rows in groupby(
        sorted(every(bf16=True), key=lambda row: row.precision),
        key=lambda row: row.precision,
    ):
        stacks = {row.stack for row in rows if row.engine == "openvino"}
        assert stacks == set(STACKS) - {"thesis"}, precision


def test_names_are_unique() -> None:
    """Raw data and options tell contenders by them."""
    names = [row.name for row in every(bf16=True)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("stack", STACKS)
def test_a_request_holds_the_clip_whole(stack: str) -> None:
    """As the body, or as the file of a form, with its true length."""
    clip = bytes(range(256))
    request = Contender(stack, "openvino", "fp32").request(clip)
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert first == f"POST {STACKS[stack].path} HTTP/1.1"
    assert int(headers["content-length"]) == len(body)
    if STACKS[stack].form:
        boundary = headers["content-type"].partition("boundary=")[2].encode()
        before, part, after = body.split(b"--" + boundary)
        assert (before, after) == (b"", b"--\r\n")
        body = part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
    assert body == clip


def test_both_shapes_of_an_answer_are_read() -> None:
    """Hugging Face's list, and Timbre's own."""
    ranking = [{"label": "a", "score": 0.7}, {"label": "b", "score": 0.3}]
    timbre = {"label": "a", "probabilities": {"a": 0.7, "b": 0.3}}
    expected = {"a": 0.7, "b": 0.3}
    assert scores(json.dumps(ranking).encode()) == expected
    assert scores(json.dumps(timbre).encode()) == expected


def test_answers_are_held_against_the_models_own() -> None:
    """Each clip's label and scores; Timbre's at its temperature."""

    def answer(clip: int, a: float) -> Sample:
        ranking = [{"label": "a", "score": a}, {"label": "b", "score": 1 - a}]
        return Sample(clip, 0, 0, 0, 200, json.dumps(ranking).encode())

    peer, timbre = (Contender(stack, "openvino", "fp32") for stack in ("fastapi", "timbre"))
    plain, calibrated = (probabilities([1.0, 0.0], t)[0] for t in (1.0, 2.0))
    for contender, right in ((peer, plain), (timbre, calibrated)):
        differ, largest = agreement([answer(0, right)], MODEL, contender)
        assert differ == 0
        assert largest == pytest.approx(0.0)
        assert agreement([answer(1, right)], MODEL, contender)[0] == 1
