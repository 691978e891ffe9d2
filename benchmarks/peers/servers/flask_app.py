"""Flask as it is best on CPUs: a process per CPU, an engine of one thread in each, no disk."""

from __future__ import annotations

from flask import Flask, Response, jsonify, request

from benchmarks.peers.servers import work

app = Flask(__name__)
engine = work.engine()
names = work.labels()


@app.get("/health")
def health() -> str:
    """Tell that the model is loaded."""
    return "ok"


@app.post("/predict")
def predict() -> Response:
    """Classify the body."""
    logits = engine(work.samples(request.get_data())[None])
    return jsonify(work.ranking(logits[0], names))
