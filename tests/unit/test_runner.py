"""The runner's warm-up reaches what serving will use, and finds a model that doesn't fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from service.domain import BundleError, Logits, Samples
from service.runner import Wav2Vec2Runner
from tests.support.bundles import tiny_bundle

MAX_BATCH = 4


class TakingTurns:
    """A runtime whose streams take turns, as OpenVINO's requests do; it notes who got what."""

    name = "turns"

    def __init__(self, streams: int, labels: int) -> None:
        self.streams = streams
        self.sizes: list[set[int]] = [set() for _ in range(streams)]
        self._labels = labels
        self._calls = 0

    def __call__(self, windows: Samples) -> Logits:
        """Score nothing, on the stream whose turn it is."""
        self.sizes[self._calls % self.streams].add(len(windows))
        self._calls += 1
        return np.zeros((len(windows), self._labels), np.float32)


@pytest.mark.parametrize("streams", [1, 2, 3])
def test_every_stream_is_warmed_up_with_every_batch_size(tmp_path: Path, streams: int) -> None:
    """Or the first caller of the one left out would wait for a compilation."""
    bundle = tiny_bundle(tmp_path)
    runtime = TakingTurns(streams, len(bundle.manifest.labels))
    Wav2Vec2Runner(bundle, runtime, "fp32").warm_up(MAX_BATCH)
    assert runtime.sizes == [set(range(1, MAX_BATCH + 1))] * streams


def test_a_model_with_other_labels_is_refused(tmp_path: Path) -> None:
    """The sentence has both numbers, before any caller gets a wrong label."""
    bundle = tiny_bundle(tmp_path)
    labels = len(bundle.manifest.labels)
    runner = Wav2Vec2Runner(bundle, TakingTurns(1, labels + 1), "fp32")
    with pytest.raises(BundleError, match=f"{labels + 1} scores for {labels} labels"):
        runner.warm_up(MAX_BATCH)
