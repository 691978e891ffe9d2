"""The detector's spectrum, for 60% less work.

The distributed network takes the Fourier transform of five spans of a frame as a convolution, and
throws the first away: it lies half in what was put before the frame. Of the others every sample n
meets the same weight as sample 256 - n, but for the sign of the sines, so that sums and differences
of the two need half of the products. What comes out is the same but for rounding, 1e-7 of a
probability.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino

BASIS = "/stft/Conv"
"""The convolution of the distributed network, its weights [2 x bins, 1, `SPAN`] cosines and sines
under a Hann window: even and odd around `SPAN` / 2, and 0 at sample 0."""
MAGNITUDES = "/stft/Sqrt"
"""What is made of it, [frames, bins, spans]."""
SPAN = 256
"""Samples of a transform; the next begins half of it later."""
SPANS = 4
"""Of a frame with its context, mirrored at its end for the last."""


def fold(network: openvino.Model) -> None:
    """Put the shorter way to the spectrum into Silero's network in place of its own."""
    from openvino import opset13 as op

    nodes = {node.get_friendly_name(): node for node in network.get_ordered_ops()}
    basis = nodes[BASIS].input_value(1).get_node().get_data()[:, 0]
    hop, bins = SPAN // 2, len(basis) // 2
    cosines, sines = (part[:, 1 : hop + 1].T.copy() for part in (basis[:bins], basis[bins:]))
    cosines[-1] /= 2  # the sample in the middle is its own partner, and counted twice

    samples = network.input(0)
    missing = (SPANS + 1) * hop - samples.get_partial_shape()[1].get_length()
    padded = op.pad(samples, [0, 0], [0, missing], "reflect")

    def halves(first: int) -> openvino.Node:
        """Cut the halves of all spans that begin at sample `first`: [frames, spans, hop]."""
        inside = op.slice(padded, [first], [first + SPANS * hop], [1], [1])
        return op.reshape(inside, [0, SPANS, hop], special_zero=True)

    rising = halves(1)  # samples 1 to 128, and their partners 255 to 128
    falling = op.gather(halves(hop), np.arange(hop)[::-1].copy(), 2)
    real = op.matmul(op.add(rising, falling), cosines, transpose_a=False, transpose_b=False)
    imaginary = op.matmul(op.subtract(rising, falling), sines, transpose_a=False, transpose_b=False)
    power = op.add(op.multiply(real, real), op.multiply(imaginary, imaginary))
    magnitudes = op.transpose(op.sqrt(power), [0, 2, 1])
    for taker in nodes[MAGNITUDES].output(0).get_target_inputs():
        taker.replace_source_output(magnitudes.output(0))
    network.validate_nodes_and_infer_types()
