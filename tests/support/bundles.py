"""Tiny sealed bundles with stand-in weights, for tests that need a bundle but no model."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from service.bundle import AudioDraft, AudioFacts, Bundle, DataFacts, PrecisionFacts, seal

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "README.md": b"# Tiny\n\nA stand-in: its weights are not a model.\n",
    "openvino/fp32.bin": bytes(range(256)),
    "openvino/fp32.xml": b"<net/>\n",
    "torch/config.json": b"{}\n",
    "torch/model.safetensors": b"\x02\0\0\0\0\0\0\0{}",
}


def tiny_draft(**changes: object) -> AudioDraft:
    """Return valid facts, `changes` applied."""
    facts: dict[str, object] = {
        "name": "tiny",
        "version": "1.2.0",
        "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "licence": "Apache-2.0",
        "labels": ("calm", "angry"),
        "audio": AudioFacts(
            sample_rate=16_000,
            window_s=2.0,
            hop_s=1.0,
            normalisation="zero-mean-unit-variance",
            voice_activity="silero-vad-6.2",
        ),
        "precisions": {
            "fp32": PrecisionFacts(
                runtimes={"openvino": "openvino/fp32.xml", "torch": "torch"},
                temperature=1.5,
                review_threshold=0.75,
                metrics={"validation": {"accuracy": 0.71, "macro_f1": 0.7, "ece": 0.02}},
            )
        },
        "reference": {"rms_db": {"mean": -23.0, "std": 4.0}},
        "data": (
            DataFacts(name="corpus", split="train", clips=9, sha256="0" * 64, licence="CC-BY-4.0"),
        ),
    }
    return AudioDraft.model_validate({**facts, **changes})


def tiny_bundle(folder: Path, **changes: object) -> Bundle:
    """Write and seal a bundle of five small files; `changes` go to its facts."""
    for name, content in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return seal(folder, tiny_draft(**changes))
