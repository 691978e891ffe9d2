"""The precision of a real server: measured at the first start, known at the second, or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from service.bundle import Bundle
from service.cli import main
from service.precision import candidates
from service.runtime import cpu_features
from tests.support.precisions import GATE, with_precisions
from tests.support.server import bentoml_serve, serving


def model(bundle: Bundle, log: Path, **variables: object) -> dict[str, Any]:
    """Start a server; what it says of its model, and what its log says of the precision."""
    with serving(bundle, log, **variables) as server:
        facts: dict[str, Any] = httpx.get(f"{server.url}/v1/model").json()
        (said,) = [line for line in server.messages() if str(line).startswith("loaded ")]
    why = facts["precision_choice"]["why"]
    assert said == f"loaded {facts['name']} {facts['version']} in {facts['precision']}: {why}"
    return facts


@pytest.fixture(scope="module")
def ungated(tiny: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny model whose bf16 and int8 nobody measured."""
    return with_precisions(tiny, tmp_path_factory.mktemp("ungated") / "tiny", gate=None)


def test_a_second_start_knows_what_the_first_has_measured(precise: Bundle, tmp_path: Path) -> None:
    """It compares what this CPU computes, tells which it took and why, and remembers it."""
    allowed = candidates(precise, "auto", runtime="openvino", features=cpu_features())
    variables = {"TIMBRE_CACHE": tmp_path / "cache"}
    first = model(precise, tmp_path / "first.log", **variables)
    assert first["precision"] in allowed
    choice = first["precision_choice"]
    assert list(choice["window_ms"]) == (list(allowed) if len(allowed) > 1 else [])
    assert all(ms > 0 for ms in choice["window_ms"].values())
    expected = None if first["precision"] == "fp32" else GATE.model_dump(mode="json")
    assert first["gate"] == expected
    assert model(precise, tmp_path / "second.log", **variables) == first


@pytest.mark.parametrize(
    ("variables", "streams", "adaptive"),
    [
        ({}, 2, True),
        ({"TIMBRE_PROFILE": "throughput"}, 2, False),
        ({"TIMBRE_PROFILE": "latency"}, 1, False),
        ({"TIMBRE_STREAMS": 2}, 2, False),
    ],
)
def test_streams_are_as_the_profile_has_them(
    tiny: Bundle, tmp_path: Path, variables: dict[str, object], streams: int, *, adaptive: bool
) -> None:
    """By default a batch for each thread, and all threads for a lone window."""
    facts = model(tiny, tmp_path / "log", TIMBRE_THREADS=2, **variables)
    assert (facts["streams"], facts["adaptive"]) == (streams, adaptive)


def test_an_ungated_precision_is_served_by_name_and_with_the_switch(
    ungated: Bundle, tmp_path: Path
) -> None:
    """And says that it has no gate."""
    variables = {"TIMBRE_PRECISION": "int8", "TIMBRE_UNGATED": "true"}
    facts = model(ungated, tmp_path / "log", **variables)
    assert (facts["precision"], facts["gate"]) == ("int8", None)
    assert facts["precision_choice"]["reason"] == "asked"


def test_without_the_switch_the_server_ends_with_one_sentence(
    ungated: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever way it is started."""
    sentence = "has its int8 ungated: nobody measured what it costs; "
    image = bentoml_serve(ungated, TIMBRE_PRECISION="int8")
    assert image.returncode == 1
    assert sentence in image.stdout + image.stderr
    monkeypatch.setenv("TIMBRE_PRECISION", "int8")
    shell = CliRunner().invoke(main, ["serve", "--bundle", str(ungated.folder)])
    assert shell.exit_code == 1
    assert sentence in shell.output
    assert len(shell.output.splitlines()) == 1


def test_what_the_bundle_lacks_is_refused_with_what_it_has(
    tiny: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever asks can go on from there."""
    monkeypatch.setenv("TIMBRE_PRECISION", "bf16")
    said = CliRunner().invoke(main, ["serve", "--bundle", str(tiny.folder)])
    assert said.exit_code == 1
    assert "has no bf16 for openvino; ask for a precision it has (fp32)." in said.output
