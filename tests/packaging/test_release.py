"""What a release says of itself, and what keeps a wrong tag from becoming one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import service
from tests.support.release import APP_VERSION, ROOT, WRITTEN, disagreements, main, section

CHANGES = """\
# Changelog

## [Unreleased]

- What comes.

## [1.2.0] - 2026-03-01

### Added

- Bread.

## [1.1.0] - 2026-01-01

- Butter.

[1.1.0]: https://example.com/1.1.0
"""
FILES = {
    "service/__init__.py": '"""Serving."""\n\n__version__ = "1.2.0"\n',
    "helm/timbre/Chart.yaml": 'name: timbre\nversion: 1.2.0\nappVersion: "1.2.0"\n',
    "k8s/training/kustomization.yaml": "images:\n  - name: timbre-training\n    newTag: 1.2.0\n",
    "CHANGELOG.md": CHANGES,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project in which everything says 1.2.0."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_the_notes_are_the_version_s_own_section(root: Path) -> None:
    """Without its heading, and without the sections around it."""
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    assert section(changelog, "1.2.0") == "### Added\n\n- Bread.\n"


def test_links_at_the_end_are_no_notes() -> None:
    """Those that the last section's heading refers to."""
    assert section(CHANGES, "1.1.0") == "- Butter.\n"


@pytest.mark.parametrize("version", ["1.0.0", "1x2.0", "1.2", "Unreleased."])
def test_a_version_without_a_section_has_no_notes(version: str) -> None:
    """And the sentence says which heading is missing."""
    with pytest.raises(ValueError, match=re.escape(f"`## [{version}] - YYYY-MM-DD`")):
        section(CHANGES, version)


def test_an_empty_section_has_no_notes() -> None:
    """A heading alone is what somebody forgot to fill."""
    with pytest.raises(ValueError, match=r"says nothing of 2\.0\.0"):
        section("## [2.0.0]\n\n## [1.0.0]\n\n- Bread.\n", "2.0.0")


@pytest.mark.parametrize("tag", ["1.2.0", "v1.2.0"])
def test_a_tag_that_everything_agrees_with_passes(
    root: Path, tag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its v or without."""
    assert main(["check", tag], root) == 0
    assert main(["notes", tag], root) == 0
    captured = capsys.readouterr()
    assert captured.out == "### Added\n\n- Bread.\n"
    assert captured.err == ""


@pytest.mark.parametrize("name", WRITTEN)
def test_a_file_with_another_version_is_named(
    root: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is published, and nothing else is."""
    text = FILES[name].replace("1.2.0", "1.1.9", 1)
    (root / name).write_text(text, encoding="utf-8")
    assert main(["check", "v1.2.0"], root) == 1
    assert capsys.readouterr().err == f"{name} has version 1.1.9, and the tag says 1.2.0.\n"


def test_a_chart_for_another_image_is_named(root: Path) -> None:
    """Its appVersion is the tag of the image that it installs."""
    chart = root / "helm/timbre/Chart.yaml"
    chart.write_text("version: 1.2.0\nappVersion: 1.1.0\n", encoding="utf-8")
    assert list(disagreements(root, "1.2.0")) == [
        "helm/timbre/Chart.yaml has version 1.1.0, and the tag says 1.2.0."
    ]


def test_notes_of_a_wrong_tag_are_not_printed(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every file disagrees, and the changelog has no such section."""
    assert main(["notes", "v9.9.9"], root) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == len(WRITTEN) + 2


def test_this_project_s_files_agree() -> None:
    """All but the changelog, which has a section only when a release is near."""
    wrong = [
        sentence
        for sentence in disagreements(ROOT, service.__version__)
        if not sentence.startswith("CHANGELOG.md")
    ]
    assert wrong == []
    chart = (ROOT / "helm/timbre/Chart.yaml").read_text(encoding="utf-8")
    assert re.search(APP_VERSION, chart, re.MULTILINE)
