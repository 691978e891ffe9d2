"""The work that every peer does around its framework: bytes → samples, logits → scored labels.

And what a server is told, by variables, so that each can be started by hand:

    BENCH_MODEL=runs/bench/models/compact python -m uvicorn benchmarks.peers.servers.fastapi_app:app
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import TypeAlias

import numpy as np
import soundfile
from numpy.typing import NDArray

from benchmarks.peers.servers.engines import Engine, open_engine

MODEL = Path(os.environ.get("BENCH_MODEL", "."))
"""A folder that `benchmarks.peers.models` made."""
ENGINE = os.environ.get("BENCH_ENGINE", "openvino")
"""torch, onnxruntime or openvino."""
PRECISION = os.environ.get("BENCH_PRECISION", "fp32")
"""fp32, bf16 or int8."""
WORKERS = int(os.environ.get("BENCH_WORKERS", "1"))
"""Processes with an engine of their own."""
THREADS = int(os.environ.get("BENCH_THREADS", str(os.cpu_count() or 1)))
"""Threads of each engine; workers times threads should be the number of CPUs."""

SAMPLE_RATE = 16_000
MAX_BATCH = 8
_EPSILON = 1e-7
"""As transformers' Wav2Vec2FeatureExtractor adds to the variance."""


Score: TypeAlias = dict[str, str | float]
"""A `label` with its `score`, a probability."""


def labels() -> list[str]:
    """Labels of the model, in the order of its logits."""
    config = json.loads((MODEL / "torch" / "config.json").read_text(encoding="utf-8"))
    return [config["id2label"][str(number)] for number in range(len(config["id2label"]))]


def engine() -> Engine:
    """Open the model as the variables say, and run the smallest and the largest batch once."""
    opened = open_engine(ENGINE, MODEL, precision=PRECISION, threads=THREADS)
    window = np.zeros((1, 3 * SAMPLE_RATE), np.float32)
    for size in (1, MAX_BATCH):
        opened(np.repeat(window, size, axis=0))
    return opened


def samples(data: bytes) -> NDArray[np.float32]:
    """Decode a file of 16 kHz and normalise it: float32 [n], zero mean and unit variance."""
    decoded, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    if rate != SAMPLE_RATE:
        raise ValueError(f"{rate} Hz, not {SAMPLE_RATE}")
    mono = decoded.mean(axis=1)
    normal: NDArray[np.float32] = (mono - mono.mean()) / np.sqrt(mono.var() + _EPSILON)
    return normal.astype(np.float32)


def ranking(logits: NDArray[np.float32], names: list[str]) -> list[Score]:
    """Softmax, likeliest first, as transformers' pipeline answers."""
    odds = np.exp(logits - logits.max())
    shares = odds / odds.sum()
    order = np.argsort(-shares)
    return [{"label": names[number], "score": float(shares[number])} for number in order]
