"""LitServe with batching: `python -m benchmarks.peers.servers.litserve_app PORT`."""

import sys

import litserve
import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from benchmarks.peers.servers import work

BATCH_TIMEOUT_S = 0.01
"""For a batch to fill; more costs a single client that much of every request."""


class Classify(litserve.LitAPI):  # type: ignore[misc]
    """The steps that LitServe calls in its worker, batch by batch."""

    def setup(self, device: str) -> None:
        """Load the model in the worker."""
        del device
        self.engine = work.engine()
        self.names = work.labels()

    def decode_request(self, request: Request) -> NDArray[np.float32]:
        """Decode the form's file. LitServe reads the annotation, and gives the form."""
        return work.samples(request["file"].file.read())

    def batch(self, inputs: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Stack clips of one length."""
        return np.stack(inputs)

    def predict(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score a batch."""
        return self.engine(batch)

    def unbatch(self, output: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """Take a batch apart."""
        return list(output)

    def encode_response(self, output: NDArray[np.float32]) -> list[work.Score]:
        """Rank the labels."""
        return work.ranking(output, self.names)


if __name__ == "__main__":
    api = Classify(max_batch_size=work.MAX_BATCH, batch_timeout=BATCH_TIMEOUT_S)
    server = litserve.LitServer(
        api, accelerator="cpu", workers_per_device=work.WORKERS, timeout=300, fast_queue=True
    )
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error"
    )
