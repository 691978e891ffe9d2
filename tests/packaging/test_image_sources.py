"""What the image is made of: locked versions, and what is left out."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "k8s" / "image"
LOCKS = ("requirements.lock", "sbom.lock", "tools.lock")


def _locked(name: str) -> dict[str, Version]:
    """Read a lock's versions by name; each line of a version has its hashes in the next ones."""
    lines = (FOLDER / name).read_text(encoding="utf-8").splitlines()
    return {
        match[1]: Version(match[2])
        for line in lines
        if (match := re.match(r"([a-z0-9.-]+)==([^ ;\\]+)", line))
    }


def _slim() -> Callable[[list[str], Path], int]:
    """Load slim.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("slim", FOLDER / "slim.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    slim: Callable[[list[str], Path], int] = module.slim
    return slim


def test_the_image_has_versions_that_the_package_asks_for() -> None:
    """Every dependency is locked, at a version that pyproject.toml allows."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = _locked("requirements.lock")
    for requirement in map(Requirement, project["dependencies"]):
        assert locked[requirement.name] in requirement.specifier, requirement


def test_the_tools_have_the_server_s_versions_and_what_compares() -> None:
    """Their image is laid over the server's, where nothing may be installed twice."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    server, tools = _locked("requirements.lock"), _locked("tools.lock")
    assert server.items() <= tools.items()
    for requirement in map(Requirement, project["optional-dependencies"]["compare"]):
        assert tools[requirement.name] in requirement.specifier, requirement


@pytest.mark.parametrize("name", LOCKS)
def test_everything_locked_is_held_to_hashes(name: str) -> None:
    """And nothing names an index: whoever builds has their own."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    entries = re.split(r"\n(?=[a-z0-9])", text.strip())
    assert len(entries) > 5
    assert all("--hash=sha256:" in entry for entry in entries)
    assert "://" not in text


def test_what_is_left_out_is_removed_and_counted(tmp_path: Path) -> None:
    """Files, folders and, through `**`, what lies deeper; the rest stays."""
    for name in ("libs/gpu.so", "libs/cpu.so", "a/b/tests/t.py", "a/b/kept.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    assert _slim()(["libs/gpu.so", "a/**/tests", "?libs/npu.so"], tmp_path) == 10
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")}
    assert left == {"libs/cpu.so", "a/b/kept.py"}


def test_a_glob_that_matches_nothing_stops_the_build(tmp_path: Path) -> None:
    """A library that moved a file would grow the image unnoticed; all such globs are named."""
    (tmp_path / "kept.py").touch()
    with pytest.raises(SystemExit, match=r"(?s)moved\.so.*lost\.so"):
        _slim()(["kept.py", "moved.so", "lost.so"], tmp_path)


def test_the_base_is_fixed_by_its_digest() -> None:
    """A tag may be another image tomorrow."""
    text = (FOLDER / "Containerfile").read_text(encoding="utf-8")
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}", "server"}


def test_pip_makes_no_bytecode() -> None:
    """It would hold times, in every image that isn't built layer by layer."""
    text = (FOLDER / "Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    installs = re.findall(r"-m pip [^&]*\binstall\b[^&]*", text)
    assert len(installs) == len(LOCKS)
    assert all("--no-compile" in install for install in installs)
    assert all("--require-hashes" in install for install in installs)


def test_the_context_is_the_same_again(tmp_path: Path) -> None:
    """Whatever the checkout's folder, times and umask: else no image could be."""
    other = tmp_path / "checkout"
    for name in ("service", "k8s/image"):
        shutil.copytree(
            ROOT / name,
            other / name,
            copy_function=shutil.copy,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    for name in ("bentofile.yaml", "LICENSE"):
        shutil.copyfile(ROOT / name, other / name)
    for path in other.rglob("*"):
        path.chmod(path.stat().st_mode & ~0o077)
    assert _context(ROOT, tmp_path / "first", umask=0o022) == _context(
        other, tmp_path / "second", umask=0o077
    )


def _context(root: Path, folder: Path, *, umask: int) -> dict[str, tuple[int, str]]:
    """Make a context; returns each file's mode and digest."""
    subprocess.run(
        [root / "k8s/image/context.sh", folder],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=True,
        umask=umask,
    )
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mode,
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
        )
        for path in folder.rglob("*")
    }
