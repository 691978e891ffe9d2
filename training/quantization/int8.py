"""fp32's weights → int8's: NNCF's post-training quantisation, with what must be spared.

Only weights and ranges: nothing is trained, and no label is looked at.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import nncf
import openvino
from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

from service.domain import Samples

SPARED = (
    # The engine's own error: int8 kernels of these give wrong sums, though the numbers are right.
    r".*pos_conv_embed\.conv/.*",
    r".*model\.(projector|classifier)/.*",
    # A diagonal near 1 with little beside it, which steps of 8 bits round away.
    r".*feature_projection\.projection/.*",
    # A few large activations among many small ones, or early enough for every error to grow.
    r".*feature_extractor\.conv_layers\.[01]\.conv/.*",
    r".*encoder\.layers\.0\.attention\.(v_proj|out_proj)/.*",
    r".*feed_forward\.output_dense/.*",
)
"""Operations of the compact model that stay in floats, by what transformers calls their modules.
docs/quantization.md says what each costs in int8. They are regular expressions over whole names;
those that a model has no operation for do nothing."""


def quantize(
    model: Path, windows: Sequence[Samples], out: Path, spared: Sequence[str] = SPARED
) -> None:
    """Write the int8 version of an OpenVINO model.

    Args:
        model: the .xml of fp32.
        windows: the calibration set, float32 [1, window] each.
        out: the .xml to be, with its .bin beside it.
        spared: regular expressions over the names of operations that stay in floats.
    """
    nncf.set_log_level(logging.ERROR)
    quantized = nncf.quantize(
        openvino.Core().read_model(model),
        nncf.Dataset(windows),
        # Layer norms come before what they feed, and activations lie on both sides of 0.
        preset=nncf.QuantizationPreset.MIXED,
        model_type=nncf.ModelType.TRANSFORMER,
        subset_size=len(windows),
        ignored_scope=nncf.IgnoredScope(patterns=list(spared), validate=False),
        advanced_parameters=AdvancedQuantizationParameters(
            # Weights of the full range: half of it, for CPUs without VNNI, whose pairs of products
            # overflow 16 bits, would cost four times the error. There int8 is not served.
            overflow_fix=OverflowFix.DISABLE,
        ),
    )
    openvino.save_model(quantized, out)
