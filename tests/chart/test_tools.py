"""helm and kubectl come out of a package from PyPI, and are found."""

from __future__ import annotations

import io
import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support import tools


def wheel(folder: Path, **programs: bytes) -> Path:
    """Make a wheel as those of the layers: a zip with an npm package with a zip."""
    layer = io.BytesIO()
    with zipfile.ZipFile(layer, "w") as inner:
        for name, content in programs.items():
            inner.writestr(f"{name}/{name}", content)
    npm = io.BytesIO()
    with tarfile.open(fileobj=npm, mode="w:gz") as package:
        member = tarfile.TarInfo("package/lib/layer.zip")
        member.size = len(layer.getvalue())
        package.addfile(member, io.BytesIO(layer.getvalue()))
    path = folder / "layer-2.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as outer:
        outer.writestr("layer/_jsii/layer@2.0.0.jsii.tgz", npm.getvalue())
        outer.writestr("layer/__init__.py", "")
    return path


def test_programs_are_unpacked_and_can_run(tmp_path: Path) -> None:
    """Under the names they are asked for."""
    script = b"#!/bin/sh\necho said\n"
    tools.unpack(wheel(tmp_path, helm=script), {"helm3": "helm/helm"}, tmp_path)
    assert (tmp_path / "helm3").read_bytes() == script
    assert (tmp_path / "helm3").stat().st_mode & 0o777 == 0o755
    assert not list(tmp_path.glob("*.part"))


def test_they_are_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until another version is wanted."""
    fetched: list[str] = []

    def fetch(layer: tools.Layer, folder: Path) -> Path:
        fetched.append(layer.requirement)
        return wheel(folder, helm=b"", kubectl=b"")

    monkeypatch.setattr(tools, "fetch", fetch)
    tools.install(tmp_path)
    tools.install(tmp_path)
    assert fetched == [layer.requirement for layer in tools.LAYERS]
    assert {"helm", "helm3", "kubectl"} < {file.name for file in tmp_path.iterdir()}
    (tmp_path / tools.STAMP).write_text("of yesterday\n")
    tools.install(tmp_path)
    assert len(fetched) == 2 * len(tools.LAYERS)


def test_packages_are_pinned() -> None:
    """By version and digest."""
    for layer in tools.LAYERS:
        assert re.fullmatch(r"[a-z0-9-]+==\d+\.\d+\.\d+", layer.requirement)
        assert re.fullmatch(r"[0-9a-f]{64}", layer.sha256)


def test_a_program_beside_python_is_found_before_one_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What `make` put there is the version that is meant."""
    here, path = tmp_path / "here", tmp_path / "path"
    for folder in (here, path):
        folder.mkdir()
        (folder / "helm").write_text("#!/bin/sh\n")
        (folder / "helm").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(here / "python"))
    monkeypatch.setenv("PATH", str(path))
    assert tools.find("helm") == here / "helm"
    (here / "helm").unlink()
    assert tools.find("helm") == path / "helm"
    (path / "helm").unlink()
    with pytest.raises(tools.Missing, match=r"python -m tests\.support\.tools"):
        tools.find("helm")


def test_they_are_for_one_platform() -> None:
    """Elsewhere nothing is put before what is there."""
    assert tools.suitable("Linux", "x86_64")
    assert not tools.suitable("Darwin", "arm64")


def test_what_checkov_skips_has_a_reason() -> None:
    """A comment right before it, or before the ones it shares it with."""
    lines = (Path(__file__).parent / "checkov.yaml").read_text(encoding="utf-8").splitlines()
    skipped = lines[lines.index("skip-check:") + 1 :]
    assert skipped[0].strip().startswith("# ")
    assert all(re.fullmatch(r"  (# .*|- CKV2?_K8S_\d+)", line) for line in skipped)
