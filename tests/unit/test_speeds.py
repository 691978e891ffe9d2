"""Speeds are measured once; a cache that is of no use costs a measurement, and no more."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from service.bundle import Bundle, Precision
from service.domain import Logits, Samples
from service.runner import Wav2Vec2Runner
from service.runtime import Runtime
from service.speeds import (
    LEAST_CALLS,
    MAX_FILE_BYTES,
    MEASURE_S,
    Situation,
    cache_folder,
    speeds,
    window_seconds,
)
from tests.support.bundles import tiny_bundle

HERE = Situation(
    digest="sha256:0",
    runtime="openvino",
    engine="1.0",
    cpu="a CPU",
    features=["avx2"],
    streams=1,
    threads=2,
)
CHANGES = {
    "digest": "sha256:1",
    "runtime": "torch",
    "engine": "1.1",
    "cpu": "another",
    "features": ["avx2", "avx512f"],
    "streams": 2,
    "threads": 3,
}
PRECISIONS: Sequence[Precision] = ("fp32", "bf16")


class Measured:
    """Measures: each precision takes as long as its name; counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Precision] = []

    def __call__(self, precision: Precision) -> float:
        """Take it down."""
        self.asked.append(precision)
        return {"fp32": 0.3, "bf16": 0.1, "int8": 0.2}[precision]


def ask(
    cache: Path | None,
    precisions: Sequence[Precision] = PRECISIONS,
    situation: Situation = HERE,
) -> list[Precision]:
    """Ask for speeds in a situation; returns what had to be measured."""
    measured = Measured()
    found = speeds(situation, precisions, cache=cache, measure=measured)
    assert found == {precision: Measured()(precision) for precision in precisions}
    return measured.asked


class TestRemembering:
    """What was measured in a situation is known in that situation, and in no other."""

    def test_a_second_start_measures_nothing(self, tmp_path: Path) -> None:
        """The folder is made for it."""
        cache = tmp_path / "a" / "b"
        assert ask(cache) == ["fp32", "bf16"]
        assert ask(cache) == []
        (file,) = cache.iterdir()
        assert json.loads(file.read_text())["situation"] == HERE.model_dump()

    @pytest.mark.parametrize("field", list(Situation.model_fields))
    def test_anything_else_is_another_situation(self, tmp_path: Path, field: str) -> None:
        """And doesn't displace this one."""
        ask(tmp_path)
        other = HERE.model_copy(update={field: CHANGES[field]})
        assert ask(tmp_path, situation=other) == ["fp32", "bf16"]
        assert ask(tmp_path) == []

    def test_one_precision_more_is_measured_with_the_others(self, tmp_path: Path) -> None:
        """All at once, since times of two days can't be compared; one less is known."""
        ask(tmp_path)
        assert ask(tmp_path, ["fp32", "bf16", "int8"]) == ["fp32", "bf16", "int8"]
        assert ask(tmp_path, ["fp32", "int8"]) == []

    def test_without_a_cache_each_start_measures(self) -> None:
        """A user without a home."""
        assert ask(None) == ["fp32", "bf16"]


