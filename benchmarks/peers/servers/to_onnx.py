"""A model's torch weights → ONNX: `python -m benchmarks.peers.servers.to_onnx FOLDER fp32 int8`.

int8 is ONNX Runtime's own static quantisation of matrix products, calibrated on the clips.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from transformers import AutoModelForAudioClassification

from benchmarks.peers.servers.engines import INPUT


class _LogitsOnly(torch.nn.Module):
    """The model with one input and one output."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(input_values).logits
        return logits


class _Clips(CalibrationDataReader):  # type: ignore[misc]
    """The benchmark's clips, one at a time."""

    def __init__(self, windows: Path) -> None:
        self._rows = iter(np.load(windows))

    def get_next(self) -> dict[str, Any] | None:
        """Give the next clip."""
        row = next(self._rows, None)
        return None if row is None else {INPUT: row[None]}


def fp32(folder: Path, made: Path) -> None:
    """Export with a batch that varies and a window that doesn't."""
    model: Any = AutoModelForAudioClassification.from_pretrained(folder / "torch")
    windows = torch.from_numpy(np.load(folder / "windows.npy")[:2])
    batch = torch.export.Dim("batch", min=1, max=64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _LogitsOnly(model.eval()),
            (windows,),
            made,
            input_names=[INPUT],
            output_names=["logits"],
            dynamic_shapes={"input_values": {0: batch}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def int8(folder: Path, made: Path) -> None:
    """Quantise the matrix products, weights by channel."""
    with tempfile.TemporaryDirectory() as scratch:
        prepared = Path(scratch) / "prepared.onnx"
        quant_pre_process(folder / "fp32.onnx", prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            made,
            _Clips(folder / "windows.npy"),
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )


if __name__ == "__main__":
    for kind in sys.argv[2:]:
        place = Path(sys.argv[1])
        # Under its name only when it is whole.
        made = place / "part.onnx"
        {"fp32": fp32, "int8": int8}[kind](place, made)
        made.rename(place / f"{kind}.onnx")
