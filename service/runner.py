"""What turns a bundle's windows into logits: the bundle's weights in a runtime, warmed up."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

import numpy as np

from service.bundle import Bundle, Precision, RuntimeName
from service.domain import BundleError, Logits, Samples
from service.runtime import FIXED_BATCHES, OpenVINORuntime, Runtime, TorchRuntime


class Runner(Protocol):
    """What turns a bundle's inputs into logits, whatever its model is."""

    bundle: Bundle
    runtime: Runtime
    precision: Precision
    wide: Runner | None
    """The same, for when nothing else is computed; see `Runtime.wide`."""

    def __call__(self, windows: Sequence[Samples]) -> Sequence[Logits]:
        """Score inputs in one engine call: float32 [labels] for each."""

    def warm_up(self, max_batch: int) -> float:
        """Run every batch size, so that no caller waits for a compilation; seconds a window."""


class Wav2Vec2Runner:
    """The runner of `audio` bundles: fixed windows in, logits out."""

    def __init__(self, bundle: Bundle, runtime: Runtime, precision: Precision) -> None:
        self.bundle = bundle
        self.runtime = runtime
        self.precision = precision
        self.wide: Runner | None = (
            Wav2Vec2Runner(bundle, runtime.wide, precision) if runtime.wide else None
        )

    def __call__(self, windows: Sequence[Samples]) -> Sequence[Logits]:
        """Score windows, each float32 [window], in one engine call: float32 [labels] for each.

        Safe from `runtime.streams` threads at once.
        """
        return list(self.runtime(np.stack(windows)))

    def warm_up(self, max_batch: int) -> float:
        """Run every batch size once on each stream, so that no caller waits for a compilation.

        Where the runtime cuts batches into sizes of its own, these are all there is to run.

        Returns:
            Seconds a window took, in one more of the largest batches, by the number of streams.

        Raises:
            BundleError: the model doesn't answer in the labels the bundle declares.
        """
        if self.wide:
            self.wide.warm_up(min(max_batch, self.runtime.streams - 1))
        manifest = self.bundle.manifest
        window = np.zeros(manifest.audio.window.window, np.float32)
        made_for = [size for size in self.runtime.batches if size <= max_batch]
        sizes = made_for or range(max_batch, 0, -1)
        # Streams take turns, so as many calls in a row as there are streams reach each of them.
        for size in sizes:
            for _ in range(self.runtime.streams):
                logits = self([window] * size)
                if logits[0].shape != (len(manifest.labels),):
                    raise BundleError(
                        f"The model of bundle {manifest.name} {manifest.version} answers with "
                        f"{logits[0].shape[-1]} scores for {len(manifest.labels)} labels; "
                        "export it again."
                    )
        started = time.perf_counter()
        self([window] * sizes[0])
        return (time.perf_counter() - started) / sizes[0] / self.runtime.streams


Seat: TypeAlias = tuple[Runner, Samples]
"""A window, and who is to score it."""


def run_each(seats: Sequence[Seat], *, wide: bool = False) -> Sequence[Logits]:
    """Score windows, each by its own runner, with one engine call for each runner among them.

    `wide` says that nothing else is computed meanwhile.
    """
    answers: dict[int, Logits] = {}
    for runner in dict.fromkeys(runner for runner, _ in seats):
        places = [place for place, seat in enumerate(seats) if seat[0] is runner]
        run = (wide and runner.wide) or runner
        logits = run([seats[place][1] for place in places])
        answers |= zip(places, logits, strict=True)
    return [answers[place] for place in range(len(seats))]


_RUNNERS: Mapping[str, Callable[[Bundle, Runtime, Precision], Runner]] = {"audio": Wav2Vec2Runner}
"""By a bundle's kind."""


def open_runner(
    bundle: Bundle,
    *,
    runtime: RuntimeName,
    precision: Precision,
    streams: int,
    threads: int,
    batches: Sequence[int] = FIXED_BATCHES,
    adaptive: bool = False,
) -> Runner:
    """Load the weights of a bundle into the runner of its kind.

    `batches` and `adaptive` are `OpenVINORuntime`'s.

    Raises:
        BundleError: the bundle has no such weights, they don't load, or the runtime computes them
            in another precision.
    """
    weights = bundle.weights(precision, runtime)
    engine: Runtime
    if runtime == "torch":
        if precision != "fp32":
            raise BundleError(f"torch computes in fp32, not in {precision}; choose openvino.")
        engine = TorchRuntime(weights)
    else:
        engine = OpenVINORuntime(
            weights,
            streams=streams,
            threads=threads,
            precision=precision,
            batches=batches,
            adaptive=adaptive,
        )
    return _RUNNERS[bundle.manifest.kind](bundle, engine, precision)
