"""Runners: warmed up with what serving will use, and computing what they say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.bundle import Bundle, Precision
from service.domain import BundleError, Logits, Samples
from service.runner import Runner, Seat, Wav2Vec2Runner, open_runner, run_each
from service.runtime import FIXED_BATCHES, FIXED_BYTES, OpenVINORuntime, Runtime
from tests.support.bundles import tiny_bundle, tiny_draft

MAX_BATCH = 4
ANY_BATCH = -1


class TakingTurns:
    """A runtime whose streams take turns, as OpenVINO's requests do; it notes who got what."""

    name = "turns"
    threads = 1

    def __init__(self, streams: int, labels: int, batches: Sequence[int] = ()) -> None:
        self.streams = streams
        self.batches = batches
        self.wide: Runtime | None = None
        self.sizes: list[set[int]] = [set() for _ in range(streams)]
        self._labels = labels
        self._calls = 0

    def __call__(self, windows: Samples) -> Logits:
        """Score nothing, on the stream whose turn it is."""
        self.sizes[self._calls % self.streams].add(len(windows))
        self._calls += 1
        return np.zeros((len(windows), self._labels), np.float32)


class Noting:
    """A runner that answers a window with its own name and the window's first sample."""

    def __init__(self, bundle: Bundle, name: float) -> None:
        self.bundle = bundle
        self.runtime: Runtime = TakingTurns(1, 2)
        self.precision: Precision = "fp32"
        self.wide: Runner | None = None
        self.calls: list[list[float]] = []
        self._name = name

    def __call__(self, windows: Sequence[Samples]) -> Sequence[Logits]:
        """Score windows."""
        self.calls.append([float(window[0]) for window in windows])
        return [np.array([self._name, window[0]], np.float32) for window in windows]

    def warm_up(self, max_batch: int) -> float:  # noqa: ARG002
        """Stay cold."""
        return 0.0


@given(choices=st.lists(st.booleans(), min_size=1, max_size=9))
def test_each_window_of_a_batch_is_scored_by_its_own_runner(
    tmp_path_factory: pytest.TempPathFactory, choices: list[bool]
) -> None:
    """Answers come in the batch's order, from one call for each runner with windows in it."""
    bundle = tiny_bundle(tmp_path_factory.mktemp("bundle"))
    runners = (Noting(bundle, 0.0), Noting(bundle, 1.0))
    seats: list[Seat] = [
        (runners[second], np.array([place], np.float32)) for place, second in enumerate(choices)
    ]
    answers = run_each(seats)
    assert [tuple(answer) for answer in answers] == [
        (float(second), float(place)) for place, second in enumerate(choices)
    ]
    assert [len(runner.calls) for runner in runners] == [
        int(False in choices),
        int(True in choices),
    ]


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_every_stream_is_warmed_up_with_every_batch_size(tmp_path: Path, streams: int) -> None:
    """Or the first caller of the one left out would wait for a compilation."""
    bundle = tiny_bundle(tmp_path)
    runtime = TakingTurns(streams, len(bundle.manifest.labels))
    Wav2Vec2Runner(bundle, runtime, "fp32").warm_up(MAX_BATCH)
    assert runtime.sizes == [set(range(1, MAX_BATCH + 1))] * streams


