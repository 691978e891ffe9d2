"""What `helm test` runs, run here against a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.bundle import DEFAULT_BUNDLE, open_bundle
from tests.support import charts
from tests.support.charts import RELEASE, Values, one, rendered
from tests.support.server import Server, serving
from tests.support.tokens import FIRST, token_file

WRONG = f"sha256:{'0' * 64}"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of tokens that begins with a comment, as an operator may write one."""
    file = token_file(tmp_path_factory.mktemp("tokens"), FIRST)
    file.write_text(f"# of the team audio\n\n{file.read_text()}")
    return file


@pytest.fixture(scope="module")
def server(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the embedded bundle that asks for a token."""
    folder = tmp_path_factory.mktemp("server")
    bundle = open_bundle(DEFAULT_BUNDLE)
    variables = {"TIMBRE_CACHE": folder, "TIMBRE_PRECISION": "fp32", "TIMBRE_TOKEN_FILE": tokens}
    with serving(bundle, folder / "log", **variables) as server:
        yield server


def pod(values: Values) -> dict[str, Any]:
    """Give the one container of the test's pod."""
    [container] = one(rendered(values), "Pod")["spec"]["containers"]
    return dict(container)


def ran(values: Values, server: Server, tokens: Path) -> subprocess.CompletedProcess[str]:
    """Run what the pod would, with its variables, against this server."""
    container = pod(values)
    variables = {entry["name"]: entry["value"] for entry in container["env"]}
    variables["URL"] = server.url
    if "TOKENS" in variables:
        variables["TOKENS"] = str(tokens)
    beside = Path(sys.executable).parent
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("TIMBRE_")
    }
    environment["PATH"] = f"{beside}:{environment['PATH']}"
    assert container["command"] == ["python", "-c"]
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", *container["args"]],
        env=environment | variables,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_it_passes_where_the_server_answers(server: Server, tokens: Path) -> None:
    """With a token, and says what it heard and by which model."""
    done = ran(charts.feature("tokens"), server, tokens)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["version"] == open_bundle(DEFAULT_BUNDLE).manifest.version
    assert said["answer"]["decision"] in {"accept", "review", "no_speech"}
    assert FIRST not in done.stdout + done.stderr


def test_it_fails_where_the_server_refuses(server: Server, tokens: Path) -> None:
    """Without the token that it asks for."""
    done = ran({}, server, tokens)
    assert done.returncode != 0
    assert FIRST not in done.stdout + done.stderr


def test_it_fails_where_another_bundle_is_served(server: Server, tokens: Path) -> None:
    """Than the one whose digest the values have."""
    values = charts.feature("bundle-pvc") | charts.feature("tokens")
    values["bundle"]["digest"] = WRONG
    done = ran(values, server, tokens)
    assert done.returncode != 0
    assert f"{WRONG} was asked for" in done.stderr


def test_where_nobody_knows_the_bundle_any_will_do(server: Server, tokens: Path) -> None:
    """From a claim whose digest isn't given."""
    values = charts.feature("bundle-pvc") | charts.feature("tokens")
    values["bundle"]["digest"] = ""
    assert ran(values, server, tokens).returncode == 0


def test_it_asks_the_service() -> None:
    """By its name and port, in the pod that only `helm test` makes."""
    manifests = rendered({"service": {"port": 8080}})
    test = one(manifests, "Pod")
    variables = {entry["name"]: entry["value"] for entry in pod({"service": {"port": 8080}})["env"]}
    assert variables["URL"] == f"http://{one(manifests, 'Service')['metadata']['name']}:8080"
    assert test["metadata"]["annotations"] == {
        "helm.sh/hook": "test",
        "helm.sh/hook-delete-policy": "before-hook-creation,hook-succeeded",
    }
    assert test["metadata"]["name"] == f"{RELEASE}-test"
    assert test["spec"]["restartPolicy"] == "Never"


def test_it_has_the_tokens_that_the_server_has() -> None:
    """Where it asks for one, and else no variable of them."""
    manifests = rendered(charts.feature("tokens-secret"))
    volumes = [
        next(volume for volume in found["spec"]["volumes"] if volume["name"] == "tokens")
        for found in charts.pods(manifests).values()
    ]
    assert volumes[0] == volumes[1]
    assert "TOKENS" not in {entry["name"] for entry in pod({})["env"]}
