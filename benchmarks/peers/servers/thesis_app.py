"""The thesis's stack: Flask, the upload saved to disk, transformers' pipeline, `gunicorn -w 3`.

As it was, with one favour: the saved file is read by soundfile, where the pipeline would start an
ffmpeg process for each.
"""

from __future__ import annotations

import tempfile
import uuid
from pathlib import Path
from typing import Any

import soundfile
from flask import Flask, Response, jsonify, request
from transformers import pipeline

from benchmarks.peers.servers import work

UPLOADS = Path(tempfile.mkdtemp(prefix="uploads-"))

app = Flask(__name__)
classify: Any = pipeline("audio-classification", model=str(work.MODEL / "torch"), device="cpu")


@app.get("/health")
def health() -> str:
    """Tell that the model is loaded."""
    return "ok"


@app.post("/predict")
def predict() -> Response:
    """Classify the form's file."""
    path = UPLOADS / f"{uuid.uuid4().hex}.wav"
    request.files["file"].save(path)
    try:
        samples, rate = soundfile.read(path, dtype="float32")
        return jsonify(classify({"raw": samples, "sampling_rate": rate}, top_k=None))
    finally:
        path.unlink()
