"""The engines, with the same settings for every peer: float32 [batch, samples] → logits.

OpenVINO is told its precision and not to pin threads, as Timbre tells it: on CPUs with bf16 it
would otherwise compute in bf16 what is called fp32 here.
"""

from __future__ import annotations

import json
import queue
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Engine: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Windows [batch, samples] → logits [batch, labels]."""

BUNDLE = "bundle"
"""The Timbre bundle in a model's folder; see models.py."""
INPUT = "input_values"
HINTS: Mapping[str, str] = MappingProxyType({"fp32": "f32", "int8": "f32", "bf16": "bf16"})
"""OpenVINO's name of what is computed where the weights aren't int8."""


def weights(folder: Path, engine: str, precision: str) -> Path:
    """Where a model's weights lie for an engine and a precision."""
    if engine == "torch":
        return folder / "torch"
    if engine == "onnxruntime":
        return folder / f"{precision}.onnx"
    facts = json.loads((folder / BUNDLE / "bundle.json").read_text(encoding="utf-8"))
    return folder / BUNDLE / str(facts["precisions"][precision]["runtimes"]["openvino"])


def open_engine(
    name: str, folder: Path, *, precision: str, threads: int, streams: int = 1
) -> Engine:
    """Load a model; calls are safe from `streams` threads at once with OpenVINO, else from one."""
    path = weights(folder, name, precision)
    if name == "torch":
        return _torch(path, threads)
    if name == "onnxruntime":
        return _onnxruntime(path, threads)
    return _openvino(path, HINTS[precision], threads, streams)


def _torch(path: Path, threads: int) -> Engine:
    import torch
    from transformers import AutoModelForAudioClassification

    torch.set_num_threads(threads)
    model: Any = AutoModelForAudioClassification.from_pretrained(path, local_files_only=True)
    model.eval()

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = model(torch.from_numpy(batch)).logits.numpy()
        return logits

    return run


def _onnxruntime(path: Path, threads: int) -> Engine:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(None, {INPUT: batch})[0]
        return logits

    return run


def _openvino(path: Path, hint: str, threads: int, streams: int) -> Engine:
    import openvino

    compiled = openvino.Core().compile_model(
        path,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": hint,
            "ENABLE_CPU_PINNING": False,
            "NUM_STREAMS": streams,
            "INFERENCE_NUM_THREADS": threads,
        },
    )
    requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(streams):
        requests.put(compiled.create_infer_request())

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        request = requests.get()
        try:
            request.infer([batch], share_inputs=True)
            return np.array(request.get_output_tensor(0).data)
        finally:
            requests.put(request)

    return run
