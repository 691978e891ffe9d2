"""What all tests of the HTTP side share: one tiny model, and stands whose answers are checked.

Making the model loads torch, which takes seconds. On a stand the engine and the decoder wait at
gates that a test opens, so that what is queued, running or gone at any moment is the test's choice
and not the machine's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio

from service.bundle import Bundle
from service.classifier import Classifier, open_classifier
from service.serving import Decoder
from tests.support.asking import DOCUMENT, GUARDED, Standing, checking
from tests.support.models import tiny_model_bundle
from tests.support.precisions import with_precisions
from tests.support.stand import Stand, standing


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle with a model that loads in both runtimes."""
    return tiny_model_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def precise(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The same model in every precision, all of them gated."""
    return with_precisions(tiny, tmp_path_factory.mktemp("precise") / "tiny")


@pytest.fixture(scope="session")
def classifier(tiny: Bundle) -> Classifier:
    """Its classifier, with one stream."""
    return open_classifier(tiny)


@pytest.fixture
def make(classifier: Classifier) -> Standing:
    """Build stands with settings of one's own; all their answers are checked."""

    @asynccontextmanager
    async def checked(
        *,
        decoder: Decoder | None = None,
        fallback: Classifier | None = None,
        **options: Any,  # noqa: ANN401
    ) -> AsyncIterator[Stand]:
        async with standing(classifier, decoder, fallback, **options) as stand:
            document = DOCUMENT if stand.desk.tokens is None else GUARDED
            stand.client.event_hooks = {"response": [checking(document)]}
            yield stand

    return checked


@pytest_asyncio.fixture
async def stand(make: Standing) -> AsyncIterator[Stand]:
    """A stand with the default settings."""
    async with make() as stand:
        yield stand
