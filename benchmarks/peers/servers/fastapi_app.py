"""FastAPI: the body as it is, decoding and engine in threads, one call of the engine at a time.

The limiter matters: FastAPI's pool has 40 threads, and as many calls at once on a few CPUs get in
each other's way.
"""

from __future__ import annotations

from anyio import CapacityLimiter, to_thread
from fastapi import FastAPI, Request

from benchmarks.peers.servers import work

app = FastAPI()
engine = work.engine()
names = work.labels()
turns = CapacityLimiter(1)


@app.get("/health")
async def health() -> str:
    """Tell that the model is loaded."""
    return "ok"


@app.post("/predict")
async def predict(request: Request) -> list[work.Score]:
    """Classify the body."""
    samples = await to_thread.run_sync(work.samples, await request.body())
    logits = await to_thread.run_sync(engine, samples[None], limiter=turns)
    return work.ranking(logits[0], names)