class TestUseless:
    """Whatever is wrong with the cache, there is an answer."""

    @pytest.mark.parametrize(
        "content",
        [
            *(b"", b"\0\xff", b"[]", b"{", b'{"window_s": {}}', b"[" * 100_000),
            b" " * MAX_FILE_BYTES,
        ],
    )
    def test_garbage_is_measured_again_and_replaced(self, tmp_path: Path, content: bytes) -> None:
        """Cut short, overwritten, or somebody else's."""
        ask(tmp_path)
        (file,) = tmp_path.iterdir()
        file.write_bytes(content)
        assert ask(tmp_path) == ["fp32", "bf16"]
        assert ask(tmp_path) == []

    @pytest.mark.parametrize("value", [0, -1, "fast", None, True, 1e999])
    def test_a_speed_that_is_none_is_measured_again(self, tmp_path: Path, value: object) -> None:
        """It would make the slowest the fastest."""
        ask(tmp_path)
        (file,) = tmp_path.iterdir()
        written = json.loads(file.read_text())
        written["window_s"]["fp32"] = value
        file.write_text(json.dumps(written))
        assert ask(tmp_path) == ["fp32", "bf16"]

    def test_a_file_of_another_situation_is_not_believed(self, tmp_path: Path) -> None:
        """Somebody renamed it."""
        ask(tmp_path)
        (file,) = tmp_path.iterdir()
        ask(tmp_path, situation=HERE.model_copy(update={"threads": 8}))
        (other,) = set(tmp_path.iterdir()) - {file}
        other.replace(file)
        assert ask(tmp_path) == ["fp32", "bf16"]

    def test_a_folder_that_cannot_be_made_is_no_error(self, tmp_path: Path) -> None:
        """A read-only root, or a file in its place; also for a user who may do everything."""
        (tmp_path / "file").touch()
        for _ in range(2):
            assert ask(tmp_path / "file" / "cache") == ["fp32", "bf16"]

    def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(self, tmp_path: Path) -> None:
        """Half a file would be taken for a whole one."""
        ask(tmp_path)
        (file,) = tmp_path.iterdir()
        file.unlink()
        file.mkdir()
        for _ in range(2):
            assert ask(tmp_path) == ["fp32", "bf16"]
        assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"XDG_CACHE_HOME": "/x", "HOME": "/home/a"}, Path("/x/timbre")),
        ({"HOME": "/home/a"}, Path("/home/a/.cache/timbre")),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/a"}, Path("/home/a/.cache/timbre")),
        ({"XDG_CACHE_HOME": "", "HOME": ""}, None),
        ({}, None),
    ],
)
def test_the_cache_is_where_the_user_keeps_such_things(
    environment: dict[str, str], folder: Path | None
) -> None:
    """As XDG has it: what is not absolute is not set."""
    assert cache_folder(environment) == folder


class Instant:
    """A runtime that takes no time but that of the clock; counts its calls."""

    name = "instant"
    streams = 1
    threads = 1
    batches: Sequence[int] = ()
    wide: Runtime | None = None

    def __init__(self, labels: int) -> None:
        self.calls = 0
        self._labels = labels

    def __call__(self, windows: Samples) -> Logits:
        """Score nothing."""
        self.calls += 1
        return np.zeros((len(windows), self._labels), np.float32)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Any bundle: only its window's length counts."""
    return tiny_bundle(tmp_path)


@pytest.mark.parametrize(
    ("step_s", "calls"),
    # The clock is read once before, and thrice a call: before it, after it, and to see the time.
    [(MEASURE_S, LEAST_CALLS), (MEASURE_S / 30, 10)],
)
def test_a_measurement_is_bounded(bundle: Bundle, step_s: float, calls: int) -> None:
    """A large model is run a few times, a small one until a tenth of a second is over."""
    runtime = Instant(len(bundle.manifest.labels))
    ticks = itertools.count()
    taken = window_seconds(
        Wav2Vec2Runner(bundle, runtime, "fp32"), clock=lambda: next(ticks) * step_s
    )
    assert taken == pytest.approx(step_s)
    assert 1 + LEAST_CALLS <= runtime.calls <= 2 + calls


def test_the_least_time_counts_and_the_first_call_does_not(bundle: Bundle) -> None:
    """The first compiles, and others may have been kept waiting by whoever shares the CPUs."""
    runtime = Instant(len(bundle.manifest.labels))
    times = iter([0.0, 0.0, 0.09, 0.1, 0.14, 10.0])
    runner = Wav2Vec2Runner(bundle, runtime, "fp32")
    assert window_seconds(runner, clock=lambda: next(times)) == pytest.approx(0.04)
    assert runtime.calls == 1 + LEAST_CALLS
