"""The images of TIMBRE_IMAGE_ARCHIVE and TIMBRE_TOOLS_ARCHIVE: what is in them, and how they start.

The second is the first with what compares and judges on top.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
from datetime import UTC, datetime
from email.parser import BytesParser
from pathlib import Path, PurePosixPath

import pytest

import service
from service.bundle import DEFAULT_BUNDLE, open_bundle
from tests.support.image import HOME, MODEL, PACKAGES, Image

ROOT = Path(__file__).parents[2]
MAX_BYTES = 400_000_000
"""Of everything but the model, uncompressed."""
ENGINES = {"libopenvino.so", "libopenvino_ir_frontend.so", "libopenvino_onnx_frontend.so"}
CPU_PLUGINS = {"libopenvino_intel_cpu_plugin.so", "libopenvino_arm_cpu_plugin.so"}
UNUSED = ("torch", "transformers", "pandas", "scipy", "pyarrow", "sklearn", "pip", "setuptools")
TOOLS = ("jinja2", "matplotlib", "scipy", "statsmodels")
COMPILERS = ("gcc", "g++", "cc", "c++", "clang", "ld", "as", "make", "git")


@pytest.fixture(scope="module")
def image() -> Image:
    """The server's image."""
    return Image(Path(os.environ["TIMBRE_IMAGE_ARCHIVE"]))


@pytest.fixture(scope="module")
def tools() -> Image:
    """That of the tools."""
    return Image(Path(os.environ["TIMBRE_TOOLS_ARCHIVE"]))


@pytest.fixture(params=["image", "tools"])
def each(request: pytest.FixtureRequest) -> Image:
    """Either of them."""
    image: Image = request.getfixturevalue(request.param)
    return image


def test_it_is_small(image: Image) -> None:
    """All but the model is at most 400 MB uncompressed."""
    assert image.size() - image.size(below=MODEL) <= MAX_BYTES


@pytest.mark.parametrize("package", UNUSED)
def test_it_has_no_library_that_serving_needs_not(image: Image, package: str) -> None:
    """What trains, draws tables or installs is not there."""
    assert PACKAGES / package not in image.entries


@pytest.mark.parametrize("program", COMPILERS)
def test_it_has_no_compiler(each: Image, program: str) -> None:
    """Nothing in it can build another program."""
    assert not [path for path in each.entries if path.name == program and "bin" in path.parts]


def test_openvino_has_the_plug_ins_that_are_used_and_no_others(image: Image) -> None:
    """CPU, its own format, and ONNX, which the voice activity detector is in."""
    libraries = {
        path.name.partition(".so")[0] + ".so"
        for path in image.entries
        if path.parent == PACKAGES / "openvino/libs" and path.name.startswith("libopenvino")
    }
    assert libraries - CPU_PLUGINS == ENGINES
    assert len(libraries & CPU_PLUGINS) == 1


def test_it_runs_as_a_user_without_rights(each: Image) -> None:
    """By number, as Kubernetes asks who wants to see that it isn't root."""
    assert each.config["User"] == "10001:10001"


def test_it_becomes_the_server(image: Image) -> None:
    """A list, not a line for a shell, so that process 1 is the server."""
    assert image.config["Entrypoint"] == ["timbre"]
    assert image.config["Cmd"] == ["serve", "--host", "0.0.0.0"]  # noqa: S104
    environment = dict(pair.split("=", 1) for pair in image.config["Env"])
    assert environment["HOME"] == "/tmp"  # noqa: S108
    assert environment["TIMBRE_INTERNAL_PORT"] == "3001"
    # Else BentoML would start a worker that was killed again, behind probes that saw it start once.
    assert environment["BENTOML_CONTAINERIZED"] == "True"


def test_nothing_of_it_can_be_changed_by_who_runs_it(each: Image) -> None:
    """All of Timbre's is root's, and nobody else may write it."""
    for path, entry in each.entries.items():
        if path.is_relative_to(HOME) and not entry.member.issym():
            assert entry.member.uid == 0, path
            assert not entry.member.mode & (stat.S_IWGRP | stat.S_IWOTH), path


