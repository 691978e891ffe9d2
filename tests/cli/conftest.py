"""A model to serve and to classify with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.models import tiny_model_bundle

if TYPE_CHECKING:
    from service.bundle import Bundle


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Make a bundle with a real, tiny model; read only, because all tests share it."""
    return tiny_model_bundle(tmp_path_factory.mktemp("model") / "bundle")
