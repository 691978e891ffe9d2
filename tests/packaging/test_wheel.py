"""The wheel: what is in it, what it asks for, and that it runs outside a checkout."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from email.parser import Parser
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
BUNDLE = PurePosixPath("service/default_bundle")
TRAINING_ONLY = {
    "accelerate",
    "datasets",
    "evaluate",
    "nncf",
    "torch",
    "torchaudio",
    "transformers",
}

pytestmark = pytest.mark.timeout(300)


def run(*command: str | Path, cwd: Path = ROOT, **environment: str) -> str:
    """Run a program that must succeed; its standard output."""
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        check=False,
        cwd=cwd,
        env={**os.environ, **environment},
        text=True,
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout, built with the backend that is installed here."""
    folder = tmp_path_factory.mktemp("wheel")
    run(
        sys.executable, "-m", "pip", "wheel", ROOT,
        "--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", folder,
    )  # fmt: skip
    (built,) = folder.glob("timbre-*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    """Paths inside the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("package", ["service", "training"])
def test_has_every_file_of_the_packages(names: set[str], package: str) -> None:
    """Code, models, configurations and type markers are all in, and caches are not."""
    there = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert f"{package}/py.typed" in there
    assert {name for name in names if name.startswith(f"{package}/")} == there


def test_has_the_voice_model(names: set[str]) -> None:
    """The detector is a file, which a build can lose without any import noticing."""
    assert "service/voice/silero_vad_16k_sequence.onnx" in names


def test_has_the_licences(names: set[str]) -> None:
    """Timbre's own and the detector's."""
    licences = {name.partition(".dist-info/licenses/")[2] for name in names}
    assert {"LICENSE", "service/voice/LICENSE.silero"} <= licences


def test_has_every_file_that_the_default_bundle_lists(wheel: Path, names: set[str]) -> None:
    """The embedded model is complete."""
    assert f"{BUNDLE}/bundle.json" in names
    with zipfile.ZipFile(wheel) as archive:
        manifest = json.loads(archive.read(f"{BUNDLE}/bundle.json"))
    assert manifest["files"]
    assert {f"{BUNDLE}/{name}" for name in manifest["files"]} <= names


def test_serving_asks_for_nothing_of_training(wheel: Path) -> None:
    """The base install has no torch; only extras ask for it."""
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(path).decode())
    requirements = metadata.get_all("Requires-Dist", [])
    base = {re.split(r"[^\w.-]", line)[0] for line in requirements if "extra ==" not in line}
    assert {"bentoml", "openvino"} <= base
    assert not base & TRAINING_ONLY


def test_runs_from_a_fresh_environment(wheel: Path, tmp_path: Path) -> None:
    """`timbre --help` answers, and from the wheel rather than from this checkout."""
    fresh = tmp_path / "venv"
    venv.create(fresh, with_pip=False)
    python = fresh / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--quiet", wheel)
    # Only the dependencies come from here: a path that is named this way has no .pth files, and so
    # no link to the checkout.
    dependencies = {"PYTHONPATH": sysconfig.get_path("purelib")}

    code = "import service; print(service.__file__)"
    assert str(fresh) in run(python, "-c", code, cwd=tmp_path, **dependencies)
    assert "bundle" in run(fresh / "bin" / "timbre", "--help", cwd=tmp_path, **dependencies)