@pytest.mark.parametrize(("streams", "window_s"), [(1, 2.0), (2, 1.0)])
def test_the_time_of_a_window_is_that_of_all_streams_at_work(
    tmp_path: Path, streams: int, window_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight seconds for a batch of four: the queue is judged by what all make in a second."""
    bundle = tiny_bundle(tmp_path)
    runtime = TakingTurns(streams, len(bundle.manifest.labels))
    monkeypatch.setattr("time.perf_counter", iter([0.0, 8.0]).__next__)
    assert Wav2Vec2Runner(bundle, runtime, "fp32").warm_up(MAX_BATCH) == window_s


def test_what_has_all_threads_is_warmed_up_with_what_it_will_get(tmp_path: Path) -> None:
    """Batches smaller than the streams."""
    bundle = tiny_bundle(tmp_path)
    labels = len(bundle.manifest.labels)
    runtime = TakingTurns(4, labels)
    runtime.wide = wide = TakingTurns(1, labels)
    Wav2Vec2Runner(bundle, runtime, "fp32").warm_up(MAX_BATCH)
    assert wide.sizes == [{1, 2, 3}]


def test_a_batch_by_itself_is_scored_with_all_threads(tmp_path: Path) -> None:
    """By each runner that can; the other has no such weights."""
    bundle = tiny_bundle(tmp_path)
    runners = Noting(bundle, 0.0), Noting(bundle, 1.0)
    runners[1].wide = wide = Noting(bundle, 2.0)
    seats: list[Seat] = [(runner, np.zeros(1, np.float32)) for runner in runners]
    assert [answer[0] for answer in run_each(seats, wide=True)] == [0.0, 2.0]
    assert [answer[0] for answer in run_each(seats)] == [0.0, 1.0]
    assert len(wide.calls) == 1


@pytest.mark.parametrize(("most", "sizes"), [(8, {8, 4, 1}), (7, {4, 1}), (64, {8, 4, 1})])
def test_only_sizes_that_the_runtime_is_made_for_are_warmed_up(
    tmp_path: Path, most: int, sizes: set[int]
) -> None:
    """Others are cut into these: to run them too would only make the start longer."""
    bundle = tiny_bundle(tmp_path)
    runtime = TakingTurns(1, len(bundle.manifest.labels), batches=(8, 4, 1))
    Wav2Vec2Runner(bundle, runtime, "fp32").warm_up(most)
    assert runtime.sizes == [sizes]


def test_a_model_with_other_labels_is_refused(tmp_path: Path) -> None:
    """The sentence has both numbers, before any caller gets a wrong label."""
    bundle = tiny_bundle(tmp_path)
    labels = len(bundle.manifest.labels)
    runner = Wav2Vec2Runner(bundle, TakingTurns(1, labels + 1), "fp32")
    with pytest.raises(BundleError, match=f"{labels + 1} scores for {labels} labels"):
        runner.warm_up(MAX_BATCH)


class TestWhatIsComputed:
    """A precision is told only where it is computed: OpenVINO takes it for a hint."""

    @pytest.mark.parametrize(
        ("precision", "hint"), [("fp32", "f32"), ("bf16", "bf16"), ("int8", "f32")]
    )
    def test_openvino_is_told(
        self, precision: Precision, hint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """bf16 by name; what of an int8 network is not int8 is fp32."""
        core = FakeCore(computes=hint)
        monkeypatch.setattr("openvino.Core", lambda: core)
        OpenVINORuntime(weights(tmp_path), streams=1, threads=1, precision=precision)
        assert core.properties["INFERENCE_PRECISION_HINT"] == hint

    def test_another_precision_than_asked_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """On CPUs without bf16 OpenVINO computes in fp32 and says so only when it is asked."""
        monkeypatch.setattr("openvino.Core", lambda: FakeCore(computes="f32"))
        with pytest.raises(BundleError, match=r"computes fp32.xml in f32 on this CPU, not in bf16"):
            OpenVINORuntime(weights(tmp_path), streams=1, threads=1, precision="bf16")

    def test_torch_is_not_asked_for_another_precision(self, tmp_path: Path) -> None:
        """It would compute bf16's weights, which are fp32's, in fp32."""
        facts = tiny_draft().precisions["fp32"]
        bundle = tiny_bundle(tmp_path, precisions={"bf16": facts})
        with pytest.raises(BundleError, match="torch computes in fp32, not in bf16"):
            open_runner(bundle, runtime="torch", precision="bf16", streams=1, threads=1)


@pytest.mark.parametrize(
    ("size", "batches"), [(FIXED_BYTES, [*FIXED_BATCHES]), (FIXED_BYTES + 1, [ANY_BATCH])]
)
def test_small_models_have_a_network_for_each_batch(
    size: int, batches: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A byte too many, and there is one for all batches: each would hold the weights again."""
    core = FakeCore(computes="f32")
    monkeypatch.setattr("openvino.Core", lambda: core)
    OpenVINORuntime(weights(tmp_path, size), streams=1, threads=1)
    assert core.batches == batches


@pytest.mark.parametrize(
    ("size", "streams", "batches"),
    [
        (FIXED_BYTES, 1, [*FIXED_BATCHES]),
        (FIXED_BYTES, 2, [1, *FIXED_BATCHES]),
        (FIXED_BYTES, 4, [2, 1, 4, 2, 1]),
        (FIXED_BYTES + 1, 4, [ANY_BATCH]),
    ],
)
def test_streams_that_adapt_have_networks_of_all_threads_too(
    size: int,
    streams: int,
    batches: list[int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """For batches smaller than the streams; a large model has one stream, and no second copy.

    Streams of one thread have no network for 8 windows, which would take as long as 4 and 4.
    """
    core = FakeCore(computes="f32")
    monkeypatch.setattr("openvino.Core", lambda: core)
    runtime = OpenVINORuntime(weights(tmp_path, size), streams=streams, threads=4, adaptive=True)
    assert sorted(core.batches) == sorted(batches)
    assert runtime.streams == (streams if size <= FIXED_BYTES else 1)
    if runtime.wide is None:
        assert runtime.streams == 1
    else:
        assert (runtime.wide.streams, runtime.wide.threads) == (1, 4)


def test_who_times_a_window_needs_its_network_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A first start compiles each precision to choose one, and should not take seconds for it."""
    core = FakeCore(computes="f32")
    monkeypatch.setattr("openvino.Core", lambda: core)
    OpenVINORuntime(weights(tmp_path), streams=1, threads=1, batches=(1,))
    assert core.batches == [1]


def weights(folder: Path, size: int = 0) -> Path:
    """Write weights of so many bytes that nobody reads."""
    with (folder / "fp32.bin").open("wb") as file:
        file.truncate(size)
    return folder / "fp32.xml"


class FakeCore:
    """Compiles anything, notes for which batch, and says what it computes in."""

    def __init__(self, *, computes: str) -> None:
        self.properties: dict[str, object] = {}
        self.batches: list[int] = []
        self._computes = computes

    def read_model(self, _: Path) -> FakeNetwork:
        return FakeNetwork()

    def compile_model(
        self, network: FakeNetwork, _: str, properties: dict[str, object]
    ) -> FakeCore:
        self.properties = properties
        self.batches.append(network.partial_shape[0])
        return self

    def get_property(self, _: str) -> FakeCore:
        return self

    def get_type_name(self) -> str:
        return self._computes

    def create_infer_request(self) -> None:
        """None is needed."""


class FakeNetwork:
    """A network of one input."""

    def __init__(self) -> None:
        self.partial_shape = [ANY_BATCH, 16_000]

    def input(self, _: int) -> FakeNetwork:
        return self

    def reshape(self, shape: list[int]) -> None:
        self.partial_shape = shape
