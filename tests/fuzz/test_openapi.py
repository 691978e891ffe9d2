"""What /openapi.json says, held by schemathesis against a real server: requests made of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from benchmarks.server import Server, running
from service.contract import RAW_TYPES, openapi
from tests.fuzz.mutations import mutated

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "20"))
"""For each route; `make fuzz` asks for more."""

AUDIO = [name for name in RAW_TYPES if name.startswith("audio/")]
schemathesis.openapi.media_type(
    AUDIO[0],
    st.integers(0).map(lambda seed: mutated(Random(seed))),
    aliases=AUDIO[1:],
)
schemathesis.serializer(*AUDIO)(lambda _, value: value)
schema = schemathesis.openapi.from_dict(openapi(tokens=False))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server for all routes."""
    with running() as server:
        yield server


@pytest.mark.timeout(0 if EXAMPLES > 100 else 300)
@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=EXAMPLES <= 100,
    suppress_health_check=list(HealthCheck),
)
def test_answers_are_those_of_the_document(case: Any, server: Server) -> None:  # noqa: ANN401
    """No 5xx, no status, type, header or shape that is not documented, and wrong is refused."""
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{server.port}",
        # By the schema any bytes are a clip: what is no audio is refused all the same.
        excluded_checks=[schemathesis.checks.CHECKS.get_one("positive_data_acceptance")],
    )
