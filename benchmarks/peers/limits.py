"""How fast this machine could be: measured peaks of matrix products, and what a clip needs of them.

`python -m benchmarks.peers.limits` prints the peaks as JSON.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import click
import numpy as np

SIZE = 2048
LAYERS = 4
"""Products in a row, so that rounding the first input to int8 weighs little."""
SECONDS = 1.0
BEST_OF = 3
LEVELS = 256


def gflop(model: Path) -> float:
    """Multiplications and additions of an IR's products and convolutions for one window, in 1e9."""
    import openvino

    network = openvino.Core().read_model(model)
    window = network.input(0).get_partial_shape()[1].get_length()
    network.reshape([1, window])
    return sum(_operations(node) for node in network.get_ops()) / 1e9


def _operations(node: Any) -> int:  # noqa: ANN401 - openvino has no types
    kind = node.get_type_name()
    if kind == "MatMul":
        left = list(node.input(0).get_shape())
        depth = left[-2 if node.get_attributes()["transpose_a"] else -1]
        return int(2 * math.prod(node.output(0).get_shape()) * depth)
    if kind in {"Convolution", "GroupConvolution"}:
        # [out, in, kernel…], or [groups, out, in, kernel…]
        kernel = list(node.input(1).get_shape())
        each = kernel[1:] if kind == "Convolution" else kernel[2:]
        return int(2 * math.prod(node.output(0).get_shape()) * math.prod(each))
    return 0


def peaks(threads: int, precisions: list[str]) -> dict[str, float]:
    """GFLOPS (GOPS of int8) of large products by precision; the best of a few short runs."""
    measured = {precision: _openvino(precision, threads) for precision in precisions}
    if "fp32" in measured:
        measured["fp32"] = max(measured["fp32"], _numpy())
    return {precision: round(peak, 1) for precision, peak in measured.items()}


def _numpy() -> float:
    matrix = np.random.default_rng(0).standard_normal((SIZE, SIZE)).astype(np.float32)
    return _rate(lambda: matrix @ matrix, 2 * SIZE**3)


def _openvino(precision: str, threads: int) -> float:
    import openvino
    from openvino import opset13 as ops

    rng = np.random.default_rng(0)
    signal = entry = ops.parameter([SIZE, SIZE], np.float32)
    for _ in range(LAYERS):
        weights = ops.constant(rng.standard_normal((SIZE, SIZE)).astype(np.float32) / SIZE**0.5)
        if precision == "int8":
            signal, weights = _rounded(signal), _rounded(weights, LEVELS - 1)
        signal = ops.matmul(signal, weights, transpose_a=False, transpose_b=True)
    compiled = openvino.Core().compile_model(
        openvino.Model([signal], [entry]),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_NUM_THREADS": threads,
        },
    )
    request = compiled.create_infer_request()
    given = rng.standard_normal((SIZE, SIZE)).astype(np.float32)
    return _rate(lambda: request.infer([given], share_inputs=True), LAYERS * 2 * SIZE**3)


def _rounded(signal: Any, levels: int = LEVELS) -> Any:  # noqa: ANN401 - openvino has no types
    """Put a signal on a grid of int8, which makes OpenVINO compute what follows in int8."""
    from openvino import opset13 as ops

    low, high = np.float32(-4.0), np.float32(4.0)
    return ops.fake_quantize(signal, low, high, low, high, levels)


def _rate(run: Any, operations: int) -> float:  # noqa: ANN401 - openvino has no types
    run()
    best = 0.0
    for _ in range(BEST_OF):
        started, times = time.perf_counter(), 0
        while (spent := time.perf_counter() - started) < SECONDS / BEST_OF or not times:
            run()
            times += 1
        best = max(best, times * operations / spent / 1e9)
    return best


@click.command()
@click.argument("threads", type=int)
@click.argument("precisions", nargs=-1)
def main(threads: int, precisions: tuple[str, ...]) -> None:
    """Print the peaks of PRECISIONS with that many THREADS."""
    click.echo(json.dumps(peaks(threads, list(precisions))))


if __name__ == "__main__":
    main()
