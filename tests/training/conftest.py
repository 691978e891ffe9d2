"""A folder of recordings made on the spot, laid out as the pipeline wants it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.recordings import make


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 clips of five corpora in three splits, two noises, and a tiny checkpoint."""
    return make(tmp_path_factory.mktemp("data"))
