"""Two servers, a golden set, and what `timbre compare` and `timbre judge` say of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from benchmarks.peers.processes import free_port
from service.bundle import Bundle
from service.canary.findings import Findings
from service.canary.golden import NAME
from service.canary.making import Labelled, create
from tests.support.audio import encoded, speech_like
from tests.support.models import tiny_model_bundle
from tests.support.server import PATIENCE_S, Server, eventually, serving

CLIPS = 48
SPEAKERS = 8
POLICY = """
[checks.accuracy]
margin = 0.2
samples = 20

[steps.0]
requires = ["sides", "accuracy"]
"""

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stable(tiny_model: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of the tiny model."""
    with serving(tiny_model, tmp_path_factory.mktemp("stable") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def worse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of another, which says something else of the same clips."""
    folder = tmp_path_factory.mktemp("worse")
    bundle = tiny_model_bundle(folder / "bundle", version="1.1.0", seed=1)
    with serving(bundle, folder / "log", TIMBRE_TRACK="canary") as server:
        yield server


@pytest.fixture(scope="module")
def golden(stable: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose labels are what stable says, so that it is never wrong."""
    folder = tmp_path_factory.mktemp("golden")
    found = []
    for number in range(CLIPS):
        file = folder / f"{number}.wav"
        file.write_bytes(encoded(speech_like(1.0, number)))
        label = httpx.post(f"{stable.url}/v1/classify", content=file.read_bytes()).json()["label"]
        found.append(Labelled(file, file.name, label, f"speaker {number % SPEAKERS}"))
    (folder / "policy.toml").write_text(POLICY, encoding="utf-8")
    return create(found, folder / NAME, name="said").folder / NAME


def options(golden: Path, stable: Server, candidate: Server) -> list[str]:
    """Compare these two by this set."""
    return [
        *("--golden", str(golden), "--policy", str(golden.with_name("policy.toml"))),
        *("--stable-url", stable.url, "--candidate-url", candidate.url),
    ]


def timbre(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as a Job does."""
    return subprocess.run(
        [Path(sys.executable).with_name("timbre"), *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=PATIENCE_S,
    )


def test_a_model_passes_beside_itself(golden: Path, stable: Server) -> None:
    """Exit code 0, and a JSON that says of what."""
    done = timbre("compare", *options(golden, stable, stable), "--json", "-")
    assert done.returncode == 0, done.stderr
    told = Findings.model_validate_json(done.stdout)
    assert told.golden is not None
    assert (told.golden.clips, told.golden.speakers) == (CLIPS, SPEAKERS)
    assert told.golden.stable == told.golden.candidate
    assert told.stable == told.candidate
    assert min(told.golden.stable_quantiles_s) > 0


def test_a_worse_one_fails(golden: Path, stable: Server, worse: Server, tmp_path: Path) -> None:
    """Exit code 1, and a report that names both."""
    page = tmp_path / "report.html"
    done = timbre("compare", *options(golden, stable, worse), "--html", str(page))
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("FAIL at 0%: accuracy")
    assert "1.1.0" in page.read_text(encoding="utf-8")


def test_one_that_is_away_is_an_error(golden: Path, stable: Server, worse: Server) -> None:
    """Exit code 3: nothing is known of it."""
    away = Server(worse.process, free_port(), worse.internal_port, worse.log)
    done = timbre("compare", *options(golden, stable, away))
    assert done.returncode == 3
    assert done.stderr.startswith(f"Error: {away.url}: ")
    assert done.stderr.count("\n") == 1


def test_the_judge_says_the_same_over_http(
    golden: Path, stable: Server, worse: Server, tmp_path: Path
) -> None:
    """Until SIGTERM, which is its end and no error."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "log").open("wb") as output:
        process = subprocess.Popen(
            [
                *(Path(sys.executable).with_name("timbre"), "judge"),
                *options(golden, stable, worse),
            ],
            env={**os.environ, "TIMBRE_COMPARE_PORT": str(port)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )

    def ready() -> bool:
        assert process.poll() is None, (tmp_path / "log").read_text(encoding="utf-8")
        try:
            return httpx.get(f"{url}/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    try:
        eventually(ready, "the first verdict")
        told = json.loads(httpx.get(f"{url}/verdict").content)
        assert (told["outcome"], told["weight"]) == ("fail", 0)
        assert httpx.post(f"{url}/flagger/rollback").status_code == 200
        assert httpx.post(f"{url}/flagger/confirm-promotion").status_code == 409
        assert 'timbre_canary_verdict{outcome="fail"} 1.0' in httpx.get(f"{url}/metrics").text
        taken = timbre("judge", *options(golden, stable, worse), "--port", str(port))
        assert taken.returncode == 3
        assert f"Cannot listen on 127.0.0.1 port {port}: Address already in use" in taken.stderr
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
    assert process.returncode in {0, -15}, (tmp_path / "log").read_text(encoding="utf-8")
