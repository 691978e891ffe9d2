"""Engines: a batch of windows → logits. OpenVINO serves; torch is the reference it is tested by.

The only module that knows openvino or torch, and it loads each only when asked for it, so that
the serving image needs no torch.
"""

from __future__ import annotations

import math
import os
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from service.domain import BundleError, Logits, Samples
from service.manifest import Precision
from service.priority import give_way

if TYPE_CHECKING:
    import openvino


class Runtime(Protocol):
    """A loaded model. Calls are safe from any number of threads; `streams` are computed at once."""

    name: str
    streams: int
    threads: int
    """Over all streams."""
    wide: Runtime | None
    """The same model, which gives `threads` to one stream, for when nothing else is computed; None
    where that is not to be had, or is this one."""
    batches: Sequence[int]
    """Windows in a call that it is made for, the largest first and 1 the last; others are cut into
    these. None where any number is as good."""

    def __call__(self, windows: Samples) -> Logits:
        """Score windows: float32 [batch, samples] → float32 [batch, labels]."""


SPEED_FEATURES = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),
    *("asimd", "asimddp", "bf16"),  # of Arm
)
"""CPU flags that decide how fast a precision is, as Linux names them."""


def cpu_features() -> list[str]:
    """Those of `SPEED_FEATURES` this machine has; empty where Linux doesn't tell."""
    flags = _cpuinfo("flags", "Features").split()
    return [feature for feature in SPEED_FEATURES if feature in flags]


def cpu_model() -> str:
    """What this machine's CPU calls itself; empty where Linux doesn't tell."""
    return _cpuinfo("model name")


def _cpuinfo(*fields: str) -> str:
    """Give the first line that Linux has of a CPU under one of these names."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(fields)), "")


def engine_version(runtime: str) -> str:
    """Version of the engine that a runtime is named after, without loading it."""
    return version(runtime)


CGROUPS = Path("/sys/fs/cgroup")


def cpus(cgroups: Path = CGROUPS) -> int:
    """CPUs this process may use: of its affinity, and of its container's CPU limit, rounded up.

    A limit is a share of time, which the affinity doesn't show: a pod limited to 2 CPUs sees all of
    its node's, and 64 threads on 2 CPUs' time get in each other's way.
    """
    allowed = len(os.sched_getaffinity(0))
    quota, period = _quota(cgroups)
    return min(allowed, math.ceil(quota / period)) if quota > 0 else allowed


def _quota(cgroups: Path) -> tuple[int, int]:
    """Microseconds of CPU in a period, and the period, by cgroup v2 or v1; 0 of 1 for no limit."""
    try:
        if (limit := cgroups / "cpu.max").is_file():
            quota, period = limit.read_text().split()
            return (0, 1) if quota == "max" else (int(quota), int(period))
        quota = (cgroups / "cpu" / "cpu.cfs_quota_us").read_text()
        return int(quota), int((cgroups / "cpu" / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return 0, 1


AHEAD = 1
"""Calls beyond its streams that a network takes at once. It begins one by itself as soon as a
stream is free, when Python would not have come to it yet; further ones wait in Python. Networks of
other batches have streams of their own: one of another size begins beside them."""


class Network:
    """A compiled OpenVINO model with an infer request for each stream, and `AHEAD` more.

    What floats are computed in is asked for by name: on CPUs with bf16 OpenVINO would silently
    compute fp32's weights in it, and answers would differ between machines. CPU pinning is off
    because several pods share a node, and pinned threads of two pods can land on the same core
    while another idles.
    """

    def __init__(
        self,
        model: Path,
        *,
        streams: int = 1,
        threads: int = 1,
        hint: str = "f32",
        batch: int | None = None,
        rewrite: Callable[[openvino.Model], None] | None = None,
    ) -> None:
        """Read and compile `model` (IR .xml or .onnx), for inputs of `batch` alone if given.

        `rewrite` changes what was read before it is compiled.

        Raises:
            BundleError: OpenVINO cannot read the file, or computes in something else than `hint`.
        """
        import openvino

        core = openvino.Core()
        try:
            network = core.read_model(model)
            if rewrite is not None:
                rewrite(network)
            if batch is not None:
                shape = network.input(0).partial_shape
                shape[0] = batch
                network.reshape(shape)
            # The threads that it computes with inherit this one's priority.
            with ThreadPoolExecutor(1, initializer=give_way) as thread:
                compiled = thread.submit(
                    core.compile_model,
                    network,
                    "CPU",
                    {
                        "INFERENCE_PRECISION_HINT": hint,
                        "ENABLE_CPU_PINNING": False,
                        "NUM_STREAMS": streams,
                        "INFERENCE_NUM_THREADS": threads,
                    },
                ).result()
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot load {model.name}: {error}") from error
        computed = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if computed != hint:  # it only takes it for a hint
            raise BundleError(
                f"OpenVINO computes {model.name} in {computed} on this CPU, not in {hint}; "
                "choose another precision."
            )
        self._requests: queue.SimpleQueue[openvino.InferRequest] = queue.SimpleQueue()
        for _ in range(streams + AHEAD):
            self._requests.put(compiled.create_infer_request())

    @contextmanager
    def _request(self) -> Iterator[openvino.InferRequest]:
        request = self._requests.get()
        try:
            yield request
        finally:
            self._requests.put(request)

    def __call__(
        self, inputs: Mapping[str, NDArray[np.float32]] | Sequence[NDArray[np.float32]]
    ) -> list[NDArray[np.float32]]:
        """Run once, on inputs by name or in the model's order; outputs are copies, in its order."""
        with self._request() as request:
            request.infer(inputs, share_inputs=True)
            outputs = range(len(request.results))
            return [np.array(request.get_output_tensor(number).data) for number in outputs]


