"""A folder of recordings made on the spot, laid out as the pipeline wants it; the same chance."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import set_seed

from tests.support.recordings import make


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 clips of five corpora in three splits, two noises, and a tiny checkpoint."""
    return make(tmp_path_factory.mktemp("data"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Start every test, and the fixtures it is the first to need, from the same chance.

    What a model is new in is drawn from torch's generator, so without this a test's weights
    depend on the tests before it.
    """
    set_seed(0)