def test_labels_say_what_it_is(each: Image) -> None:
    """Version, commit and bundle are those of the sources, whatever was built before."""
    labels = each.config["Labels"]
    assert labels["org.opencontainers.image.version"] == service.__version__
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert labels["org.opencontainers.image.revision"] == _git("rev-parse", "HEAD")
    assert labels["timbre.bundle.digest"] == open_bundle(DEFAULT_BUNDLE).digest


def test_the_sources_are_those_of_the_checkout(each: Image) -> None:
    """Every file of `service`, to the byte."""
    folder = HOME / "src"
    packed = each.read(lambda path: path.is_relative_to(folder) and path.suffix != ".pyc")
    sources = {
        folder / PurePosixPath(file.relative_to(ROOT)): file.read_bytes()
        for file in (ROOT / "service").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert packed.keys() - sources.keys() <= {folder / "LICENSE"}
    assert not [path for path, content in sources.items() if packed.get(path) != content]


def test_everything_is_compiled(each: Image) -> None:
    """A container with a read-only root would compile at every start."""
    sources = [path for path in each.entries if path.is_relative_to(HOME) and path.suffix == ".py"]
    compiled = {
        path.parent.parent / f"{path.name.split('.')[0]}.py"
        for path in each.entries
        if path.suffix == ".pyc"
    }
    assert len(sources) > 1000
    assert not [path for path in sources if path not in compiled and path.name.isidentifier()]


def test_no_bytecode_holds_a_time(each: Image) -> None:
    """Such would be another one in every build, and is never taken where times are put back."""
    compiled = each.read(lambda path: path.is_relative_to(HOME) and path.suffix == ".pyc")
    unchecked_hash = (1).to_bytes(4, "little")
    assert not [path for path, code in compiled.items() if code[4:8] != unchecked_hash]


def test_its_time_is_the_commit_s(each: Image) -> None:
    """Not the build's, by which the same sources would be another image each time."""
    time = int(_git("log", "-1", "--format=%ct"))
    assert each.created == datetime.fromtimestamp(time, UTC)


def test_the_list_of_parts_is_of_what_is_there(each: Image) -> None:
    """Each installed library with its version, and none that was left out."""
    (parts,) = each.read(lambda path: path == HOME / "sbom.cdx.json").values()
    listed = {(_normal(part["name"]), part["version"]) for part in json.loads(parts)["components"]}
    metadata = each.read(lambda path: path.match("*.dist-info/METADATA"))
    installed = {
        (_normal(facts["Name"]), facts["Version"])
        for facts in map(BytesParser().parsebytes, metadata.values())
    }
    assert listed == installed
    assert "openvino" in {name for name, _ in listed}


def test_the_tools_are_the_server_with_more_on_top(image: Image, tools: Image) -> None:
    """A node that has the one pulls little for the other; and the command is the same."""
    assert tools.layers[: len(image.layers)] == image.layers
    assert tools.config["Entrypoint"] == image.config["Entrypoint"]


def test_the_tools_have_nothing_of_the_server_s_once_more(image: Image, tools: Image) -> None:
    """But the list of parts, which has more of them."""
    again = {
        path
        for path, entry in tools.entries.items()
        if path.is_relative_to(HOME) and entry.member.isreg() and path in image.entries
        if entry.layer != image.entries[path].layer
    }
    assert again == {HOME / "sbom.cdx.json"}


@pytest.mark.parametrize("package", TOOLS)
def test_the_tools_have_what_statistics_and_reports_need(tools: Image, package: str) -> None:
    """And what installed it is gone again."""
    assert PACKAGES / package in tools.entries
    assert PACKAGES / "pip" not in tools.entries


def _git(*arguments: str) -> str:
    """Ask about the checkout that the images were built from."""
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")