FIXED_BATCHES = (8, 4, 2, 1)
"""Windows in a call, where each number has a network of its own, largest first. OpenVINO moves and
fuses less when it may not know a batch: in fixed ones a window takes 13 to 27% less time."""
ONE_THREAD_BATCH = 4
"""The largest of them in a stream of one thread, where 8 windows take as long as 4 and 4."""
FIXED_BYTES = 32 * 2**20
"""Weights of more bytes, as stored, are compiled once, for batches of any size and for streams of
one width: each network holds them again, in fp32 at twice that."""


class OpenVINORuntime:
    """The served engine."""

    name = "openvino"

    def __init__(
        self,
        model: Path,
        *,
        streams: int,
        threads: int,
        precision: Precision = "fp32",
        batches: Sequence[int] = FIXED_BATCHES,
        adaptive: bool = False,
    ) -> None:
        """Load `model`, the .xml of a bundle's weights; int8's brings its own int8 operations.

        A small one is compiled for each of `batches`, the largest first and 1 the last; where
        streams have one thread, for those up to `ONE_THREAD_BATCH`.

        Args:
            model: its file.
            streams: calls that run side by side.
            threads: over all streams.
            precision: what to compute in.
            batches: sizes to compile a small model for.
            adaptive: give a small model a `wide` one as well, for batches smaller than `streams`,
                and a large one a single stream in place of many.
        """
        small = model.with_suffix(".bin").stat().st_size <= FIXED_BYTES
        self.streams = streams if small or not adaptive else 1
        self.threads = threads
        self.wide: Runtime | None = None
        hint = "bf16" if precision == "bf16" else "f32"
        self.batches: Sequence[int] = tuple(batches) if small else ()
        if 1 < threads == self.streams:
            self.batches = [batch for batch in self.batches if batch <= ONE_THREAD_BATCH]
        compiling = partial(Network, model, streams=self.streams, threads=threads, hint=hint)
        sizes = self.batches or (None,)
        # Side by side, as to compile one is mostly the work of one CPU, and a start waits for all.
        with ThreadPoolExecutor(threads) as pool:
            networks = pool.map(lambda batch: compiling(batch=batch), sizes)
            if adaptive and self.streams > 1:
                few = [batch for batch in batches if batch < self.streams]
                self.wide = OpenVINORuntime(
                    model, streams=1, threads=threads, precision=precision, batches=few
                )
            self._networks = dict(zip(sizes, networks, strict=True))

    def __call__(self, windows: Samples) -> Logits:
        """Score windows; see `Runtime`."""
        scored = []
        for batch, network in self._networks.items():
            while len(windows) >= (batch or 1):
                scored += network([windows[:batch]])
                windows = windows[batch or len(windows) :]
        return np.concatenate(scored)


class TorchRuntime:
    """The reference: the same weights through transformers, in float32."""

    name = "torch"
    streams = 1
    wide: Runtime | None = None
    batches: Sequence[int] = ()

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoModelForAudioClassification

        self.threads = torch.get_num_threads()
        self._torch = torch
        self._model: Any = AutoModelForAudioClassification.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
        ).eval()

    def __call__(self, windows: Samples) -> Logits:
        """Score windows; see `Runtime`."""
        with self._torch.inference_mode():
            logits: Logits = self._model(self._torch.from_numpy(windows)).logits.numpy()
        return logits
