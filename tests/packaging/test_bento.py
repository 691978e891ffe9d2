"""The Bento: what is in it, that it serves from any folder, and that it ends when it can't."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
import yaml
from packaging.requirements import Requirement

from benchmarks.peers.processes import free_port
from service.bundle import DEFAULT_BUNDLE, open_bundle
from service.settings import Settings, load
from tests.support.audio import encoded, speech_like

ROOT = Path(__file__).parents[2]
BENTOML = [sys.executable, "-P", "-m", "bentoml"]
PATIENCE_S = 60
IDLE_S = 6
"""More than the 5 s after which BentoML's worker closes idle connections by default."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """An environment with a Bento store of its own."""
    folder = tmp_path_factory.mktemp("bentoml")
    return {**os.environ, "BENTOML_HOME": str(folder)}


@pytest.fixture(scope="module")
def bento(home: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the Bento as `make bento` does, and unpack it in a folder of its own."""
    # Not as a .bento, which takes most of a minute to compress.
    archive = tmp_path_factory.mktemp("bento") / "timbre.tar"
    subprocess.run([*BENTOML, "build", "--output", "tag"], cwd=ROOT, env=home, check=True)
    subprocess.run([*BENTOML, "export", "timbre:latest", str(archive)], env=home, check=True)
    folder = archive.parent / "unpacked"
    folder.mkdir()
    with tarfile.open(archive) as tar:
        # Pythons of 3.11 before 3.11.4, such as Debian 12's, know no filters.
        tar.extraction_filter = getattr(tarfile, "data_filter", None)
        tar.extractall(folder)  # noqa: S202 - made above
    return folder


def _still_open_after(seconds: float, port: int) -> bool:
    """Whether a connection that has had one answer is still open when it has rested so long."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as line:
        line.sendall(b"GET /livez HTTP/1.1\r\nhost: timbre\r\n\r\n")
        assert line.recv(1024).startswith(b"HTTP/1.1 200")
        line.settimeout(seconds)
        try:
            return line.recv(1) != b""
        except TimeoutError:  # nothing came, and so no end of the connection either
            return True


def test_it_asks_for_what_the_package_asks_for() -> None:
    """bentofile.yaml repeats pyproject.toml's dependencies, since BentoML reads only one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    bentofile = yaml.safe_load((ROOT / "bentofile.yaml").read_text())
    assert bentofile["python"]["packages"] == project["dependencies"]


def test_it_holds_the_service_with_its_model(bento: Path) -> None:
    """The bundle in it verifies; nothing of training or of the tests is there."""
    source = bento / "src"
    assert open_bundle(source / "service" / "default_bundle").digest == (
        open_bundle(DEFAULT_BUNDLE).digest
    )
    assert {path.name for path in source.iterdir()} == {"LICENSE", "bentofile.yaml", "service"}
    assert not list(source.rglob("__pycache__"))


def test_an_image_has_an_internal_port(bento: Path) -> None:
    """On every address of its own network, where Prometheus reaches it; `timbre serve` has none."""
    described = yaml.safe_load((bento / "bento.yaml").read_text(encoding="utf-8"))
    variables = {variable["name"]: variable["value"] for variable in described["envs"]}
    settings = load(variables)
    assert (settings.internal_port, str(settings.internal_host)) == (3001, "0.0.0.0")  # noqa: S104
    assert Settings().internal_port == 0


def test_bentoml_can_make_an_image_of_it(bento: Path) -> None:
    """Its Dockerfile installs what is asked for and starts what is there, as a user without rights.

    Python is the one that the Bento was built with.
    """
    text = (bento / "env/docker/Dockerfile").read_text(encoding="utf-8")
    lines = text.splitlines()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"FROM python:{version}-slim AS base-container" in lines
    variables = dict(re.findall(r"^ENV (\w+)=(\S+)$", text, re.MULTILINE))
    assert (variables["TIMBRE_INTERNAL_PORT"], variables["BENTOML_CONTAINERIZED"]) == (
        "$TIMBRE_INTERNAL_PORT",
        "true",
    )
    assert [line for line in lines if line.startswith("USER ")] == ["USER bentoml"]
    [entrypoint] = re.findall(r'^ENTRYPOINT \[ "(.+)" \]$', text, re.MULTILINE)
    [home] = re.findall(r"^ARG BENTO_PATH=(\S+)$", text, re.MULTILINE)
    started = bento / Path(entrypoint).relative_to(home)
    assert started.is_file()
    asked = (bento / "env/python/requirements.txt").read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(map(Requirement, project["dependencies"])) <= set(map(Requirement, asked))


def test_it_serves_from_any_folder(bento: Path, home: Mapping[str, str], tmp_path: Path) -> None:
    """Started elsewhere, it classifies a clip with the embedded model and ends with 0."""
    port, internal_port = free_port(), free_port()
    command = [*BENTOML, "serve", str(bento), "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**home, "TIMBRE_INTERNAL_PORT": str(internal_port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            seen = []
            for line in server.stdout:
                seen.append(line)
                if '"message": "serving ' in line:
                    break
            answer = httpx.post(
                f"http://127.0.0.1:{port}/v1/classify",
                content=encoded(speech_like(3)),
                timeout=PATIENCE_S,
            )
            assert answer.status_code == 200, seen
            metrics = httpx.get(f"http://127.0.0.1:{internal_port}/metrics", timeout=PATIENCE_S)
            assert metrics.status_code == 200
            assert _still_open_after(IDLE_S, port)
            assert answer.json()["model"]["name"] == open_bundle(DEFAULT_BUNDLE).manifest.name
        finally:
            server.terminate()
            server.communicate(timeout=PATIENCE_S)
    assert server.returncode == 0


def test_it_ends_when_its_bundle_is_wrong(
    bento: Path, home: Mapping[str, str], tmp_path: Path
) -> None:
    """The supervisor doesn't stay without a worker: the container ends, and says why."""
    command = [*BENTOML, "serve", str(bento), "--host", "127.0.0.1", "--port", str(free_port())]
    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env={**home, "TIMBRE_BUNDLE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "has no bundle.json to read" in ended.stdout + ended.stderr
    assert ended.returncode != 0
