"""BentoML's own way: a runner with a `batchable` method in a process of its own, through `depends`.

`bentoml serve benchmarks.peers.servers.bentoml_app:Api`. `runner_connection` is set because with
its default the client between the two closes a shared session every 100 calls, which fails 7 to 16%
of the requests of 32 clients.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import bentoml
import numpy as np
from bentoml.validators import ContentType
from numpy.typing import NDArray

from benchmarks.peers.servers import work

TIMEOUT_S = 300


@bentoml.service(
    workers=work.WORKERS,
    traffic={"timeout": TIMEOUT_S},
    runner_connection={"max_requests": 10**9, "max_age": 1e9},
)
class Runner:
    """The model, behind BentoML's adaptive batching."""

    def __init__(self) -> None:
        """Load the model."""
        self.engine = work.engine()

    # The latency is what its dispatcher sheds requests by: a queue of 32 clips must fit.
    @bentoml.api(  # type: ignore[untyped-decorator]
        batchable=True, max_batch_size=work.MAX_BATCH, max_latency_ms=TIMEOUT_S * 1000
    )
    def score(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score a batch."""
        return self.engine(np.asarray(windows, np.float32))


@bentoml.service(workers=1, traffic={"timeout": TIMEOUT_S})
class Api:
    """The HTTP side."""

    runner = bentoml.depends(Runner)

    def __init__(self) -> None:
        """Read the labels."""
        self.names = work.labels()

    @bentoml.api(route="/predict")  # type: ignore[untyped-decorator]
    async def predict(self, file: Annotated[Path, ContentType("audio/*")]) -> list[work.Score]:
        """Classify the form's file."""
        window = work.samples(file.read_bytes())[None]
        logits = await self.runner.to_async.score(window)
        return work.ranking(logits[0], self.names)
