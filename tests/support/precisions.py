"""The tiny model in every precision: what a gate says of it is made up, what it computes is not."""

from __future__ import annotations

import shutil
import warnings
from typing import TYPE_CHECKING

import numpy as np

from service.bundle import MANIFEST, AudioDraft, Bundle, GateFacts, Lost, seal
from tests.support.audio import speech_like
from tests.support.models import WINDOW_S

if TYPE_CHECKING:
    from pathlib import Path

PARITY = 0.05
"""What the gate allows a logit to move: a few roundings to bf16, a fifth of the logits' spread."""
GATE = GateFacts(
    split="validation",
    clips=1,
    macro_f1_lost=Lost(value=0.0, low=0.0, high=0.0),
    agreement=1.0,
    parity=PARITY,
)
INT8 = "openvino/int8.xml"
VOICES = 16


def with_precisions(plain: Bundle, folder: Path, *, gate: GateFacts | None = GATE) -> Bundle:
    """Copy a tiny model's bundle to `folder` and add bf16 and int8, ungated if `gate` is None."""
    shutil.copytree(plain.folder, folder)
    (folder / MANIFEST).unlink()
    fp32 = plain.manifest.precisions["fp32"]
    network = fp32.runtimes["openvino"]
    _quantise(folder / network, folder / INT8)
    added = {
        precision: fp32.model_copy(update={"runtimes": {"openvino": path}, "gate": gate})
        for precision, path in (("bf16", network), ("int8", INT8))
    }
    draft = {field: getattr(plain.manifest, field) for field in AudioDraft.model_fields}
    return seal(folder, AudioDraft.model_validate({**draft, "precisions": {"fp32": fp32} | added}))


def _quantise(network: Path, out: Path) -> None:
    import openvino

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own dependencies, and of torch operators
        import nncf  # noqa: PLC0415 - it warns when it is imported

        windows = [speech_like(WINDOW_S, voice) for voice in range(VOICES)]
        made = nncf.quantize(
            openvino.Core().read_model(network),
            nncf.Dataset([(window / window.std())[None].astype(np.float32) for window in windows]),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=VOICES,
            # OpenVINO computes these wrongly in int8; docs/performance.md has how wrongly.
            ignored_scope=nncf.IgnoredScope(
                types=["GroupConvolution"], patterns=[".*classifier.*"]
            ),
        )
    openvino.save_model(made, out)
