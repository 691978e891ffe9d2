"""One tiny model for all tests of the HTTP side: making it loads torch, which takes seconds."""

from __future__ import annotations

import pytest

from service.bundle import Bundle
from service.classifier import Classifier, open_classifier
from tests.support.models import tiny_model_bundle


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with a model that loads in both runtimes."""
    return tiny_model_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def classifier(tiny: Bundle) -> Classifier:
    """Its classifier, with one stream."""
    return open_classifier(tiny)
